//! The command line: subcommands, and how a wrong one is answered.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;

use crate::{
    client::{self, ClientCommand, SecretCommand},
    config::{self, DatabaseArgs, LogArgs, ServeArgs},
    doctor::{self, DoctorArgs},
    exit::{EXIT_CODES, ErrorFormat, Exit, Failure},
    serve::{self, PrecompileArgs, RotateKeyArgs, TokenCommand},
    terminal,
};

/// PiCloud: upload a Rhai script, get an endpoint
#[derive(Debug, Parser)]
#[command(name = "picloud", version, after_help = EXIT_CODES, max_term_width = 110, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server: manager, orchestrator and executor in one process
    #[command(after_help = SERVE_HELP)]
    Serve(Box<ServeArgs>),
    /// Bring the database's schema up to date, and end
    Migrate(Box<MigrateArgs>),
    /// Show what this machine gives the server, and what is missing
    Doctor(Box<DoctorArgs>),
    /// Make, list and revoke tokens; reset the first owner's
    #[command(subcommand)]
    Token(Box<TokenCommand>),
    /// Set, list and remove an app's secrets, and rotate the key that they are encrypted with
    #[command(subcommand)]
    Secret(Box<SecretsCommand>),
    #[command(flatten)]
    Client(Box<ClientCommand>),
    /// Print a script that completes this command line in a shell
    #[command(after_help = "Examples:\n  picloud completions bash > /etc/bash_completion.d/picloud")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Compile the guest; the server starts this as a child process
    #[command(hide = true)]
    PrecompileGuest(PrecompileArgs),
}

/// `picloud secret`.
#[derive(Debug, Subcommand)]
enum SecretsCommand {
    #[command(flatten)]
    Client(SecretCommand),
    /// Encrypt all secrets with a new key, on the machine of the server
    RotateKey(RotateKeyArgs),
}

/// `picloud migrate`.
#[derive(Debug, clap::Args)]
struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// The part of `serve --help` that is about settings as such.
const SERVE_HELP: &str = "\
Each setting is a flag and an environment variable; the flag wins. A variable that is set but empty counts as \
unset. A wrong value is refused at start (exit code 2), and an unknown PICLOUD_* variable is warned about. \
Sizes may be written with KiB, MiB or GiB.

SIGTERM and Ctrl-C drain: no new requests, running ones end, what is pending is written. A second one ends the \
server at once (exit code 130); nothing that was acknowledged is lost either way.";

/// Runs what the command line asks for. Errors are returned; `errors` says how clap's own are shown.
pub(crate) fn run(arguments: Vec<OsString>, errors: ErrorFormat) -> Result<(), Failure> {
    let Some(cli) = parse(arguments, errors)? else { return Ok(()) };
    match cli.command {
        Command::Serve(args) => {
            warn_of_unknown_variables();
            serve::serve(*args)
        }
        Command::Migrate(args) => {
            warn_of_unknown_variables();
            serve::migrate(&args.database, &args.log)
        }
        Command::Doctor(args) => doctor::run(&args),
        Command::Token(command) => serve::token(*command),
        Command::Secret(command) => match *command {
            SecretsCommand::Client(command) => client::secret(command),
            SecretsCommand::RotateKey(args) => serve::rotate_key(&args),
        },
        Command::Client(command) => client::run(*command),
        Command::Completions { shell } => completions(shell),
        Command::PrecompileGuest(args) => serve::precompile(&args),
    }
}

/// `None` where the command line asked for help or the version, which has been shown.
fn parse(arguments: Vec<OsString>, errors: ErrorFormat) -> Result<Option<Cli>, Failure> {
    let command = config::without_empty_variables(Cli::command());
    let matches = command.clone().try_get_matches_from(arguments);
    let error = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    if !error.use_stderr() {
        return shown(error.print()).map(|()| None);
    }
    // A ceiling's own error names its variable, and is no matter of the command line's form.
    let ceiling = (error.kind() == ErrorKind::Io).then(|| error.to_string());
    let ceiling = ceiling.map(|text| text.trim_start_matches("error: ").trim().to_owned());
    match ceiling.or_else(|| config::refusal(&command, &error)) {
        Some(message) => Err(Failure::new(Exit::Usage, message)),
        None if errors == ErrorFormat::Json => {
            let text = error.to_string();
            Err(Failure::new(Exit::Usage, text.trim_start_matches("error: ").trim_end()))
        }
        None => {
            shown(error.print())?;
            Err(Failure::new(Exit::Usage, ""))
        }
    }
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "picloud", &mut script);
    shown(io::stdout().write_all(&script))
}

fn warn_of_unknown_variables() {
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for warning in config::unknown_variables(&Cli::command(), names) {
        terminal::warning(warning);
    }
}

/// A reader that has gone is no failure.
fn shown(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(Exit::Failed, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// clap wraps to the terminal's width. A text that has line ends of its own would be broken twice.
    #[test]
    fn help_is_wrapped_once() {
        let mut open = vec![Cli::command()];
        while let Some(command) = open.pop() {
            open.extend(command.get_subcommands().cloned());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = help.lines().collect();
            for (index, line) in lines.iter().enumerate() {
                let is_paragraph =
                    !line.starts_with(' ') && lines.get(index + 1).is_none_or(|next| next.is_empty());
                let fits = line.chars().count() < 80;
                assert!(fits || is_paragraph, "{} --help: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_is_documented() {
        let documented = include_str!("../../../docs/CLI.md");
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let row = documented.lines().find(|line| {
                let rest = line.split(&format!("`picloud {}", command.get_name())).nth(1);
                line.starts_with('|') && rest.is_some_and(|rest| rest.starts_with([' ', '`']))
            });
            let row = row.unwrap_or_else(|| panic!("docs/CLI.md has no {}", command.get_name()));
            for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
                let name = below.get_name();
                let in_row = documented.lines().any(|line| {
                    (line == row || line.contains(&format!("`picloud {} {name}`", command.get_name())))
                        && (line.contains(&format!(" {name}`")) || line.contains(&format!("`{name}`")))
                });
                assert!(in_row, "docs/CLI.md has no {} {name}", command.get_name());
            }
        }
    }

    #[test]
    fn every_setting_of_the_server_names_its_variable() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        let unnamed = serve.get_arguments().filter(|arg| arg.get_env().is_none());
        let unnamed: Vec<_> = unnamed.map(|arg| arg.get_id().as_str()).filter(|id| *id != "help").collect();
        assert_eq!(unnamed, <[&str; 0]>::default());
    }
}
