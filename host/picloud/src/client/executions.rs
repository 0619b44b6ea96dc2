//! `picloud executions`: the history of invocations.

use clap::Args;
use serde::Deserialize;

use super::{
    AppArgs, CommonArgs,
    api::{Api, segment},
    apps::short_time,
    error::{ClientError, LogLine},
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table};

/// `picloud executions`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud executions --app demo --failed\n  picloud executions 0197f1c2-... --json   (one of them, with its logs)"
)]
pub(crate) struct ExecutionsArgs {
    /// Id of one invocation, to show all that is known of it
    id: Option<String>,
    /// Only those of this script
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    script: Option<String>,
    /// Only those that failed
    #[arg(long, conflicts_with = "id")]
    failed: bool,
    /// At most this many, the newest first
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Execution {
    id: String,
    script: String,
    version: i32,
    kind: String,
    started_at: String,
    status: Option<u16>,
    outcome: String,
    error: Option<ExecutionError>,
    duration_ms: f64,
    fuel_used: u64,
    #[serde(default)]
    logs: Vec<LogLine>,
}

#[derive(Debug, Deserialize)]
struct ExecutionError {
    code: String,
    message: String,
}

/// Shows one invocation, or lists many.
pub(super) fn run(args: &ExecutionsArgs) -> Result<(), ClientError> {
    match &args.id {
        Some(id) => show(args, id),
        None => list(args),
    }
}

fn list(args: &ExecutionsArgs) -> Result<(), ClientError> {
    let path = args.app.path("/executions")?;
    let api = Api::connect(&args.common.connection)?;
    let outcome = args.failed.then(|| "failed".to_owned());
    let query = [("script", args.script.clone()), ("outcome", outcome)];
    let items = Items::fetch(&api, &path, &query, Some(args.limit.max(1)))?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["STARTED", "SCRIPT", "OUTCOME", "MS", "FUEL", "ID"]);
    for run in items.read::<Execution>(&api)? {
        let script = format!("{}@{}", run.script, run.version);
        let (time, fuel) = (format!("{:.2}", run.duration_ms), run.fuel_used.to_string());
        table.row([short_time(&run.started_at), script, run.outcome, time, fuel, run.id]);
    }
    table.print("no invocations yet")?;
    Ok(())
}

fn show(args: &ExecutionsArgs, id: &str) -> Result<(), ClientError> {
    let path = args.app.path(&format!("/executions/{}", segment(id)))?;
    let api = Api::connect(&args.common.connection)?;
    let answer = api.get(&path)?;
    if args.common.json {
        return print_json(&answer);
    }
    let run: Execution = api.read(&answer)?;
    let status = run.status.map(|status| format!(", status {status}")).unwrap_or_default();
    terminal::line(format_args!("{}@{}, {}{status}", run.script, run.version, run.kind))?;
    terminal::line(format_args!("started   {}", short_time(&run.started_at)))?;
    terminal::line(format_args!("duration  {:.2} ms", run.duration_ms))?;
    terminal::line(format_args!("fuel      {}", run.fuel_used))?;
    if let Some(error) = &run.error {
        terminal::line(format_args!("error     {}: {}", error.code, terminal::printable(&error.message)))?;
    }
    for line in &run.logs {
        let (level, text) = (super::invoke::level(&line.level), terminal::printable(&line.message));
        terminal::line(format_args!("{level} {text}"))?;
    }
    Ok(())
}
