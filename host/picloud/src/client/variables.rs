//! `picloud env`: an app's plain variables.

use clap::{Args, Subcommand};
use picloud_core::VariableName;
use serde::Deserialize;
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    api::{Api, Payload, segment},
    apps::short_time,
    error::ClientError,
    kv::cut,
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table};

/// What can be done with variables.
#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// Set a variable; for what nobody should see there is `picloud secret`
    Set(SetArgs),
    /// List an app's variables
    List(WholeAppArgs),
    /// Remove a variable
    Rm(RemoveArgs),
}

/// `picloud env set`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud env set REGION eu --app shop")]
pub(crate) struct SetArgs {
    /// The variable
    #[arg(value_parser = variable)]
    name: VariableName,
    /// Its value
    value: String,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud env rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The variable
    #[arg(value_parser = variable)]
    name: VariableName,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
    value: String,
    updated_at: String,
}

/// The widest value that a table shows, in characters.
const SHOWN_VALUE: usize = 60;

/// Runs one of the commands.
pub(super) fn run(command: EnvCommand) -> Result<(), ClientError> {
    match command {
        EnvCommand::Set(args) => set(&args),
        EnvCommand::List(args) => list(&args),
        EnvCommand::Rm(args) => remove(&args),
    }
}

fn set(args: &SetArgs) -> Result<(), ClientError> {
    let path = path(&args.app, &args.name)?;
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::PUT, &path, Payload::Text(&args.value))?;
    if args.common.json {
        return print_json(&answer);
    }
    terminal::note(format_args!("set {}", args.name));
    Ok(())
}

fn list(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/env")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch_whole(&api, &path)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["VARIABLE", "SET", "VALUE"]);
    for variable in items.read::<Variable>(&api)? {
        table.row([variable.name, short_time(&variable.updated_at), cut(&variable.value, SHOWN_VALUE)]);
    }
    table.print("no variables; `picloud env set NAME VALUE` sets one")?;
    Ok(())
}

fn remove(args: &RemoveArgs) -> Result<(), ClientError> {
    let path = path(&args.app, &args.name)?;
    let api = Api::connect(&args.common)?;
    api.call(Method::DELETE, &path, Payload::None)?;
    terminal::note(format_args!("removed {}", args.name));
    Ok(())
}

fn path(app: &AppArgs, name: &VariableName) -> Result<String, ClientError> {
    app.path(&format!("/env/{}", segment(name.as_str())))
}

fn variable(text: &str) -> Result<VariableName, String> {
    VariableName::new(text).map_err(|error| error.to_string())
}
