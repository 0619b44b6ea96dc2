//! What the operator sets for all triggers, from the environment.

use std::time::Duration;

use super::{Jitter, RetryPolicy};

/// What holds for every trigger that sets nothing of its own, and how long is kept what they leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerConfig {
    /// The deepest event of a chain; one that is deeper becomes a dead letter.
    pub max_depth: u16,
    /// How failed events are tried again.
    pub retry: RetryPolicy,
    /// Days after which dead letters are removed.
    pub dead_letter_retention_days: u16,
    /// Days after which records of abandoned executions are removed.
    pub abandoned_executions_retention_days: u16,
}

/// A setting in the environment that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is {value:?}; allowed is {allowed}")]
pub struct TriggerConfigError {
    /// The environment variable.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl Default for TriggerConfig {
    fn default() -> Self {
        Self {
            max_depth: 8,
            retry: RetryPolicy::default(),
            dead_letter_retention_days: 30,
            abandoned_executions_retention_days: 7,
        }
    }
}

impl TriggerConfig {
    /// The settings of the process's environment.
    pub fn from_env() -> Result<Self, TriggerConfigError> {
        Self::from_vars(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// The settings that `var` gives, a look-up of environment variables.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, TriggerConfigError> {
        let defaults = Self::default();
        let milliseconds = |name, default: Duration| {
            let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
            number(&var, name, 0, 7 * 24 * 3_600_000, default).map(Duration::from_millis)
        };
        let small = |name, least, most, default: u16| {
            number(&var, name, least, most, u64::from(default)).map(|number| number as u16)
        };
        let base_delay = milliseconds("PICLOUD_TRIGGER_RETRY_BASE_DELAY_MS", defaults.retry.base_delay)?;
        let max_delay = milliseconds("PICLOUD_TRIGGER_RETRY_MAX_DELAY_MS", defaults.retry.max_delay)?;
        if base_delay > max_delay {
            return Err(TriggerConfigError {
                variable: "PICLOUD_TRIGGER_RETRY_BASE_DELAY_MS",
                value: base_delay.as_millis().to_string(),
                allowed: format!("at most PICLOUD_TRIGGER_RETRY_MAX_DELAY_MS, {}", max_delay.as_millis()),
            });
        }
        let attempts = defaults.retry.max_attempts;
        Ok(Self {
            max_depth: small("PICLOUD_MAX_TRIGGER_DEPTH", 0, 1_000, defaults.max_depth)?,
            retry: RetryPolicy {
                max_attempts: small("PICLOUD_TRIGGER_RETRY_MAX_ATTEMPTS", 1, 100, attempts)?,
                base_delay,
                max_delay,
                jitter: jitter(&var)?,
            },
            dead_letter_retention_days: small(
                "PICLOUD_DEAD_LETTER_RETENTION_DAYS",
                1,
                3_660,
                defaults.dead_letter_retention_days,
            )?,
            abandoned_executions_retention_days: small(
                "PICLOUD_ABANDONED_EXECUTIONS_RETENTION_DAYS",
                1,
                3_660,
                defaults.abandoned_executions_retention_days,
            )?,
        })
    }
}

fn number(
    var: &impl Fn(&str) -> Option<String>,
    variable: &'static str,
    least: u64,
    most: u64,
    default: u64,
) -> Result<u64, TriggerConfigError> {
    let Some(value) = var(variable) else { return Ok(default) };
    match value.trim().parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => {
            let allowed = format!("a whole number from {least} to {most}");
            Err(TriggerConfigError { variable, value, allowed })
        }
    }
}

fn jitter(var: &impl Fn(&str) -> Option<String>) -> Result<Jitter, TriggerConfigError> {
    let variable = "PICLOUD_TRIGGER_RETRY_JITTER";
    let Some(value) = var(variable) else { return Ok(RetryPolicy::default().jitter) };
    match value.trim() {
        "full" => Ok(Jitter::Full),
        "none" => Ok(Jitter::None),
        _ => Err(TriggerConfigError { variable, value, allowed: "full or none".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Result<TriggerConfig, String> {
        let find =
            |name: &str| vars.iter().find(|(var, _)| *var == name).map(|(_, value)| (*value).to_owned());
        TriggerConfig::from_vars(find).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        assert_eq!(config(&[]), Ok(TriggerConfig::default()));
    }

    #[test]
    fn every_variable_is_read() {
        let config = config(&[
            ("PICLOUD_MAX_TRIGGER_DEPTH", "3"),
            ("PICLOUD_TRIGGER_RETRY_MAX_ATTEMPTS", "7"),
            ("PICLOUD_TRIGGER_RETRY_BASE_DELAY_MS", "10"),
            ("PICLOUD_TRIGGER_RETRY_MAX_DELAY_MS", "2000"),
            ("PICLOUD_TRIGGER_RETRY_JITTER", "none"),
            ("PICLOUD_DEAD_LETTER_RETENTION_DAYS", "2"),
            ("PICLOUD_ABANDONED_EXECUTIONS_RETENTION_DAYS", "1"),
        ]);
        let retry = RetryPolicy {
            max_attempts: 7,
            base_delay: Duration::from_millis(10),
            max_delay: Duration::from_secs(2),
            jitter: Jitter::None,
        };
        let expected = TriggerConfig {
            max_depth: 3,
            retry,
            dead_letter_retention_days: 2,
            abandoned_executions_retention_days: 1,
        };
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_allowed() {
        let refusal = |name, value| config(&[(name, value)]).unwrap_err();
        assert_eq!(
            refusal("PICLOUD_MAX_TRIGGER_DEPTH", "deep"),
            "PICLOUD_MAX_TRIGGER_DEPTH is \"deep\"; allowed is a whole number from 0 to 1000"
        );
        assert!(refusal("PICLOUD_TRIGGER_RETRY_MAX_ATTEMPTS", "0").contains("from 1 to 100"));
        assert!(refusal("PICLOUD_TRIGGER_RETRY_JITTER", "some").contains("full or none"));
        assert!(refusal("PICLOUD_TRIGGER_RETRY_MAX_DELAY_MS", "1").contains("at most"));
    }
}
