//! `picloud executions`: the history of invocations.

use clap::Args;
use picloud_core::{EgressRecord, ErrorCode};
use serde::Deserialize;

use super::{
    AppArgs, CommonArgs,
    api::{Api, segment},
    apps::short_time,
    error::{ClientError, LogLine, RunError},
    events,
    invoke::level,
    kv::cut,
    pages::Items,
    session::print_json,
};
use crate::{
    terminal::{self, Table, printable},
    units::{show_bytes, show_count, show_millis},
};

/// `picloud executions`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud executions --app demo --failed\n  picloud executions 0197f1c2-... --app demo --json   (one, with its logs)"
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
    /// What the invocation came of, and all that came of that
    #[arg(long, requires = "id")]
    tree: bool,
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
    error: Option<RunError>,
    duration_ms: f64,
    fuel_used: u64,
    host_calls: u64,
    memory_bytes: u64,
    logs_truncated: bool,
    event: Option<HandledEvent>,
    #[serde(default)]
    logs: Vec<LogLine>,
    #[serde(default)]
    egress: Vec<EgressRecord>,
}

#[derive(Debug, Deserialize)]
struct HandledEvent {
    id: String,
    trigger: Option<String>,
    attempt: u16,
}

/// The widest error message that the table shows, in characters; the invocation's own view has all of it.
const SHOWN_ERROR: usize = 80;

/// Shows one invocation, or lists many.
pub(super) fn run(args: &ExecutionsArgs) -> Result<(), ClientError> {
    match &args.id {
        Some(id) if args.tree => {
            events::tree(&args.common, &args.app.path(&format!("/executions/{}/tree", segment(id)))?)
        }
        Some(id) => show(args, id),
        None => list(args),
    }
}

fn list(args: &ExecutionsArgs) -> Result<(), ClientError> {
    let path = args.app.path("/executions")?;
    let api = Api::connect(&args.common)?;
    let outcome = args.failed.then(|| "failed".to_owned());
    let query = [("script", args.script.clone()), ("outcome", outcome)];
    let items = Items::fetch(&api, &path, &query, Some(args.limit.max(1)))?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["STARTED", "SCRIPT", "OUTCOME", "TIME", "FUEL", "MEMORY", "ID", "ERROR"]);
    for run in items.read::<Execution>(&api)? {
        let script = format!("{}@{}", run.script, run.version);
        let (time, fuel) = (show_millis(run.duration_ms), show_count(run.fuel_used));
        let memory = show_bytes(run.memory_bytes);
        let error = run.error.map(|error| cut(&error.message, SHOWN_ERROR)).unwrap_or_default();
        table.row([short_time(&run.started_at), script, run.outcome, time, fuel, memory, run.id, error]);
    }
    table.print("no invocations yet")?;
    Ok(())
}

fn show(args: &ExecutionsArgs, id: &str) -> Result<(), ClientError> {
    let path = args.app.path(&format!("/executions/{}", segment(id)))?;
    let api = Api::connect(&args.common)?;
    let answer = api.get(&path)?;
    if args.common.json {
        return print_json(&answer);
    }
    let run: Execution = api.read(&answer)?;
    let status = run.status.map(|status| format!(", status {status}")).unwrap_or_default();
    terminal::line(format_args!(
        "{}@{}, {}{status}",
        printable(&run.script),
        run.version,
        printable(&run.kind)
    ))?;
    if let Some(event) = &run.event {
        let trigger = event.trigger.as_ref().map(|trigger| format!(" of the trigger {trigger}"));
        let (id, attempt, trigger) = (&event.id, event.attempt, trigger.unwrap_or_default());
        terminal::line(format_args!(
            "event       {}{}, attempt {attempt}",
            printable(id),
            printable(&trigger)
        ))?;
    }
    terminal::line(format_args!("started     {}", short_time(&run.started_at)))?;
    terminal::line(format_args!("duration    {}", show_millis(run.duration_ms)))?;
    terminal::line(format_args!("fuel        {}", show_count(run.fuel_used)))?;
    terminal::line(format_args!("memory      {}", show_bytes(run.memory_bytes)))?;
    terminal::line(format_args!("host calls  {}", show_count(run.host_calls)))?;
    if let Some(error) = &run.error {
        terminal::line(format_args!(
            "error       {}: {}",
            printable(&error.code),
            printable(&error.message)
        ))?;
        if let Some(excerpt) = error.place.excerpt() {
            terminal::line(excerpt)?;
        }
    }
    for call in &run.egress {
        terminal::line(format_args!("called      {}", printable(&told(call))))?;
    }
    for line in &run.logs {
        terminal::line(format_args!("{} {}", level(&line.level), printable(&line.message)))?;
    }
    if run.logs_truncated {
        terminal::note("the log is cut here: its budget (the limit log_bytes) was used up");
    }
    Ok(())
}

/// A call in one line: `GET https://api.example.com/users 200, 2 KiB in 81 ms`.
fn told(call: &EgressRecord) -> String {
    let place = match call.scheme {
        None => "a URL that cannot be read".to_owned(),
        Some(scheme) => {
            let port =
                if call.port == scheme.default_port() { String::new() } else { format!(":{}", call.port) };
            let host = if call.host.contains(':') { format!("[{}]", call.host) } else { call.host.clone() };
            format!("{scheme}://{host}{port}{}", call.path)
        }
    };
    let status = call.status.map(|status| status.to_string());
    let outcome: Vec<&str> = status.as_deref().into_iter().chain(call.error.map(ErrorCode::as_str)).collect();
    let sent =
        if call.bytes_sent > 0 { format!("{} sent, ", show_bytes(call.bytes_sent)) } else { String::new() };
    let received = show_bytes(call.bytes_received);
    let time = show_millis(call.duration_ms as f64);
    format!("{} {place} {}, {sent}{received} received in {time}", call.method, outcome.join(" "))
}

#[cfg(test)]
mod tests {
    use picloud_core::EgressScheme;

    use super::*;

    #[test]
    fn a_call_is_told_in_a_line() {
        let call = EgressRecord {
            method: "POST".into(),
            scheme: Some(EgressScheme::Http),
            host: "::1".into(),
            port: 8080,
            path: "/x".into(),
            status: Some(200),
            error: Some(ErrorCode::ResponseTooLarge),
            bytes_sent: 2048,
            bytes_received: 1024,
            duration_ms: 12,
        };
        let line = told(&call);
        assert!(line.starts_with("POST http://[::1]:8080/x 200 response_too_large, "), "{line}");
        let unread =
            EgressRecord { method: "GET".into(), error: Some(ErrorCode::Invalid), ..EgressRecord::empty() };
        assert!(told(&unread).starts_with("GET a URL that cannot be read invalid, "), "{}", told(&unread));
    }
}
