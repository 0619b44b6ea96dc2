//! `PICLOUD_SANDBOX_MAX_*`: the platform's ceiling as flags, made from the domain's own table of limits.

use std::sync::OnceLock;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};
use picloud_core::{LimitField, SandboxCeiling, UNLIMITED};

/// The ceiling over every app's limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CeilingArgs(pub(crate) SandboxCeiling);

impl FromArgMatches for CeilingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |variable: &str| matches.get_one::<String>(variable).cloned();
        SandboxCeiling::from_vars(value)
            .map(Self)
            .map_err(|error| clap::Error::raw(ErrorKind::Io, error.to_string()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for CeilingArgs {
    fn augment_args(command: Command) -> Command {
        command.args(LimitField::ALL.iter().map(|field| argument(*field)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(field: LimitField) -> Arg {
    let ceiling = match field.default_ceiling() {
        UNLIMITED => "none".to_owned(),
        ceiling => ceiling.to_string(),
    };
    let help = format!("Most that an app's {} may be set to [default: {ceiling}]", field.as_str());
    Arg::new(field.env())
        .long(flag(field))
        .env(field.env())
        .value_name("NUMBER")
        .help(help)
        .help_heading("Ceilings of apps' limits")
}

/// `--sandbox-max-fuel` for `PICLOUD_SANDBOX_MAX_FUEL`. Clap keeps names for as long as the program runs.
fn flag(field: LimitField) -> &'static str {
    static FLAGS: OnceLock<Vec<String>> = OnceLock::new();
    let flags = FLAGS.get_or_init(|| {
        let name =
            |field: &LimitField| field.env().replacen("PICLOUD_", "", 1).to_lowercase().replace('_', "-");
        LimitField::ALL.iter().map(name).collect()
    });
    let index = LimitField::ALL.iter().position(|other| *other == field);
    index.map_or("", |index| flags[index].as_str())
}
