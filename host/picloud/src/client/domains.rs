//! `picloud domain`: the host names of an app.

use clap::{Args, Subcommand};
use picloud_core::DomainName;
use serde::Deserialize;
use serde_json::json;
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    api::{Api, Payload, segment},
    apps::short_time,
    error::ClientError,
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table, printable};

/// What can be done with domains.
#[derive(Debug, Subcommand)]
pub(crate) enum DomainCommand {
    /// List an app's host names
    List(WholeAppArgs),
    /// Claim a host name for an app, and show what proves it; its DNS and TLS are yours
    Add(AddArgs),
    /// Look for the proof of a host name in DNS, and serve it from then on
    Verify(VerifyArgs),
    /// Take a host name from an app
    Remove(NamedArgs),
}

/// A command about one host name.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud domain remove shop.example.org --app shop")]
pub(crate) struct NamedArgs {
    /// The host name, without a port
    #[arg(value_name = "DOMAIN", value_parser = domain)]
    domain: DomainName,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud domain add`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  picloud domain add shop.example.org --app shop
  picloud domain add lamp.home.arpa --app lamp --trust")]
pub(crate) struct AddArgs {
    /// Serve it at once without a proof; owners of the installation may say so
    #[arg(long)]
    trust: bool,
    #[command(flatten)]
    named: NamedArgs,
}

/// `picloud domain verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud domain verify shop.example.org --app shop")]
pub(crate) struct VerifyArgs {
    /// Do without a proof; owners of the installation may say so
    #[arg(long)]
    trust: bool,
    #[command(flatten)]
    named: NamedArgs,
}

#[derive(Debug, Deserialize)]
struct Domain {
    id: String,
    #[serde(rename = "domain")]
    name: String,
    verified_at: Option<String>,
    verified_by: Option<String>,
    proof: Option<Proof>,
    created_at: String,
}

/// A TXT record.
#[derive(Debug, Deserialize)]
struct Proof {
    record: String,
    value: String,
}

/// Runs one of the commands.
pub(super) fn run(command: DomainCommand) -> Result<(), ClientError> {
    match command {
        DomainCommand::List(args) => list(&args),
        DomainCommand::Add(args) => add(&args),
        DomainCommand::Verify(args) => verify(&args),
        DomainCommand::Remove(args) => remove(&args),
    }
}

fn list(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/domains")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch_whole(&api, &path)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["DOMAIN", "ADDED", "SERVED SINCE", "PROVED BY"]);
    for domain in items.read::<Domain>(&api)? {
        let since = domain.verified_at.as_deref().map_or_else(|| "-".into(), short_time);
        let by = domain.verified_by.unwrap_or_else(|| "not yet".into());
        table.row([domain.name, short_time(&domain.created_at), since, by]);
    }
    table.print("no domains; the app answers under its own name")?;
    Ok(())
}

fn add(args: &AddArgs) -> Result<(), ClientError> {
    let NamedArgs { domain, app, common } = &args.named;
    let path = app.path("/domains")?;
    let api = Api::connect(common)?;
    let mut answer = api.call(Method::POST, &path, Payload::Json(&json!({ "domain": domain })))?;
    if args.trust {
        let added: Domain = api.read(&answer)?;
        let vouched = vouch(&api, &path, &added.id);
        if vouched.is_err() {
            // What was asked for was to serve it: a claim alone is not left behind.
            api.call(Method::DELETE, &format!("{path}/{}", segment(&added.id)), Payload::None)?;
        }
        answer = vouched?;
    }
    if common.json {
        return print_json(&answer);
    }
    let domain: Domain = api.read(&answer)?;
    let app = app.name()?;
    match &domain.proof {
        None => terminal::line(format_args!("{} belongs to {app} now", printable(&domain.name)))?,
        Some(Proof { record, value }) => {
            terminal::line(format_args!(
                "{} is served for {app} when it is proved. Add this record to its DNS:\n\n  \
                 {} TXT \"{}\"\n\nThen run: picloud domain verify {} --app {app}",
                printable(&domain.name),
                printable(record),
                printable(value),
                printable(&domain.name),
            ))?;
        }
    }
    Ok(())
}

fn verify(args: &VerifyArgs) -> Result<(), ClientError> {
    let NamedArgs { domain, app, common } = &args.named;
    let path = app.path("/domains")?;
    let api = Api::connect(common)?;
    let found = find(&api, &path, &args.named)?;
    let answer = if args.trust {
        vouch(&api, &path, &found.id)?
    } else {
        let path = format!("{path}/{}/verify", segment(&found.id));
        api.call(Method::POST, &path, Payload::Json(&json!({ "method": "dns" })))?
    };
    if common.json {
        return print_json(&answer);
    }
    terminal::line(format_args!("{domain} belongs to {} now", app.name()?))?;
    Ok(())
}

fn vouch(api: &Api, path: &str, id: &str) -> Result<String, ClientError> {
    let path = format!("{path}/{}/verify", segment(id));
    api.call(Method::POST, &path, Payload::Json(&json!({ "method": "operator" })))
}

/// Finds the domain's id and removes that: what others change in between cannot make it another one.
fn remove(args: &NamedArgs) -> Result<(), ClientError> {
    let path = args.app.path("/domains")?;
    let api = Api::connect(&args.common)?;
    let found = find(&api, &path, args)?;
    api.call(Method::DELETE, &format!("{path}/{}", segment(&found.id)), Payload::None)?;
    terminal::note(format_args!("took {} from {}", args.domain, args.app.name()?));
    Ok(())
}

fn find(api: &Api, path: &str, args: &NamedArgs) -> Result<Domain, ClientError> {
    let domains: Vec<Domain> = Items::fetch_whole(api, path)?.read(api)?;
    let found = domains.into_iter().find(|domain| domain.name == args.domain.as_str());
    let app = args.app.name()?;
    found.ok_or_else(|| ClientError::NotFound(format!("no domain \"{}\" in app \"{app}\"", args.domain)))
}

fn domain(text: &str) -> Result<DomainName, String> {
    DomainName::new(text.trim().to_ascii_lowercase()).map_err(|error| error.to_string())
}
