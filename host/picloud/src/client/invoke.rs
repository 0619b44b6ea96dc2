//! `picloud invoke`: runs a script once.

use std::{fs, io::Read};

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs,
    api::{Api, Payload},
    error::{ClientError, LogLine},
    files::file_error,
    scripts::script_path,
    session::print_json,
};
use crate::terminal::{self, DIM, ERROR, WARNING, printable};

/// `picloud invoke`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud invoke hello '{\"name\":\"bob\"}' --app demo\n  picloud invoke hello @event.json\n  echo '[1,2]' | picloud invoke sum -"
)]
pub(crate) struct InvokeArgs {
    /// The script
    script: String,
    /// The event as JSON, @FILE to read it from a file, or - for standard input
    #[arg(value_name = "JSON", default_value = "null")]
    event: String,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Answer {
    result: Box<RawValue>,
    logs: Vec<LogLine>,
    fuel_used: u64,
    duration_ms: f64,
}

/// Runs the script: the result on standard output, logs and costs on standard error.
pub(super) fn run(args: &InvokeArgs) -> Result<(), ClientError> {
    let path = script_path(&args.app, &args.script, "/invoke")?;
    let event = read_json(&args.event)?;
    let api = Api::connect(&args.common)?;
    // The event goes as it was written, so that its numbers keep every digit.
    let answer = api.call(Method::POST, &path, Payload::JsonText(&format!("{{\"event\":{event}}}")));
    let text = match answer {
        Ok(text) => text,
        Err(error) => {
            // As JSON, the problem has them itself.
            if let ClientError::Problem(problem) = &error
                && !args.common.json
            {
                print_logs(&problem.logs);
            }
            return Err(error);
        }
    };
    if args.common.json {
        return print_json(&text);
    }
    let answer: Answer = api.read(&text)?;
    print_logs(&answer.logs);
    terminal::note(DIM.paint(format_args!("{:.2} ms, {} fuel", answer.duration_ms, answer.fuel_used)));
    print_value(&answer.result)
}

/// Prints a value for people: a text without its quotes, anything else as JSON.
pub(super) fn print_value(value: &RawValue) -> Result<(), ClientError> {
    match serde_json::from_str::<String>(value.get()) {
        Ok(text) => terminal::foreign(&text)?,
        Err(_) => terminal::foreign(value.get())?,
    }
    Ok(())
}

fn print_logs(logs: &[LogLine]) {
    for line in logs {
        terminal::note(format_args!("{} {}", level(&line.level), printable(&line.message)));
    }
}

/// A level, five characters wide.
pub(super) fn level(level: &str) -> String {
    let shown = format!("{:<5}", printable(level));
    match level {
        "error" => ERROR.paint(shown),
        "warn" => WARNING.paint(shown),
        _ => DIM.paint(shown),
    }
}

/// JSON of an argument, of a file (`@FILE`), or of standard input (`-`).
pub(super) fn read_json(argument: &str) -> Result<Box<RawValue>, ClientError> {
    let (text, source) = match argument.strip_prefix('@') {
        _ if argument == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            (text, "standard input")
        }
        Some(path) => (fs::read_to_string(path).map_err(file_error(path.as_ref()))?, path),
        None => (argument.to_owned(), "the argument"),
    };
    RawValue::from_string(text).map_err(|error| {
        ClientError::Input(format!(
            "{source} is not JSON: {error}; a text needs quotes of its own: '\"text\"'"
        ))
    })
}
