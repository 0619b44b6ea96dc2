//! The command line: subcommands, and how a wrong one is answered.

use std::{env, ffi::OsString};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    config::{self, ServeArgs},
    exit::{EXIT_CODES, Exit, Failure},
    terminal,
};

/// PiCloud: upload a Rhai script, get an endpoint.
#[derive(Debug, Parser)]
#[command(name = "picloud", version, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server: manager, orchestrator and executor in one process
    Serve(Box<ServeArgs>),
}

/// Runs what the command line asks for.
pub(crate) fn run() -> Result<(), Failure> {
    let cli = parse(env::args_os().collect())?;
    match cli.command {
        Command::Serve(args) => args.check(),
    }
}

fn parse(arguments: Vec<OsString>) -> Result<Cli, Failure> {
    let command = config::without_empty_variables(Cli::command());
    let matches = command.clone().try_get_matches_from(arguments);
    match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(cli),
        Err(error) if !error.use_stderr() => {
            terminal::line(error.render().ansi()).map_err(|_| Failure::new(Exit::Failed, ""))?;
            Err(Failure::new(Exit::Failed, ""))
        }
        Err(error) => Err(Failure::new(Exit::Usage, config::refusal(&command, &error).unwrap_or_default())),
    }
}
