//! Limits as JSON: one flat object of whole numbers, `null` where a limit that an app can do without is not set.
//!
//! A limit that is named has a number: `null` is refused elsewhere, not read as "not named". A name that is not one, or
//! that comes twice, is refused too.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
};

use super::{LimitField, Limits, LimitsPatch, UNLIMITED};

/// A change of what a script sets for itself: a number sets a limit, `null` gives it back to the app, and what is not
/// named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptLimitsPatch(BTreeMap<LimitField, Option<u64>>);

impl ScriptLimitsPatch {
    /// Names a limit in the patch; `None` gives it back to the app.
    pub fn set(&mut self, field: LimitField, value: Option<u64>) {
        self.0.insert(field, value);
    }

    /// Whether it names no limit.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every limit that it names, with its new value.
    pub fn iter(&self) -> impl Iterator<Item = (LimitField, Option<u64>)> {
        self.0.iter().map(|(field, value)| (*field, *value))
    }

    /// The limits that get a value.
    pub fn set_values(&self) -> impl Iterator<Item = (LimitField, u64)> {
        self.iter().filter_map(|(field, value)| Some((field, value?)))
    }
}

/// A value as JSON has it.
fn shown(value: u64) -> Option<u64> {
    (value != UNLIMITED).then_some(value)
}

impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(LimitField::ALL.iter().map(|field| (field.as_str(), shown(self.get(*field)))))
    }
}

impl Serialize for LimitsPatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named =
            LimitField::ALL.iter().filter_map(|field| Some((field.as_str(), shown(self.get(*field)?))));
        serializer.collect_map(named)
    }
}

impl Serialize for ScriptLimitsPatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(field, value)| (field.as_str(), value)))
    }
}

impl<'de> Deserialize<'de> for LimitsPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Reader { allowed: LimitField::NAMES, may_be_null: LimitField::is_optional };
        let mut patch = Self::default();
        for (field, value) in deserializer.deserialize_map(read)? {
            patch.set(field, value.unwrap_or(UNLIMITED));
        }
        Ok(patch)
    }
}

impl<'de> Deserialize<'de> for ScriptLimitsPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const NAMES: &[&str] = &[
            LimitField::OF_SCRIPTS[0].as_str(),
            LimitField::OF_SCRIPTS[1].as_str(),
            LimitField::OF_SCRIPTS[2].as_str(),
        ];
        deserializer.deserialize_map(Reader { allowed: NAMES, may_be_null: |_| true }).map(Self)
    }
}

struct Reader {
    allowed: &'static [&'static str],
    may_be_null: fn(LimitField) -> bool,
}

impl<'de> Visitor<'de> for Reader {
    type Value = BTreeMap<LimitField, Option<u64>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of limits")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut read = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let known = LimitField::of_name(&name).filter(|field| self.allowed.contains(&field.as_str()));
            let field = known.ok_or_else(|| A::Error::unknown_field(&name, self.allowed))?;
            let value = if (self.may_be_null)(field) {
                map.next_value::<Option<u64>>()?
            } else {
                Some(map.next_value::<u64>()?)
            };
            if read.insert(field, value).is_some() {
                return Err(A::Error::duplicate_field(field.as_str()));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_limit_is_a_whole_number() {
        for bad in [
            r#"{"fuel":null}"#,
            r#"{"fuel":-1}"#,
            r#"{"fuel":1.5}"#,
            r#"{"fuel":"1"}"#,
            r#"{"fuel":1,"fuel":1}"#,
            r#"{"fule":1}"#,
            "[1]",
        ] {
            assert!(serde_json::from_str::<LimitsPatch>(bad).is_err(), "{bad}");
            let of_script = bad.replace("null", "[]");
            assert!(serde_json::from_str::<ScriptLimitsPatch>(&of_script).is_err(), "{bad}");
        }
        let patch: LimitsPatch = serde_json::from_str(r#"{"fuel":1}"#).unwrap();
        assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"fuel":1}"#);
    }

    #[test]
    fn only_what_an_app_can_do_without_is_null() {
        let patch: LimitsPatch = serde_json::from_str(r#"{"fuel_per_hour":null,"fuel_per_day":5}"#).unwrap();
        assert_eq!((patch.fuel_per_hour, patch.fuel_per_day), (Some(UNLIMITED), Some(5)));
        assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"fuel_per_hour":null,"fuel_per_day":5}"#);
        let limits = serde_json::to_value(Limits::default()).unwrap();
        assert_eq!(
            (&limits["fuel"], &limits["fuel_per_hour"]),
            (&500_000_000.into(), &serde_json::Value::Null)
        );
    }

    #[test]
    fn a_script_sets_three_limits_and_gives_them_back() {
        let patch: ScriptLimitsPatch = serde_json::from_str(r#"{"fuel":5,"wall_ms":null}"#).unwrap();
        let named: Vec<_> = patch.iter().collect();
        assert_eq!(named, [(LimitField::Fuel, Some(5)), (LimitField::WallMs, None)]);
        assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"fuel":5,"wall_ms":null}"#);
        let error =
            serde_json::from_str::<ScriptLimitsPatch>(r#"{"concurrency":5}"#).unwrap_err().to_string();
        assert!(error.contains("`fuel`, `memory_bytes`, `wall_ms`"), "{error}");
    }
}
