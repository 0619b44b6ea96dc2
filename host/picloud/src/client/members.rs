//! `picloud member`: who has which role in an app.

use clap::{Args, Subcommand};
use picloud_core::AppRole;
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

/// What can be done with members.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// List an app's members
    List(WholeAppArgs),
    /// Give a principal a role in an app: viewer, editor or `app_admin`
    Set(SetArgs),
    /// Take a principal out of an app
    Remove(RemoveArgs),
}

/// `picloud member set`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud member set ada editor --app shop")]
pub(crate) struct SetArgs {
    /// Its name or id
    #[arg(value_name = "PRINCIPAL")]
    principal: String,
    /// viewer, editor or `app_admin`
    #[arg(value_name = "ROLE")]
    role: AppRole,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud member remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Its name or id
    #[arg(value_name = "PRINCIPAL")]
    principal: String,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Member {
    name: String,
    role: String,
    created_at: String,
}

/// Runs one of the commands.
pub(super) fn run(command: MemberCommand) -> Result<(), ClientError> {
    match command {
        MemberCommand::List(args) => list(&args),
        MemberCommand::Set(args) => set(&args),
        MemberCommand::Remove(args) => remove(&args),
    }
}

fn list(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/members")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch(&api, &path, &[], None)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["NAME", "ROLE", "SINCE"]);
    for member in items.read::<Member>(&api)? {
        table.row([member.name, member.role, short_time(&member.created_at)]);
    }
    table.print("no members; owners may do everything in the app without being one")?;
    Ok(())
}

fn set(args: &SetArgs) -> Result<(), ClientError> {
    let path = args.app.path(&format!("/members/{}", segment(&args.principal)))?;
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::PUT, &path, Payload::Json(&json!({ "role": args.role })))?;
    if args.common.json {
        return print_json(&answer);
    }
    let who = printable(&args.principal);
    terminal::note(format_args!("{who} is {} of {} now", args.role, args.app.name()?));
    Ok(())
}

fn remove(args: &RemoveArgs) -> Result<(), ClientError> {
    let path = args.app.path(&format!("/members/{}", segment(&args.principal)))?;
    Api::connect(&args.common)?.call(Method::DELETE, &path, Payload::None)?;
    terminal::note(format_args!("took {} out of {}", printable(&args.principal), args.app.name()?));
    Ok(())
}
