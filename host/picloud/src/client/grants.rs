//! `picloud grant`: what an app's scripts may use, where it wants to be asked first.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    api::{Api, Payload},
    error::ClientError,
    session::print_json,
    uses::{Uses, sentences},
};
use crate::terminal::{self, Table, WARNING, printable};

/// What can be done with grants.
#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// Show what an app's scripts may use
    List(WholeAppArgs),
    /// Refuse versions that use what is not granted; what the active versions use is granted then
    Strict(WholeAppArgs),
    /// Refuse no version any more for what it uses
    Open(WholeAppArgs),
    /// Grant something
    Add(GrantArgs),
    /// Take a grant back; a version that is active and uses it runs on
    Remove(GrantArgs),
}

/// A grant.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  picloud grant add secrets stripe --app shop
  picloud grant add kv --any --app shop")]
pub(crate) struct GrantArgs {
    /// What is used: kv, secrets, env, scripts, hosts, files, queues, topics or email
    kind: String,
    /// The names of it
    #[arg(required_unless_present = "any")]
    names: Vec<String>,
    /// All names, also those that are made while a script runs
    #[arg(long)]
    any: bool,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Grants {
    strict: bool,
    uses: Uses,
    beyond: BTreeMap<String, Uses>,
}

/// Runs one of the commands.
pub(super) fn run(command: GrantCommand) -> Result<(), ClientError> {
    match command {
        GrantCommand::List(args) => list(&args),
        GrantCommand::Strict(args) => set_strict(&args, true),
        GrantCommand::Open(args) => set_strict(&args, false),
        GrantCommand::Add(args) => change(&args, true),
        GrantCommand::Remove(args) => change(&args, false),
    }
}

fn list(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/grants")?;
    let api = Api::connect(&args.common)?;
    let answer = api.get(&path)?;
    print(&api, &args.common, &answer)
}

fn set_strict(args: &WholeAppArgs, strict: bool) -> Result<(), ClientError> {
    let path = args.app.path("/grants")?;
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::PUT, &path, Payload::Json(&json!({ "strict": strict })))?;
    print(&api, &args.common, &answer)
}

fn change(args: &GrantArgs, is_granted: bool) -> Result<(), ClientError> {
    let path = args.app.path("/grants")?;
    let api = Api::connect(&args.common)?;
    let Grants { strict, mut uses, .. } = api.read(&api.get(&path)?)?;
    let used = uses.entry(args.kind.clone()).or_default();
    used.names.retain(|name| !args.names.contains(name));
    if is_granted {
        used.names.extend(args.names.iter().cloned());
    }
    if args.any {
        used.any = is_granted;
    }
    let answer = api.call(Method::PUT, &path, Payload::Json(&json!({ "strict": strict, "uses": uses })))?;
    print(&api, &args.common, &answer)
}

fn print(api: &Api, common: &CommonArgs, answer: &str) -> Result<(), ClientError> {
    if common.json {
        return print_json(answer);
    }
    let Grants { strict, uses, beyond } = api.read(answer)?;
    if !strict {
        terminal::note("scripts may use anything; `picloud grant strict` asks for grants");
    }
    let mut table = Table::new(&["KIND", "GRANTED"]);
    for (kind, used) in &uses {
        let any = used.any.then(|| "any".to_owned());
        for granted in used.names.iter().cloned().chain(any) {
            table.row([kind.clone(), granted]);
        }
    }
    table.print("nothing is granted")?;
    for (script, uses) in &beyond {
        for sentence in sentences(uses) {
            let (script, sentence) = (printable(script), printable(&sentence));
            terminal::note(format_args!(
                "{} {script} {sentence}, which is not granted; it runs until it is deployed anew",
                WARNING.paint("note:")
            ));
        }
    }
    Ok(())
}
