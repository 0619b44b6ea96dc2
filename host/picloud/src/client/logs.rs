//! `picloud logs`: what scripts logged, and how they failed.

use std::{io::BufRead, thread, time::Duration};

use clap::Args;
use serde::Deserialize;

use super::{
    AppArgs, CommonArgs,
    api::{Api, with_query},
    apps::short_time,
    error::{ClientError, RunError},
    invoke::level,
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, DIM, printable};

/// `picloud logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud logs --app demo\n  picloud logs -f --script hello")]
pub(crate) struct LogsArgs {
    /// Go on with what is logged from now on, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only those of this script
    #[arg(long, value_name = "NAME")]
    script: Option<String>,
    /// At most this many of the lines that are there already
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Line {
    position: i64,
    script: String,
    level: String,
    message: String,
    error: Option<RunError>,
    at: String,
}

impl Line {
    /// What the script wrote, or why it failed and where.
    fn text(&self) -> String {
        let Some(error) = &self.error else { return printable(&self.message) };
        let place = error.place.short().map(|place| format!(" ({place})")).unwrap_or_default();
        format!("{}: {}{place}", printable(&error.code), printable(&error.message))
    }
}

/// Prints the last lines, the oldest first, and with `-f` those that come.
pub(super) fn run(args: &LogsArgs) -> Result<(), ClientError> {
    let path = args.app.path("/logs")?;
    let api = Api::connect(&args.common)?;
    if args.follow {
        return follow(&api, &path, args);
    }
    let query = [("script", args.script.clone())];
    let items = Items::fetch(&api, &path, &query, Some(args.limit.max(1)))?;
    if args.common.json {
        return print_json(&items.json());
    }
    let lines: Vec<Line> = items.read(&api)?;
    if lines.is_empty() {
        terminal::note("nothing logged yet");
    }
    lines.iter().rev().try_for_each(print)
}

/// How long to wait before following again where the server ended the stream.
const PAUSE: Duration = Duration::from_secs(1);

/// The lines that a follower may begin with, as the API has it.
const MOST_PAST_LINES: usize = 200;

/// Follows until Ctrl-C: the server ends a stream now and then, and is asked again from the last line on.
fn follow(api: &Api, path: &str, args: &LogsArgs) -> Result<(), ClientError> {
    let mut last = None;
    loop {
        let past = last.is_none().then(|| args.limit.clamp(1, MOST_PAST_LINES).to_string());
        let query = [
            ("follow", Some("true".to_owned())),
            ("script", args.script.clone()),
            ("limit", past),
            ("after", last.map(|position: i64| position.to_string())),
        ];
        read_events(api, &with_query(path, &query), |data| {
            let line: Line = api.read(data)?;
            last = Some(line.position);
            if args.common.json { print_json(data) } else { print(&line) }
        })?;
        thread::sleep(PAUSE);
    }
}

/// Server-sent events: the `data:` lines of an event are one JSON document; other lines keep it alive.
fn read_events(
    api: &Api,
    path: &str,
    mut show: impl FnMut(&str) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let mut data = String::new();
    for line in api.stream(path)?.lines() {
        // A stream that breaks off is one that ended: the next one says what is wrong, if something is.
        let Ok(line) = line else { return Ok(()) };
        if let Some(text) = line.strip_prefix("data:") {
            data.push_str(text.strip_prefix(' ').unwrap_or(text));
        } else if line.is_empty() && !data.is_empty() {
            show(&data)?;
            data.clear();
        }
    }
    Ok(())
}

fn print(line: &Line) -> Result<(), ClientError> {
    let (time, script) = (short_time(&line.at), printable(&line.script));
    let place = DIM.paint(format_args!("{time} {script}"));
    terminal::line(format_args!("{place} {} {}", level(&line.level), line.text()))?;
    Ok(())
}
