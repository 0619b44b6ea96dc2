//! JSON text to values and back.
//!
//! Integers that fit into 64 bits are exact; a larger one becomes a float, as in JavaScript. A float is always
//! written with a point or an exponent, so that it is read as a float again.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rhai::{Array, Dynamic, Identifier, ImmutableString, Map};
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

mod write;

pub(crate) use write::{Blobs, stringify, stringify_pretty, write_body, write_with};

/// Reads JSON text. Nesting is limited by `serde_json`.
pub(crate) fn parse(text: &str) -> Result<Dynamic, String> {
    parse_with(serde_json::Deserializer::from_str(text))
}

/// Reads JSON text in UTF-8.
pub(crate) fn parse_slice(text: &[u8]) -> Result<Dynamic, String> {
    parse_with(serde_json::Deserializer::from_slice(text))
}

/// Reads JSON text in which blobs are written as [`Blobs::Tagged`] has it.
pub(crate) fn parse_tagged(text: &str) -> Result<Dynamic, String> {
    let mut value = parse(text)?;
    if text.contains("\"$blob\"") {
        restore_blobs(&mut value);
    }
    Ok(value)
}

/// Makes blobs of what `Blobs::Tagged` wrote. Depth is bounded, since it was parsed from JSON.
fn restore_blobs(value: &mut Dynamic) {
    let blob = value.as_map_ref().ok().and_then(|map| match map.get("$blob") {
        Some(text) if map.len() == 1 => STANDARD.decode(text.as_immutable_string_ref().ok()?.as_bytes()).ok(),
        _ => None,
    });
    if let Some(blob) = blob {
        *value = Dynamic::from_blob(blob);
    } else if let Ok(mut map) = value.as_map_mut() {
        map.values_mut().for_each(restore_blobs);
    } else if let Ok(mut array) = value.as_array_mut() {
        array.iter_mut().for_each(restore_blobs);
    }
}

fn parse_with<'de, R: serde_json::de::Read<'de>>(
    mut from: serde_json::Deserializer<R>,
) -> Result<Dynamic, String> {
    let value = ValueSeed.deserialize(&mut from).map_err(|error| error.to_string())?;
    from.end().map_err(|error| error.to_string())?;
    Ok(value)
}

struct ValueSeed;

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Dynamic;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Dynamic, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Dynamic;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Dynamic, E> {
        Ok(Dynamic::UNIT)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Dynamic, E> {
        Ok(i64::try_from(value).map_or_else(|_| (value as f64).into(), Into::into))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Dynamic, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Dynamic, E> {
        Ok(ImmutableString::from(value).into())
    }

    fn visit_string<E>(self, value: String) -> Result<Dynamic, E> {
        Ok(ImmutableString::from(value).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Dynamic, A::Error> {
        let mut array = Array::new();
        while let Some(item) = items.next_element_seed(ValueSeed)? {
            array.push(item);
        }
        Ok(Dynamic::from_array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Dynamic, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(KeySeed)? {
            map.insert(key, entries.next_value_seed(ValueSeed)?);
        }
        Ok(Dynamic::from_map(map))
    }
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Identifier;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Identifier, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Identifier;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, value: &str) -> Result<Identifier, E> {
        Ok(value.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for text in ["0", "-1", "9223372036854775807", "-9223372036854775808", "1.0", "0.1", "1e300", "-0.0"]
        {
            assert_eq!(stringify(&parse(text).unwrap()).unwrap(), text);
        }
        assert_eq!(stringify(&parse("18446744073709551615").unwrap()).unwrap(), "1.8446744073709552e19");
        assert!(parse("1e400").is_err());
    }

    #[test]
    fn text_round_trips() {
        for text in [r#""""#, r#""a\"\\\n\r\t\b\f\u0000\u001fé😀/""#, r#"{"":{"a":[true,false,null,[]]}}"#]
        {
            assert_eq!(stringify(&parse(text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn nesting_is_bounded_both_ways() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(stringify(&parse(&nested(crate::limits::JSON_DEPTH)).unwrap()).is_ok());
        assert!(parse(&nested(crate::limits::JSON_DEPTH + 1)).is_err());
        let deep =
            (0..=crate::limits::JSON_DEPTH).fold(Dynamic::UNIT, |inner, _| Dynamic::from_array(vec![inner]));
        assert!(stringify(&deep).is_err());
    }

    #[test]
    fn what_follows_the_value_is_refused() {
        assert!(parse("1 2").is_err());
        assert!(parse("").is_err());
    }
}
