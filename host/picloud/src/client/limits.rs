//! Limits as people write and read them: `8MiB`, `2s`, `50_000_000`.

use std::fmt;

use picloud_core::{LimitField, LimitsPatch};
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

/// `NAME=VALUE`.
pub(super) fn assignment(text: &str) -> Result<(LimitField, u64), String> {
    let (name, value) = text.split_once('=').ok_or("allowed is NAME=VALUE, such as memory_bytes=8MiB")?;
    let field = field(name.trim())?;
    Ok((field, value_of(field, value)?))
}

/// `[limits]` of a manifest: numbers, or texts with a unit. `None` if it names none.
pub(super) fn of_manifest<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<LimitsPatch>, D::Error> {
    let written = toml::Table::deserialize(deserializer)?;
    let mut patch = LimitsPatch::default();
    for (name, value) in written {
        let field = field(&name).map_err(de::Error::custom)?;
        let value = match &value {
            toml::Value::String(text) => value_of(field, text),
            toml::Value::Integer(number) => u64::try_from(*number).map_err(|_| refusal(field, &value)),
            _ => Err(refusal(field, &value)),
        };
        patch.set(field, value.map_err(de::Error::custom)?);
    }
    Ok((patch != LimitsPatch::default()).then_some(patch))
}

/// A value with the largest unit that shows it exactly; [`assignment`] takes it back.
pub(super) fn show(name: &str, value: u64) -> String {
    match LimitField::ALL.iter().find(|field| field.as_str() == name).map(|field| Kind::of(*field)) {
        Some(Kind::Bytes) => units::exact_bytes(value),
        Some(Kind::Millis) => units::exact_millis(value),
        _ => value.to_string(),
    }
}

fn field(name: &str) -> Result<LimitField, String> {
    let names = || LimitField::ALL.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(", ");
    let field = LimitField::ALL.iter().copied().find(|field| field.as_str() == name);
    field.ok_or_else(|| format!("there is no limit {name:?}; allowed are {}", names()))
}

fn value_of(field: LimitField, text: &str) -> Result<u64, String> {
    let value = match Kind::of(field) {
        Kind::Bytes => units::parse_bytes(text),
        Kind::Millis => units::parse_millis(text),
        Kind::Count => units::parse_count(text),
    };
    value.ok_or_else(|| refusal(field, format_args!("{text:?}")))
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
        assert_eq!(assignment("fuel=50_000_000"), Ok((LimitField::Fuel, 50_000_000)));
        assert_eq!(assignment("memory_bytes=8MiB"), Ok((LimitField::MemoryBytes, 8 << 20)));
        assert_eq!(assignment("wall_ms=2s"), Ok((LimitField::WallMs, 2_000)));
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
                let shown = show(field.as_str(), value);
                assert_eq!(
                    assignment(&format!("{}={shown}", field.as_str())),
                    Ok((*field, value)),
                    "{shown}"
                );
            }
        }
        assert_eq!(show("memory_bytes", 16 << 20), "16 MiB");
        assert_eq!(show("wall_ms", 10_000), "10 s");
    }
}
