//! Limits as people write and read them: `8MiB`, `2s`, `50_000_000`.

use std::fmt;

use picloud_core::{LimitField, LimitsPatch, ScriptLimitsPatch, UNLIMITED};
use serde::{Deserialize, Deserializer, de};

use crate::units;

/// What a limit counts, which its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bytes,
    Millis,
    Count,
}

impl Kind {
    fn of(field: LimitField) -> Self {
        match field.as_str() {
            name if name.ends_with("_bytes") => Self::Bytes,
            name if name.ends_with("_ms") => Self::Millis,
            _ => Self::Count,
        }
    }
}

/// The value of a limit that is not set.
const NONE: &str = "none";

/// `NAME=VALUE`; the value is `None` for `none`.
pub(super) fn assignment(text: &str) -> Result<(LimitField, Option<u64>), String> {
    let (name, value) = text.split_once('=').ok_or("allowed is NAME=VALUE, such as memory_bytes=8MiB")?;
    let field = field(name.trim())?;
    Ok((field, value_of(field, value)?))
}

/// What `assignments` change of an app's limits.
pub(super) fn of_app(assignments: &[(LimitField, Option<u64>)]) -> Result<LimitsPatch, String> {
    let mut patch = LimitsPatch::default();
    for (field, value) in assignments {
        patch.set(*field, apps_value(*field, *value)?);
    }
    Ok(patch)
}

/// What `assignments` change of a script's limits.
pub(super) fn of_script(assignments: &[(LimitField, Option<u64>)]) -> Result<ScriptLimitsPatch, String> {
    let mut patch = ScriptLimitsPatch::default();
    for (field, value) in assignments {
        if !LimitField::OF_SCRIPTS.contains(field) {
            let name = field.as_str();
            return Err(format!(
                "{name} is a limit of apps; those of scripts are {}",
                names(LimitField::OF_SCRIPTS)
            ));
        }
        patch.set(*field, *value);
    }
    Ok(patch)
}

fn apps_value(field: LimitField, value: Option<u64>) -> Result<u64, String> {
    match value {
        Some(value) => Ok(value),
        None if field.is_optional() => Ok(UNLIMITED),
        None => Err(refusal(field, NONE)),
    }
}

/// `[limits]` of a manifest: numbers, or texts with a unit. `None` if it names none.
pub(super) fn of_manifest<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<LimitsPatch>, D::Error> {
    let patch = of_app(&written(deserializer)?).map_err(de::Error::custom)?;
    Ok((patch != LimitsPatch::default()).then_some(patch))
}

/// `[scripts.NAME.limits]` of a manifest.
pub(super) fn of_manifest_script<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<ScriptLimitsPatch, D::Error> {
    of_script(&written(deserializer)?).map_err(de::Error::custom)
}

fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(LimitField, Option<u64>)>, D::Error> {
    let written = toml::Table::deserialize(deserializer)?;
    let read = written.iter().map(|(name, value)| {
        let field = field(name)?;
        let value = match value {
            toml::Value::String(text) => value_of(field, text),
            toml::Value::Integer(number) => {
                u64::try_from(*number).map(Some).map_err(|_| refusal(field, value))
            }
            _ => Err(refusal(field, value)),
        };
        Ok((field, value?))
    });
    read.collect::<Result<_, String>>().map_err(de::Error::custom)
}

/// A value with the largest unit that shows it exactly; [`assignment`] takes it back.
pub(super) fn show(name: &str, value: Option<u64>) -> String {
    let Some(value) = value else { return NONE.to_owned() };
    match LimitField::of_name(name).map(Kind::of) {
        Some(Kind::Bytes) => units::exact_bytes(value),
        Some(Kind::Millis) => units::exact_millis(value),
        _ => value.to_string(),
    }
}

fn names(fields: &[LimitField]) -> String {
    fields.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(", ")
}

fn field(name: &str) -> Result<LimitField, String> {
    LimitField::of_name(name)
        .ok_or_else(|| format!("there is no limit {name:?}; allowed are {}", names(LimitField::ALL)))
}

fn value_of(field: LimitField, text: &str) -> Result<Option<u64>, String> {
    if text.trim() == NONE {
        return Ok(None);
    }
    let value = match Kind::of(field) {
        Kind::Bytes => units::parse_bytes(text),
        Kind::Millis => units::parse_millis(text),
        Kind::Count => units::parse_count(text),
    };
    value.map(Some).ok_or_else(|| refusal(field, format_args!("{text:?}")))
}

fn refusal(field: LimitField, given: impl fmt::Display) -> String {
    let allowed = match Kind::of(field) {
        Kind::Bytes => "a whole number of bytes, or one with KiB, MiB or GiB such as 8MiB",
        Kind::Millis => "a whole number of milliseconds, or one with ms, s, min or h such as 2s",
        Kind::Count => "a whole number, such as 50_000_000",
    };
    format!("{} is {given}; allowed is {allowed}", field.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_given_by_name_with_their_units() {
        assert_eq!(assignment("fuel=50_000_000"), Ok((LimitField::Fuel, Some(50_000_000))));
        assert_eq!(assignment("memory_bytes=8MiB"), Ok((LimitField::MemoryBytes, Some(8 << 20))));
        assert_eq!(assignment("wall_ms=2s"), Ok((LimitField::WallMs, Some(2_000))));
        assert_eq!(assignment("fuel_per_day=none"), Ok((LimitField::FuelPerDay, None)));
        assert!(assignment("fule=1").is_err_and(|error| error.contains("allowed are fuel, memory_bytes")));
        assert!(assignment("fuel=-1").is_err_and(|error| error.contains("whole number")));
        assert!(assignment("fuel=8MiB").is_err_and(|error| error.contains("whole number")));
        assert!(assignment("memory_bytes=8MB").is_err_and(|error| error.contains("MiB or GiB")));
        assert!(assignment("wall_ms=2d").is_err_and(|error| error.contains("min or h")));
        assert!(assignment("fuel").is_err_and(|error| error.contains("NAME=VALUE")));
    }

    #[test]
    fn what_is_shown_can_be_given_back() {
        for field in LimitField::ALL {
            for value in [field.least(), field.default(), field.default_ceiling(), 1_500] {
                let value = (value != UNLIMITED).then_some(value);
                let shown = show(field.as_str(), value);
                assert_eq!(
                    assignment(&format!("{}={shown}", field.as_str())),
                    Ok((*field, value)),
                    "{shown}"
                );
            }
        }
        assert_eq!(show("memory_bytes", Some(16 << 20)), "16 MiB");
        assert_eq!(show("wall_ms", Some(10_000)), "10 s");
    }

    #[test]
    fn an_app_can_do_without_a_budget_and_a_script_without_any_limit_of_its_own() {
        let none = |field| [(field, None)];
        assert_eq!(of_app(&none(LimitField::FuelPerDay)).unwrap().fuel_per_day, Some(UNLIMITED));
        let refused = of_app(&none(LimitField::Fuel)).unwrap_err();
        assert!(refused.starts_with("fuel is none; allowed is a whole number"), "{refused}");
        let patch = of_script(&none(LimitField::Fuel)).unwrap();
        assert_eq!(patch.iter().collect::<Vec<_>>(), [(LimitField::Fuel, None)]);
        let refused = of_script(&none(LimitField::LogBytes)).unwrap_err();
        assert!(refused.contains("those of scripts are fuel, memory_bytes, wall_ms"), "{refused}");
    }
}
