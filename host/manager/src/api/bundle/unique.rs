//! Objects whose names may not be given twice: which of the two values is meant cannot be known.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

/// What an object is of, for the words of a refusal.
pub(super) struct UniqueNames {
    /// `script`, `variable`.
    pub(super) what: &'static str,
    /// What its values are: `sources`.
    pub(super) values: &'static str,
    /// How many it may have.
    pub(super) most: usize,
}

impl UniqueNames {
    /// Reads it; `T` is what a value is read as.
    pub(super) fn read<'de, D, N, T, V>(self, deserializer: D) -> Result<BTreeMap<N, V>, D::Error>
    where
        D: Deserializer<'de>,
        N: Deserialize<'de> + Ord + fmt::Display,
        T: Deserialize<'de>,
        V: From<T>,
    {
        deserializer.deserialize_map(Reader::<N, T, V> { of: self, entries: PhantomData })
    }
}

struct Reader<N, T, V> {
    of: UniqueNames,
    entries: PhantomData<(N, T, V)>,
}

impl<'de, N, T, V> Visitor<'de> for Reader<N, T, V>
where
    N: Deserialize<'de> + Ord + fmt::Display,
    T: Deserialize<'de>,
    V: From<T>,
{
    type Value = BTreeMap<N, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of {} by {} name", self.of.values, self.of.what)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let UniqueNames { what, most, .. } = self.of;
        let mut found = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<N, T>()? {
            if found.len() == most {
                return Err(A::Error::custom(format!("a bundle has at most {most} {what}s")));
            }
            if found.contains_key(&name) {
                return Err(A::Error::custom(format!("duplicate {what} `{name}`")));
            }
            found.insert(name, value.into());
        }
        Ok(found)
    }
}
