//! Scripts and their versions.

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    api::{Api, Payload, segment, with_query},
    apps::short_time,
    error::ClientError,
    limits,
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table};

/// `picloud show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The script
    script: String,
    /// Number of a version [default: the active one]
    #[arg(long, value_name = "NUMBER")]
    version: Option<u32>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The script
    script: String,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud versions`.
#[derive(Debug, Args)]
pub(crate) struct VersionsArgs {
    /// The script
    script: String,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud rollback`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud rollback hello --to 3\n  picloud rollback hello          (to the version before)"
)]
pub(crate) struct RollbackArgs {
    /// The script
    script: String,
    /// Number of the version to go back to [default: the one before the active one]
    #[arg(long, value_name = "NUMBER")]
    to: Option<i32>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Script {
    name: String,
    version: i32,
    url: Option<String>,
    handlers: Vec<String>,
    size: u64,
    limits: Limits,
    updated_at: String,
}

/// The limits of a script; here those that it sets for itself.
#[derive(Debug, Deserialize)]
struct Limits {
    own: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Version {
    #[serde(rename = "version")]
    number: i32,
    active: bool,
    sha256: String,
    size: u64,
    imports: Vec<Import>,
    created_at: String,
}

/// A library, as a version was built with it.
#[derive(Debug, Deserialize)]
struct Import {
    name: String,
    version: i32,
}

#[derive(Debug, Deserialize)]
struct RolledBack {
    #[serde(flatten)]
    script: Script,
    unchanged: bool,
}

#[derive(Debug, Deserialize)]
struct Source {
    source: String,
}

/// Lists the scripts of an app.
pub(super) fn list(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/scripts")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch(&api, &path, &[], None)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["SCRIPT", "VERSION", "BYTES", "UPDATED", "LIMITS", "ADDRESS"]);
    for script in items.read::<Script>(&api)? {
        let (version, size) = (script.version.to_string(), script.size.to_string());
        let address = address(script.url.as_deref(), &script.handlers);
        let own = script.limits.own.iter();
        let own: Vec<_> =
            own.map(|(name, value)| format!("{name}={}", limits::show(name, Some(*value)))).collect();
        let own = if own.is_empty() { "-".to_owned() } else { own.join(" ") };
        table.row([script.name, version, size, short_time(&script.updated_at), own, address]);
    }
    table.print("no scripts yet; `picloud deploy FILE.rhai` uploads one")?;
    Ok(())
}

/// Prints the source of a script.
pub(super) fn show(args: &ShowArgs) -> Result<(), ClientError> {
    let version = args.version.map(|version| version.to_string());
    let path = with_query(&script_path(&args.app, &args.script, "")?, &[("version", version)]);
    let api = Api::connect(&args.common)?;
    let answer = api.get(&path)?;
    if args.common.json {
        return print_json(&answer);
    }
    let source: Source = api.read(&answer)?;
    terminal::foreign(source.source.trim_end_matches('\n'))?;
    Ok(())
}

/// Deletes a script.
pub(super) fn delete(args: &DeleteArgs) -> Result<(), ClientError> {
    let path = script_path(&args.app, &args.script, "")?;
    let api = Api::connect(&args.common)?;
    api.call(Method::DELETE, &path, Payload::None)?;
    terminal::note(format_args!("deleted the script {}", terminal::printable(&args.script)));
    Ok(())
}

/// Lists the versions of a script, the newest first.
pub(super) fn versions(args: &VersionsArgs) -> Result<(), ClientError> {
    let path = script_path(&args.app, &args.script, "/versions")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch(&api, &path, &[], None)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["VERSION", "STATE", "BYTES", "UPLOADED", "SHA-256", "LIBRARIES"]);
    for version in items.read::<Version>(&api)? {
        let state = if version.active { "active" } else { "" };
        let hash: String = version.sha256.chars().take(12).collect();
        let (number, size) = (version.number.to_string(), version.size.to_string());
        let libraries = version.imports.iter().map(|import| format!("{}@{}", import.name, import.version));
        let libraries = libraries.collect::<Vec<_>>().join(", ");
        table.row([number, state.to_owned(), size, short_time(&version.created_at), hash, libraries]);
    }
    table.print("no versions")?;
    Ok(())
}

/// Makes an earlier version the active one.
pub(super) fn rollback(args: &RollbackArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let to = match args.to {
        Some(version) => version,
        None => version_before(&api, args)?,
    };
    let path = script_path(&args.app, &args.script, "/rollback")?;
    let answer = api.call(Method::POST, &path, Payload::Json(&json!({ "version": to })))?;
    if args.common.json {
        return print_json(&answer);
    }
    let RolledBack { script, unchanged } = api.read(&answer)?;
    let (name, address) =
        (terminal::printable(&script.name), address(script.url.as_deref(), &script.handlers));
    if unchanged {
        terminal::line(format_args!("version {} of {name} is the active one already", script.version))?;
    } else {
        terminal::line(format_args!("{name} is at version {} again: {address}", script.version))?;
    }
    Ok(())
}

/// Where a script answers; of one that answers no requests, what it is.
pub(super) fn address(url: Option<&str>, handlers: &[String]) -> String {
    match url {
        Some(url) => terminal::printable(url),
        None if handlers.is_empty() => "library".to_owned(),
        None => terminal::printable(&handlers.join(", ")),
    }
}

fn version_before(api: &Api, args: &RollbackArgs) -> Result<i32, ClientError> {
    let items = Items::fetch(api, &script_path(&args.app, &args.script, "/versions")?, &[], None)?;
    let versions: Vec<Version> = items.read(api)?;
    let active = versions.iter().find(|version| version.active).map(|version| version.number);
    let earlier = versions.iter().map(|version| version.number).filter(|version| Some(*version) < active);
    earlier.max().ok_or_else(|| {
        let active = active.map(|number| format!("; it is at version {number}")).unwrap_or_default();
        ClientError::NotFound(format!("script \"{}\" has no earlier version{active}", args.script))
    })
}

/// The path of something of a script in the API.
pub(super) fn script_path(app: &AppArgs, script: &str, rest: &str) -> Result<String, ClientError> {
    app.path(&format!("/scripts/{}{rest}", segment(script)))
}
