//! `picloud principal`: users and services; and `picloud password`.

use std::io::{IsTerminal, Read};

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::{
    CommonArgs,
    api::{Api, Payload, segment},
    apps::short_time,
    error::ClientError,
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table, printable};

const PRINCIPALS: &str = "/api/v1/principals";

/// What can be done with principals.
#[derive(Debug, Subcommand)]
pub(crate) enum PrincipalCommand {
    /// Make a user or a service
    Create(CreateArgs),
    /// List users and services
    List(CommonArgs),
    /// Refuse all its tokens and end its sessions, until it is enabled again
    Disable(NamedArgs),
    /// Let a disabled principal in again
    Enable(NamedArgs),
    /// Delete a principal with its tokens, sessions and memberships
    Delete(NamedArgs),
    /// Let a user sign in by way of the issuer: whoever comes first with this verified address
    Link(LinkArgs),
    /// List the accounts of the issuer that a user is linked to
    Links(NamedArgs),
    /// Remove a link, and end the user's sessions
    Unlink(UnlinkArgs),
}

/// What can be done with passwords.
#[derive(Debug, Subcommand)]
pub(crate) enum PasswordCommand {
    /// Set a user's password; asks for it, or takes it from standard input
    Set(PasswordArgs),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    User,
    Service,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Member,
    Owner,
}

/// `picloud principal create`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud principal create ada\n  picloud principal create ci --kind service"
)]
pub(crate) struct CreateArgs {
    /// Its name: 1 to 64 of a-z, 0-9, _, ., @ and -
    #[arg(value_name = "NAME")]
    name: String,
    /// A person, who can have a password, or a program, which has tokens only
    #[arg(long, value_enum, default_value = "user")]
    kind: Kind,
    /// An owner may do everything in every app
    #[arg(long, value_enum, default_value = "member")]
    role: Role,
    #[command(flatten)]
    common: CommonArgs,
}

/// A command about one principal.
#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// Its name or id
    #[arg(value_name = "PRINCIPAL")]
    principal: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud principal link`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud principal link ada --email ada@example.org")]
pub(crate) struct LinkArgs {
    /// Its name or id
    #[arg(value_name = "PRINCIPAL")]
    principal: String,
    /// The e-mail address that the issuer has verified
    #[arg(long, value_name = "ADDRESS")]
    email: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud principal unlink`.
