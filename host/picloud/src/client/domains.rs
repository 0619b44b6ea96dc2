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
    /// Give a host name to an app; its DNS and TLS are yours
    Add(NamedArgs),
    /// Take a host name from an app
    Remove(NamedArgs),
}

/// A command about one host name.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud domain add shop.example.org --app shop\n  picloud domain remove shop.example.org --app shop"
)]
pub(crate) struct NamedArgs {
    /// The host name, without a port
    #[arg(value_name = "DOMAIN", value_parser = domain)]
    domain: DomainName,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Domain {
    id: String,
    #[serde(rename = "domain")]
    name: String,
    created_at: String,
}

/// Runs one of the commands.
pub(super) fn run(command: DomainCommand) -> Result<(), ClientError> {
    match command {
        DomainCommand::List(args) => list(&args),
        DomainCommand::Add(args) => add(&args),
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
    let mut table = Table::new(&["DOMAIN", "ADDED"]);
    for domain in items.read::<Domain>(&api)? {
        table.row([domain.name, short_time(&domain.created_at)]);
    }
    table.print("no domains; the app answers under its own name")?;
    Ok(())
}

fn add(args: &NamedArgs) -> Result<(), ClientError> {
    let path = args.app.path("/domains")?;
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::POST, &path, Payload::Json(&json!({ "domain": args.domain })))?;
    if args.common.json {
        return print_json(&answer);
    }
    let domain: Domain = api.read(&answer)?;
    terminal::line(format_args!("{} belongs to {} now", printable(&domain.name), args.app.name()?))?;
    Ok(())
}

/// Finds the domain's id and removes that: what others change in between cannot make it another one.
fn remove(args: &NamedArgs) -> Result<(), ClientError> {
    let path = args.app.path("/domains")?;
    let api = Api::connect(&args.common)?;
    let domains: Vec<Domain> = Items::fetch_whole(&api, &path)?.read(&api)?;
    let Some(found) = domains.iter().find(|domain| domain.name == args.domain.as_str()) else {
        let problem = format!("no domain \"{}\" in app \"{}\"", args.domain, args.app.name()?);
        return Err(ClientError::NotFound(problem));
    };
    api.call(Method::DELETE, &format!("{path}/{}", segment(&found.id)), Payload::None)?;
    terminal::note(format_args!("took {} from {}", args.domain, args.app.name()?));
    Ok(())
}

fn domain(text: &str) -> Result<DomainName, String> {
    DomainName::new(text.trim().to_ascii_lowercase()).map_err(|error| error.to_string())
}
