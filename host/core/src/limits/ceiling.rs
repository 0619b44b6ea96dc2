//! The platform's ceiling, from the environment, and what it refuses.

use super::{LimitField, Limits, LimitsPatch, UNLIMITED};

/// Why limits were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Above the platform's ceiling.
    #[error("{field} is {value}, above this platform's ceiling of {ceiling}")]
    AboveCeiling {
        /// The limit.
        field: &'static str,
        /// What was asked for.
        value: u64,
        /// The most that is allowed.
        ceiling: u64,
    },
    /// Above what the script's app has.
    #[error("{field} is {value}, above the app's limit of {limit}")]
    AboveApp {
        /// The limit.
        field: &'static str,
        /// What was asked for.
        value: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// Too small for anything to run.
    #[error("{field} is {value}; the least allowed is {least}")]
    TooSmall {
        /// The limit.
        field: &'static str,
        /// What was asked for.
        value: u64,
        /// The least that is allowed.
        least: u64,
    },
}

/// The most that any app of this platform may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SandboxCeiling {
    limits: Limits,
}

/// A ceiling in the environment that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is {value:?}; allowed is a whole number from {least} to {most}")]
pub struct CeilingError {
    /// The environment variable.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// The least that is allowed.
    pub least: u64,
    /// The most that is allowed.
    pub most: u64,
}

impl Default for SandboxCeiling {
    fn default() -> Self {
        let mut limits = Limits::default();
        for field in LimitField::ALL {
            limits.set(*field, field.default_ceiling());
        }
        Self { limits }
    }
}

impl SandboxCeiling {
    /// The ceiling that the process's environment sets (`PICLOUD_SANDBOX_MAX_*`).
    pub fn from_env() -> Result<Self, CeilingError> {
        Self::from_vars(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// The ceiling that `var` sets, a look-up of environment variables.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, CeilingError> {
        let mut ceiling = Self::default();
        for field in LimitField::ALL {
            let Some(value) = var(field.env()) else { continue };
            let (least, most) = (field.least(), field.most());
            match value.trim().parse::<u64>() {
                Ok(number) if (least..=most).contains(&number) => ceiling.limits.set(*field, number),
                _ => return Err(CeilingError { variable: field.env(), value, least, most }),
            }
        }
        Ok(ceiling)
    }

    /// The ceilings as limits.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// `stored` limits, or the defaults, cut to this ceiling: what is in force where the ceiling was lowered
    /// after the limits were set.
    pub fn clamp(&self, stored: &LimitsPatch) -> Limits {
        let mut limits = Limits::default();
        for field in LimitField::ALL {
            let value = stored.get(*field).unwrap_or(field.default());
            limits.set(*field, value.min(self.limits.get(*field)));
        }
        limits
    }

    /// Checks every limit that `patch` names. An app that does without a budget gets what the ceiling allows.
    pub fn check(&self, patch: &LimitsPatch) -> Result<(), LimitError> {
        for field in LimitField::ALL {
            let Some(value) = patch.get(*field) else { continue };
            if value == UNLIMITED && field.is_optional() {
                continue;
            }
            let ceiling = self.limits.get(*field);
            if value > ceiling {
                return Err(LimitError::AboveCeiling { field: field.as_str(), value, ceiling });
            }
            check_least(*field, value)?;
        }
        Ok(())
    }
}

/// Refuses a value with which nothing can run.
pub(super) fn check_least(field: LimitField, value: u64) -> Result<(), LimitError> {
    let least = field.least();
    if value < least {
        return Err(LimitError::TooSmall { field: field.as_str(), value, least });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_ceiling_is_refused_by_name() {
        for value in ["", "x", "-1", "0", "1.5", "18446744073709551616"] {
            let vars = |name: &str| (name == "PICLOUD_SANDBOX_MAX_FUEL").then(|| value.to_owned());
            let error = SandboxCeiling::from_vars(vars).expect_err(value);
            assert!(error.to_string().starts_with("PICLOUD_SANDBOX_MAX_FUEL is "), "{error}");
        }
    }

    fn with(variable: &str, value: &str) -> SandboxCeiling {
        SandboxCeiling::from_vars(|name| (name == variable).then(|| value.to_owned())).unwrap()
    }

    #[test]
    fn every_limit_is_bounded_by_the_ceiling_that_the_environment_sets() {
        for &field in LimitField::ALL {
            let bound = field.least() + 1;
            let ceiling = with(field.env(), &bound.to_string());
            let patch = |value| {
                let mut patch = LimitsPatch::default();
                patch.set(field, value);
                patch
            };
            assert_eq!(ceiling.check(&patch(bound)), Ok(()), "{field:?}");
            let above = LimitError::AboveCeiling { field: field.as_str(), value: bound + 1, ceiling: bound };
            assert_eq!(ceiling.check(&patch(bound + 1)), Err(above), "{field:?}");
            assert!(ceiling.check(&patch(UNLIMITED + 1)).is_err(), "{field:?}");
            // Values that were set before the ceiling was lowered, and the default, are cut to it.
            assert_eq!(ceiling.clamp(&patch(bound + 1)).get(field), bound.min(bound + 1), "{field:?}");
            assert_eq!(
                ceiling.clamp(&LimitsPatch::default()).get(field),
                bound.min(field.default()),
                "{field:?}"
            );
            if field.least() > 0 {
                let small = ceiling.check(&patch(field.least() - 1));
                assert!(matches!(small, Err(LimitError::TooSmall { .. })), "{field:?}");
            }
        }
    }

    #[test]
    fn an_app_without_a_budget_gets_what_the_ceiling_allows() {
        let unset = LimitsPatch { fuel_per_day: Some(UNLIMITED), ..LimitsPatch::default() };
        let ceiling = SandboxCeiling::default();
        assert_eq!((ceiling.check(&unset), ceiling.clamp(&unset).fuel_per_day), (Ok(()), UNLIMITED));
        let ceiling = with("PICLOUD_SANDBOX_MAX_FUEL_PER_DAY", "1000000");
        assert_eq!((ceiling.check(&unset), ceiling.clamp(&unset).fuel_per_day), (Ok(()), 1_000_000));
        assert_eq!(ceiling.clamp(&LimitsPatch::default()).fuel_per_day, 1_000_000);
    }
}