#[derive(Debug, Args)]
pub(crate) struct UnlinkArgs {
    /// Its name or id
    #[arg(value_name = "PRINCIPAL")]
    principal: String,
    /// The id of the link, as `picloud principal links` shows it
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud password set`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud password set\n  picloud password set ada < password.txt")]
pub(crate) struct PasswordArgs {
    /// Whose [default: that of whoever calls]
    #[arg(value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// Ask for the current password as well, which a user needs who is no owner. From standard input it is the first
    /// of two lines
    #[arg(long)]
    current: bool,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Principal {
    id: String,
    name: String,
    kind: String,
    role: String,
    disabled_at: Option<String>,
    created_at: String,
}

#[derive(Debug, Deserialize)]
struct Identity {
    id: String,
    email: String,
    issuer: Option<String>,
    subject: Option<String>,
    created_at: String,
}

/// Runs one of the commands.
pub(super) fn run(command: PrincipalCommand) -> Result<(), ClientError> {
    match command {
        PrincipalCommand::Create(args) => create(&args),
        PrincipalCommand::List(args) => list(&args),
        PrincipalCommand::Disable(args) => set_disabled(&args, true),
        PrincipalCommand::Enable(args) => set_disabled(&args, false),
        PrincipalCommand::Delete(args) => delete(&args),
        PrincipalCommand::Link(args) => link(&args),
        PrincipalCommand::Links(args) => links(&args),
        PrincipalCommand::Unlink(args) => unlink(&args),
    }
}

fn create(args: &CreateArgs) -> Result<(), ClientError> {
    let kind = match args.kind {
        Kind::User => "user",
        Kind::Service => "service",
    };
    let role = match args.role {
        Role::Member => "member",
        Role::Owner => "owner",
    };
    let api = Api::connect(&args.common)?;
    let request = json!({ "name": args.name, "kind": kind, "role": role });
    let answer = api.call(Method::POST, PRINCIPALS, Payload::Json(&request))?;
    if args.common.json {
        return print_json(&answer);
    }
    let made: Principal = api.read(&answer)?;
    let name = printable(&made.name);
    terminal::line(format_args!(
        "made the {} {name} ({}), id {}",
        made.kind,
        made.role,
        printable(&made.id)
    ))?;
    let next = match args.kind {
        Kind::User => format!("`picloud password set {name}` lets it sign in"),
        Kind::Service => {
            format!("`picloud token create NAME --principal {name} --scope SCOPE` makes a token for it")
        }
    };
    terminal::note(next);
    Ok(())
}

fn list(args: &CommonArgs) -> Result<(), ClientError> {
    let api = Api::connect(args)?;
    let items = Items::fetch(&api, PRINCIPALS, &[], None)?;
    if args.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["NAME", "KIND", "ROLE", "STATE", "MADE", "ID"]);
    for found in items.read::<Principal>(&api)? {
        let state = if found.disabled_at.is_some() { "disabled" } else { "enabled" };
        table.row([
            found.name,
            found.kind,
            found.role,
            state.into(),
            short_time(&found.created_at),
            found.id,
        ]);
    }
    table.print("no principals")?;
    Ok(())
}

fn set_disabled(args: &NamedArgs, disabled: bool) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let request = json!({ "disabled": disabled });
    let answer = api.call(Method::PATCH, &path(&args.principal), Payload::Json(&request))?;
    if args.common.json {
        return print_json(&answer);
    }
    let state = if disabled { "disabled" } else { "enabled" };
    terminal::note(format_args!("{state} {}", printable(&args.principal)));
    Ok(())
}

fn delete(args: &NamedArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    api.call(Method::DELETE, &path(&args.principal), Payload::None)?;
    terminal::note(format_args!("deleted {}", printable(&args.principal)));
    Ok(())
}

fn link(args: &LinkArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let request = json!({ "email": args.email });
    let answer = api.call(Method::POST, &identities(&args.principal), Payload::Json(&request))?;
    if args.common.json {
        return print_json(&answer);
    }
    let made: Identity = api.read(&answer)?;
    terminal::note(format_args!(
        "linked {} to whoever signs in first as {}",
        printable(&args.principal),
        printable(&made.email)
    ));
    Ok(())
}

fn links(args: &NamedArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let items = Items::fetch(&api, &identities(&args.principal), &[], None)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["EMAIL", "ISSUER", "SUBJECT", "MADE", "ID"]);
    for found in items.read::<Identity>(&api)? {
        let waits = || "-".to_owned();
        table.row([
            found.email,
            found.issuer.unwrap_or_else(waits),
            found.subject.unwrap_or_else(waits),
            short_time(&found.created_at),
            found.id,
        ]);
    }
    table.print("no links")?;
    Ok(())
}

fn unlink(args: &UnlinkArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let path = format!("{}/{}", identities(&args.principal), segment(&args.id));
    api.call(Method::DELETE, &path, Payload::None)?;
    let principal = printable(&args.principal);
    terminal::note(format_args!("removed a link of {principal}; its sessions have ended"));
    Ok(())
}

fn identities(principal: &str) -> String {
    format!("{}/identities", path(principal))
}

fn path(principal: &str) -> String {
    format!("{PRINCIPALS}/{}", segment(principal))
}

/// Sets a password.
pub(super) fn password(command: PasswordCommand) -> Result<(), ClientError> {
    let PasswordCommand::Set(args) = command;
    let api = Api::connect(&args.common)?;
    let principal = match &args.principal {
        Some(principal) => principal.clone(),
        None => {
            let me: Value = api.read(&api.get("/api/v1/whoami")?)?;
            me["name"].as_str().unwrap_or_default().to_owned()
        }
    };
    let mut request = json!({});
    if std::io::stdin().is_terminal() {
        if args.current {
            request["current_password"] = ask("Current password: ")?.into();
        }
        let password = ask(&format!("New password for {}: ", printable(&principal)))?;
        if ask("The same again: ")? != password {
            return Err(ClientError::Input("the two passwords differ; nothing was changed".into()));
        }
        request["password"] = password.into();
    } else {
        let text = read_input()?;
        let mut lines = text.lines();
        if args.current {
            request["current_password"] = lines.next().unwrap_or_default().into();
        }
        request["password"] = lines.next().unwrap_or_default().into();
    }
    api.call(Method::PUT, &format!("{}/password", path(&principal)), Payload::Json(&request))?;
    terminal::note(format_args!("set the password of {}; its sessions have ended", printable(&principal)));
    Ok(())
}

/// Asks on the terminal, without showing what is typed.
pub(super) fn ask(prompt: &str) -> Result<String, ClientError> {
    rpassword::prompt_password(prompt)
        .map_err(|error| ClientError::Input(format!("no password was read: {error}")))
}

/// A secret from standard input.
pub(super) fn read_input() -> Result<String, ClientError> {
    let mut text = String::new();
    let read = std::io::stdin().take(8192).read_to_string(&mut text);
    read.map_err(|error| ClientError::Input(format!("standard input: {error}")))?;
    Ok(text)
}
