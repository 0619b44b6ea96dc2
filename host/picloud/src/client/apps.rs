//! `picloud app`: apps and their limits.

use clap::{Args, Subcommand};
use picloud_core::{AccessSettings, AppName, LimitField};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::{
    CommonArgs,
    access::warn_of_development,
    api::{Api, Payload, segment},
    app_name, app_path,
    error::ClientError,
    limits,
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table};

/// What can be done with apps.
#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Make an app
    Create(NamedArgs),
    /// List the apps
    List(CommonArgs),
    /// Show an app: its address and its limits
    Show(NamedArgs),
    /// Delete an app with its scripts, data and history
    Delete(DeleteArgs),
    /// Show or set the limits of an app
    Limits(LimitsArgs),
}

/// A command about one app.
#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// Its name: 1 to 63 of a-z, 0-9 and -
    #[arg(value_name = "APP", value_parser = app_name)]
    name: AppName,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud app delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Its name
    #[arg(value_name = "APP", value_parser = app_name)]
    name: AppName,
    /// The name again, because nothing brings the app back
    #[arg(long, value_name = "APP", value_parser = app_name)]
    confirm: AppName,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud app limits`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud app limits demo\n  picloud app limits demo --set memory_bytes=8MiB --set wall_ms=2s\n  \
                  picloud app limits demo --set fuel_per_day=50_000_000_000\n  \
                  picloud app limits demo --script report --set wall_ms=500 --set fuel=none"
)]
pub(crate) struct LimitsArgs {
    /// Its name
    #[arg(value_name = "APP", value_parser = app_name)]
    name: AppName,
    /// Those of this script: fuel, memory and time, at or under the app's
    #[arg(long, value_name = "SCRIPT")]
    script: Option<String>,
    /// A limit to set; may be given more than once. Sizes take KiB, MiB and GiB, times ms, s, min and h; `none` takes a
    /// budget away, and gives a script's limit back to its app
    #[arg(long, value_name = "NAME=VALUE", value_parser = limits::assignment)]
    set: Vec<(LimitField, Option<u64>)>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct App {
    name: String,
    url: String,
    created_at: String,
    limits: Map<String, Value>,
}

/// Runs one of the commands.
pub(super) fn run(command: AppCommand) -> Result<(), ClientError> {
    match command {
        AppCommand::Create(args) => create(&args),
        AppCommand::List(args) => list(&args),
        AppCommand::Show(args) => show(&args),
        AppCommand::Delete(args) => delete(&args),
        AppCommand::Limits(args) => show_or_set_limits(&args),
    }
}

fn create(args: &NamedArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::POST, "/api/v1/apps", Payload::Json(&json!({ "name": args.name })))?;
    if args.common.json {
        return print_json(&answer);
    }
    let app: App = api.read(&answer)?;
    terminal::line(format_args!("made the app {} at {}", app.name, app.url))?;
    Ok(())
}

fn list(args: &CommonArgs) -> Result<(), ClientError> {
    let api = Api::connect(args)?;
    let items = Items::fetch(&api, "/api/v1/apps", &[], None)?;
    if args.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["APP", "ADDRESS", "CREATED"]);
    for app in items.read::<App>(&api)? {
        table.row([app.name, app.url, short_time(&app.created_at)]);
    }
    table.print("no apps yet; `picloud app create NAME` makes one")?;
    Ok(())
}

fn show(args: &NamedArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let answer = api.get(&app_path(&args.name, ""))?;
    if args.common.json {
        return print_json(&answer);
    }
    let app: App = api.read(&answer)?;
    terminal::line(format_args!("{} at {}, made {}", app.name, app.url, short_time(&app.created_at)))?;
    print_limits(&app.limits)?;
    let access: AccessSettings = api.read(&api.get(&app_path(&args.name, "/access"))?)?;
    if access.development {
        warn_of_development();
    }
    Ok(())
}

fn delete(args: &DeleteArgs) -> Result<(), ClientError> {
    if args.confirm != args.name {
        let problem = format!("--confirm is {}, not {}; nothing was deleted", args.confirm, args.name);
        return Err(ClientError::Input(problem));
    }
    let api = Api::connect(&args.common)?;
    api.call(Method::DELETE, &app_path(&args.name, ""), Payload::None)?;
    terminal::note(format_args!("deleted the app {}", args.name));
    Ok(())
}

fn show_or_set_limits(args: &LimitsArgs) -> Result<(), ClientError> {
    let (path, change) = match &args.script {
        None => ("/limits".to_owned(), json_of(&limits::of_app(&args.set).map_err(ClientError::Input)?)?),
        Some(script) => (
            format!("/scripts/{}/limits", segment(script)),
            json_of(&limits::of_script(&args.set).map_err(ClientError::Input)?)?,
        ),
    };
    let path = app_path(&args.name, &path);
    let api = Api::connect(&args.common)?;
    let answer = if args.set.is_empty() {
        api.get(&path)?
    } else {
        api.call(Method::PUT, &path, Payload::Json(&change))?
    };
    if args.common.json {
        return print_json(&answer);
    }
    let limits: Map<String, Value> = api.read(&answer)?;
    if args.script.is_some() { print_script_limits(&limits) } else { print_limits(&limits) }
}

fn json_of(patch: &impl Serialize) -> Result<Value, ClientError> {
    serde_json::to_value(patch).map_err(|error| ClientError::Input(error.to_string()))
}

fn print_limits(limits: &Map<String, Value>) -> Result<(), ClientError> {
    let mut table = Table::new(&["LIMIT", "VALUE"]);
    for (name, value) in limits {
        table.row([name.clone(), limits::show(name, value.as_u64())]);
    }
    table.print("no limits")?;
    Ok(())
}

/// The limits in force for a script, and whose they are.
fn print_script_limits(limits: &Map<String, Value>) -> Result<(), ClientError> {
    let mut table = Table::new(&["LIMIT", "VALUE", "SET BY"]);
    for (name, value) in limits.iter().filter(|(_, value)| value.is_number()) {
        // Its own is not in force where the app's is lower.
        let is_own = limits["own"].get(name) == Some(value);
        let set_by = if is_own { "the script" } else { "the app" };
        table.row([name.clone(), limits::show(name, value.as_u64()), set_by.to_owned()]);
    }
    table.print("no limits")?;
    Ok(())
}

/// A time of the API without what people do not read: `2026-05-20T10:00:00.123Z` as `2026-05-20 10:00:00`.
pub(super) fn short_time(time: &str) -> String {
    time.split(['.', 'Z', '+']).next().unwrap_or_default().replacen('T', " ", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_to_seconds() {
        assert_eq!(short_time("2026-05-20T10:00:00.123Z"), "2026-05-20 10:00:00");
    }
}
