//! The command-line client of the management API.
//!
//! What people read goes to standard output as text or a table, and errors go to standard error. With `--json`
//! both are JSON, the server's own where it is the server that speaks. No command keeps state but `login`.

mod access;
mod api;
mod app_files;
mod apps;
mod audit;
mod dead_letters;
mod deploy;
mod domains;
mod egress;
mod error;
mod events;
mod excerpt;
mod executions;
mod files;
mod grants;
mod invoke;
mod kv;
mod limits;
mod login;
mod logs;
mod members;
mod pages;
mod principals;
mod project;
mod queues;
mod routes;
mod scripts;
mod secrets;
mod session;
mod static_folder;
mod suggest;
pub(crate) mod tokens;
mod triggers;
mod usage;
mod uses;
mod variables;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use clap::{Args, Subcommand};
use picloud_core::AppName;

use self::{
    api::segment,
    error::ClientError,
    project::{AppFolder, Start},
};
pub(crate) use self::{
    secrets::SecretCommand,
    session::{Readiness, readiness},
};
use crate::{
    config::{DataDirArgs, parse_address, reachable},
    exit::Failure,
};

/// Which server, and by which right.
#[expect(clippy::doc_markdown, reason = "the text of --help")]
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Address of the server's control listener [default: that of PICLOUD_ADMIN_ADDR, else
    /// http://127.0.0.1:8420]
    #[arg(long, env = "PICLOUD_URL", value_name = "URL", value_parser = server_url)]
    url: Option<String>,

    /// The server's own setting, so that one environment serves both
    #[arg(long, env = "PICLOUD_ADMIN_ADDR", hide = true, value_parser = parse_address)]
    admin_addr: Option<SocketAddr>,

    /// Token [default: saved by `picloud login`, else the owner's in the data folder of a server on this
    /// machine]
    #[arg(long, env = "PICLOUD_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,

    #[command(flatten)]
    pub(crate) data: DataDirArgs,
}

/// What most commands take.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonArgs {
    /// Print the server's JSON instead of text for people, errors as one object on standard error
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// The app that a command is about.
#[derive(Clone, Debug, Args)]
pub(crate) struct AppArgs {
    /// The app [default: `name` in the picloud.toml of this folder or one above it]
    #[arg(long, short, env = "PICLOUD_APP", value_name = "NAME", value_parser = app_name)]
    app: Option<AppName>,
}

/// What a command takes that is about all of an app.
#[derive(Debug, Args)]
pub(crate) struct WholeAppArgs {
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// The client's commands.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Sign in with a password, or save a token for a server after trying it
    Login(session::LoginArgs),
    /// Forget the saved token of a server; one that login made is revoked
    Logout(CommonArgs),
    /// Show who the token stands for
    Whoami(CommonArgs),
    /// Show the state of the server
    Status(CommonArgs),
    /// Make, list, show and delete apps, and set their limits
    #[command(subcommand)]
    App(apps::AppCommand),
    /// Upload a script or a folder of scripts; makes the app if it is missing
    Deploy(deploy::DeployArgs),
    /// List an app's scripts
    List(WholeAppArgs),
    /// Print the source of a script
    Show(scripts::ShowArgs),
    /// Delete a script
    Delete(scripts::DeleteArgs),
    /// List the versions of a script
    Versions(scripts::VersionsArgs),
    /// Make an earlier version of a script the active one
    Rollback(scripts::RollbackArgs),
    /// List, add and remove routes: which script answers for which paths, and for whom
    #[command(subcommand)]
    Route(routes::RouteCommand),
    /// List, add, change and remove triggers: which script runs when something happens
    #[command(subcommand)]
    Trigger(Box<triggers::TriggerCommand>),
    /// Send messages to queues, list, set, pause and resume them
    #[command(subcommand)]
    Queue(queues::QueueCommand),
    /// Publish on a topic, for every trigger whose pattern matches
    Publish(queues::PublishArgs),
    /// List, show, replay and ignore dead letters: events that were given up
    #[command(subcommand)]
    Dlq(dead_letters::DlqCommand),
    /// List and show events, what came of them, and take back those that wait
    #[command(subcommand)]
    Event(events::EventCommand),
    /// Show and set who may call an app's endpoints: origins, addresses, rates
    #[command(subcommand)]
    Access(Box<access::AccessCommand>),
    /// Show and set what an app's scripts may use before they are deployed
    #[command(subcommand)]
    Grant(grants::GrantCommand),
    /// List, allow and deny what an app's scripts may call over HTTP
    #[command(subcommand)]
    Egress(egress::EgressCommand),
    /// List, add and remove the host names of an app
    #[command(subcommand)]
    Domain(domains::DomainCommand),
    /// Make, list, disable, enable and delete users and services
    #[command(subcommand)]
    Principal(principals::PrincipalCommand),
    /// List, set and remove the members of an app
    #[command(subcommand)]
    Member(members::MemberCommand),
    /// Set the password of a user
    #[command(subcommand)]
    Password(principals::PasswordCommand),
    /// Show who did what
    Audit(audit::AuditArgs),
    /// Run a script once and print its result
    Invoke(invoke::InvokeArgs),
    /// Show what scripts logged and how they failed, with -f as they do so
    Logs(logs::LogsArgs),
    /// List the history of invocations
    Executions(executions::ExecutionsArgs),
    /// Show what apps used, and which are near a limit
    Usage(usage::UsageArgs),
    /// Read and write an app's key-value data
    #[command(subcommand)]
    Kv(kv::KvCommand),
    /// Read and change an app's files
    #[command(subcommand)]
    Files(app_files::FilesCommand),
    /// Set, list and remove an app's plain variables
    #[command(subcommand)]
    Env(variables::EnvCommand),
}

