//! The environment as a source of settings: which variables exist, which are mistyped, and how a wrong one is
//! refused.

use std::{collections::BTreeSet, env, ffi::OsStr};

use clap::{
    Arg, Command,
    error::{ContextKind, ContextValue, Error as ClapError, ErrorKind},
};

use crate::likeness::nearest;

/// Variables that are not settings of a command but are ours all the same.
const OTHER_VARIABLES: [&str; 1] = ["PICLOUD_GUEST_DIR"];

/// `command` with every variable that is set but empty taken as unset.
pub(crate) fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| match arg.get_env() {
            Some(name) if is_empty(name) => arg.env(None::<&'static str>),
            _ => arg,
        })
        .mut_subcommands(without_empty_variables)
}

/// A warning for each `PICLOUD_*` variable that no setting has, with the name that may be meant.
pub(crate) fn unknown_variables<I>(command: &Command, names: I) -> Vec<String>
where
    I: IntoIterator<Item = String>,
{
    let known = known_variables(command);
    let unknown = names.into_iter().filter(|name| name.starts_with("PICLOUD_") && !known.contains(name));
    unknown
        .map(|name| {
            let nearest = nearest(tail(&name), &known, |other| tail(other));
            let hint = nearest.map(|other| format!("; did you mean {other}?")).unwrap_or_default();
            format!("the variable {name} is set, but PiCloud has no such setting{hint}")
        })
        .collect()
}

/// What to say of a refused value, where clap's own words would not name the variable that it came from.
/// `None` for other errors, and for a value that came from the command line.
pub(crate) fn refusal(command: &Command, error: &ClapError) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    // Only a built command knows how its arguments are shown.
    let mut command = command.clone();
    command.build();
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    let arg = all_args(&command).into_iter().find(|arg| {
        let from_env = arg.get_env().and_then(env::var_os);
        arg.to_string() == *shown && from_env.is_some_and(|set| set.to_string_lossy() == *value)
    })?;
    let allowed = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("allowed is one of {}", values.join(", ")),
        _ => std::error::Error::source(error).map(ToString::to_string)?,
    };
    let variable = arg.get_env()?.to_string_lossy();
    let value = if arg.is_hide_env_values_set() { "set".to_owned() } else { format!("{value:?}") };
    Some(format!("{variable} is {value}; {allowed}"))
}

fn known_variables(command: &Command) -> BTreeSet<String> {
    let of_args = all_args(command).into_iter().filter_map(Arg::get_env);
    let names = of_args.map(|name| name.to_string_lossy().into_owned());
    names.chain(OTHER_VARIABLES.map(str::to_owned)).collect()
}

fn all_args(command: &Command) -> Vec<&Arg> {
    let own = command.get_arguments();
    own.chain(command.get_subcommands().flat_map(all_args)).collect()
}

fn tail(name: &str) -> &str {
    name.strip_prefix("PICLOUD_").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_mistyped_variable_is_noticed() {
        let names = ["PICLOUD_ADMIN_ADR", "PICLOUD_APP_ADDR", "PICLOUD_XYZ", "PATH"].map(str::to_owned);
        let warnings = unknown_variables(&Cli::command(), names);
        assert_eq!(
            warnings,
            [
                "the variable PICLOUD_ADMIN_ADR is set, but PiCloud has no such setting; did you mean \
                 PICLOUD_ADMIN_ADDR?",
                "the variable PICLOUD_XYZ is set, but PiCloud has no such setting",
            ]
        );
    }

    #[test]
    fn every_ceiling_is_a_known_variable() {
        let known = known_variables(&Cli::command());
        for field in picloud_core::LimitField::ALL {
            assert!(known.contains(field.env()), "{}", field.env());
        }
    }
}
