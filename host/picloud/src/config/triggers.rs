//! What holds for all triggers, as flags, made from the domain's own settings.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};
use picloud_core::TriggerConfig;

/// A variable, its flag, what its value is, and what it means.
type Setting = (&'static str, &'static str, &'static str, &'static str);

const SETTINGS: [Setting; 7] = [
    (
        "PICLOUD_MAX_TRIGGER_DEPTH",
        "max-trigger-depth",
        "COUNT",
        "Deepest event of a chain of events that come of each other; one that is deeper is given up [default: 8]",
    ),
    (
        "PICLOUD_TRIGGER_RETRY_MAX_ATTEMPTS",
        "trigger-retry-max-attempts",
        "COUNT",
        "How often an event is tried until it is given up, where its trigger says nothing else [default: 5]",
    ),
    (
        "PICLOUD_TRIGGER_RETRY_BASE_DELAY_MS",
        "trigger-retry-base-delay-ms",
        "MILLISECONDS",
        "Wait after the first failure, doubled with each further one [default: 1000]",
    ),
    (
        "PICLOUD_TRIGGER_RETRY_MAX_DELAY_MS",
        "trigger-retry-max-delay-ms",
        "MILLISECONDS",
        "Longest wait between two attempts [default: 300000]",
    ),
    (
        "PICLOUD_TRIGGER_RETRY_JITTER",
        "trigger-retry-jitter",
        "HOW",
        "Whether waits are spread: `full`, any part of the wait, or `none` [default: full]",
    ),
    (
        "PICLOUD_DEAD_LETTER_RETENTION_DAYS",
        "dead-letter-retention-days",
        "DAYS",
        "Days that dead letters are kept [default: 30]",
    ),
    (
        "PICLOUD_ABANDONED_EXECUTIONS_RETENTION_DAYS",
        "abandoned-executions-retention-days",
        "DAYS",
        "Days that records of runs are kept whose caller had gone [default: 7]",
    ),
];

/// What holds for all triggers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TriggerArgs(pub(crate) TriggerConfig);

impl FromArgMatches for TriggerArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |variable: &str| matches.get_one::<String>(variable).cloned();
        TriggerConfig::from_vars(value)
            .map(Self)
            .map_err(|error| clap::Error::raw(ErrorKind::Io, error.to_string()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for TriggerArgs {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.map(|(variable, flag, value, help)| {
            Arg::new(variable).long(flag).env(variable).value_name(value).help(help).help_heading("Triggers")
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