/// Runs a client command.
pub(crate) fn run(command: ClientCommand) -> Result<(), Failure> {
    let outcome = match command {
        ClientCommand::Login(args) => session::login(args),
        ClientCommand::Logout(args) => session::logout(&args),
        ClientCommand::Whoami(args) => session::whoami(&args),
        ClientCommand::Status(args) => session::status(&args),
        ClientCommand::App(command) => apps::run(command),
        ClientCommand::Deploy(args) => deploy::run(&args),
        ClientCommand::List(args) => scripts::list(&args),
        ClientCommand::Show(args) => scripts::show(&args),
        ClientCommand::Delete(args) => scripts::delete(&args),
        ClientCommand::Versions(args) => scripts::versions(&args),
        ClientCommand::Rollback(args) => scripts::rollback(&args),
        ClientCommand::Route(command) => routes::run(command),
        ClientCommand::Trigger(command) => triggers::run(*command),
        ClientCommand::Queue(command) => queues::run(command),
        ClientCommand::Publish(args) => queues::publish(&args),
        ClientCommand::Dlq(command) => dead_letters::run(command),
        ClientCommand::Event(command) => events::run(command),
        ClientCommand::Access(command) => access::run(*command),
        ClientCommand::Grant(command) => grants::run(command),
        ClientCommand::Egress(command) => egress::run(command),
        ClientCommand::Domain(command) => domains::run(command),
        ClientCommand::Principal(command) => principals::run(command),
        ClientCommand::Member(command) => members::run(command),
        ClientCommand::Password(command) => principals::password(command),
        ClientCommand::Audit(args) => audit::run(&args),
        ClientCommand::Invoke(args) => invoke::run(&args),
        ClientCommand::Logs(args) => logs::run(&args),
        ClientCommand::Executions(args) => executions::run(&args),
        ClientCommand::Usage(args) => usage::run(&args),
        ClientCommand::Kv(command) => kv::run(command),
        ClientCommand::Files(command) => app_files::run(command),
        ClientCommand::Env(command) => variables::run(command),
    };
    ended(outcome)
}

/// Runs a command about secrets.
pub(crate) fn secret(command: SecretCommand) -> Result<(), Failure> {
    ended(secrets::run(command))
}

/// How a client command has ended.
pub(crate) fn ended(outcome: Result<(), ClientError>) -> Result<(), Failure> {
    match outcome {
        // A reader that has gone (`picloud logs | head`) has had what it wanted.
        Err(ClientError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::from),
    }
}

impl ConnectionArgs {
    /// The server's address, without a slash at its end.
    pub(crate) fn url(&self) -> String {
        if let Some(url) = &self.url {
            return url.trim_end_matches('/').to_owned();
        }
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 8420));
        format!("http://{}", reachable(self.admin_addr.unwrap_or(default)))
    }
}

impl AppArgs {
    /// The app: of the flag or variable, else of the app's folder that the command runs in.
    fn name(&self) -> Result<AppName, ClientError> {
        if let Some(name) = &self.app {
            return Ok(name.clone());
        }
        let folder = AppFolder::find(Path::new("."), Start::Around)?;
        folder.and_then(|folder| folder.manifest.name).ok_or_else(|| {
            ClientError::Input(
                "which app? name it with --app or PICLOUD_APP, or run this in a folder whose picloud.toml has \
                 a name"
                    .into(),
            )
        })
    }

    /// The path of something of the app in the API.
    fn path(&self, rest: &str) -> Result<String, ClientError> {
        Ok(app_path(&self.name()?, rest))
    }
}

fn app_path(app: &AppName, rest: &str) -> String {
    format!("/api/v1/apps/{}{rest}", segment(app.as_str()))
}

fn app_name(text: &str) -> Result<AppName, String> {
    AppName::new(text).map_err(|error| error.to_string())
}

fn server_url(text: &str) -> Result<String, String> {
    let url = text.trim();
    let uri: Option<ureq::http::Uri> = url.parse().ok();
    let known =
        |uri: &ureq::http::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none();
    if uri.as_ref().is_some_and(known) {
        Ok(url.to_owned())
    } else {
        Err("allowed is http://HOST:PORT or https://HOST, such as http://127.0.0.1:8420".to_owned())
    }
}
