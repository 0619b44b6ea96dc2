//! Where the program's own log goes, and how it looks.

use std::{env, io::IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::{
    config::{LogArgs, LogFormat},
    exit::{Exit, Failure},
};

/// Starts logging to standard error.
pub(super) fn start(args: &LogArgs) -> Result<(), Failure> {
    let wanted = env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let filter = match wanted {
        Some(text) => EnvFilter::try_new(&text).map_err(|error| {
            let allowed = "allowed is a level (error, warn, info, debug, trace) or targets with levels, such as \
                           info,picloud=debug";
            Failure::new(Exit::Usage, format_args!("RUST_LOG is {text:?}: {error}; {allowed}"))
        })?,
        // The database's notices about what exists already are no news.
        None => EnvFilter::new("info,sqlx::postgres::notice=warn"),
    };
    let colours =
        std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        // It would complain of a closed standard error on standard error, and panic because that is closed.
        .log_internal_errors(false);
    let started = match args.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::new(Exit::CannotStart, format_args!("logging does not start: {error}")))
}
