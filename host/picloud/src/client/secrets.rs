//! `picloud secret`: an app's secrets. A value is never an argument: arguments are seen by other users of a machine and
//! kept by shells.

use std::{
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use picloud_core::{SecretName, SecretValue};
use serde::Deserialize;
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    api::{Api, Payload, segment},
    apps::short_time,
    error::ClientError,
    files::{Links, file_error, read_text},
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table};

/// What can be done with secrets from anywhere.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Set a secret: the value is asked for, or read from a file or standard input
    Set(SetArgs),
    /// List an app's secrets and which scripts declare them; no command shows a value
    List(WholeAppArgs),
    /// Remove a secret
    Rm(RemoveArgs),
}

/// `picloud secret set`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud secret set stripe\n  pass show stripe | picloud secret set stripe --stdin\n  picloud secret set service-account --file key.json"
)]
pub(crate) struct SetArgs {
    /// The secret
    #[arg(value_parser = secret)]
    name: SecretName,
    /// Read the value from standard input, without the line end behind it
    #[arg(long, conflicts_with = "file")]
    stdin: bool,
    /// Read the value from a file, all of it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud secret rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The secret
    #[arg(value_parser = secret)]
    name: SecretName,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Secret {
    name: String,
    updated_at: String,
    used_by: Vec<String>,
}

/// Runs one of the commands.
pub(super) fn run(command: SecretCommand) -> Result<(), ClientError> {
    match command {
        SecretCommand::Set(args) => set(&args),
        SecretCommand::List(args) => list(&args),
        SecretCommand::Rm(args) => remove(&args),
    }
}

fn set(args: &SetArgs) -> Result<(), ClientError> {
    let path = path(&args.app, &args.name)?;
    let value = match &args.file {
        Some(file) => of_file(file)?,
        None if args.stdin => of_stdin()?,
        None => of_prompt(&args.name)?,
    };
    let value =
        SecretValue::new(value.into_bytes()).map_err(|error| ClientError::Input(error.to_string()))?;
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::PUT, &path, Payload::Text(value.expose()))?;
    if args.common.json {
        return print_json(&answer);
    }
    let secret: Secret = api.read(&answer)?;
    let users = match secret.used_by.as_slice() {
        [] => "no script declares it yet".to_owned(),
        scripts => format!("read by {}", terminal::printable(&scripts.join(", "))),
    };
    terminal::note(format_args!("set {}; {users}", args.name));
    Ok(())
}

fn of_file(file: &Path) -> Result<String, ClientError> {
    let missing = || file_error(file)(io::ErrorKind::NotFound.into());
    read_text(file, SecretValue::MAX_BYTES as u64, Links::Follow)?.ok_or_else(missing)
}

pub(super) fn of_stdin() -> Result<String, ClientError> {
    let mut bytes = Vec::new();
    // With its line end a value may be a little longer than a secret; whether it is too long is told later.
    io::stdin().take(SecretValue::MAX_BYTES as u64 + 3).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ClientError::Input(format!("standard input is not UTF-8 text (byte {at})"))
    })?;
    let without = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    Ok(without.map(str::to_owned).unwrap_or(text))
}

fn of_prompt(name: &SecretName) -> Result<String, ClientError> {
    if !io::stdin().is_terminal() {
        let problem =
            "the value is asked for at a terminal; --stdin reads it from standard input, --file from a file";
        return Err(ClientError::Input(problem.into()));
    }
    Ok(rpassword::prompt_password(format!("Value of {name} (not shown): "))?)
}

fn list(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/secrets")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch_whole(&api, &path)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["SECRET", "SET", "READ BY"]);
    for secret in items.read::<Secret>(&api)? {
        table.row([secret.name, short_time(&secret.updated_at), secret.used_by.join(", ")]);
    }
    table.print("no secrets; `picloud secret set NAME` sets one")?;
    Ok(())
}

fn remove(args: &RemoveArgs) -> Result<(), ClientError> {
    let path = path(&args.app, &args.name)?;
    let api = Api::connect(&args.common)?;
    api.call(Method::DELETE, &path, Payload::None)?;
    terminal::note(format_args!("removed {}", args.name));
    Ok(())
}

fn path(app: &AppArgs, name: &SecretName) -> Result<String, ClientError> {
    app.path(&format!("/secrets/{}", segment(name.as_str())))
}

fn secret(text: &str) -> Result<SecretName, String> {
    SecretName::new(text).map_err(|error| error.to_string())
}
