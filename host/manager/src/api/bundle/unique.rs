//! Objects of texts whose names may not be given twice: which of the two texts is meant cannot be known.

use std::{collections::BTreeMap, fmt, marker::PhantomData, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

/// What an object is of, for the words of a refusal.
pub(super) struct UniqueTexts {
    /// `script`, `variable`.
    pub(super) what: &'static str,
    /// What its texts are: `sources`.
    pub(super) texts: &'static str,
    /// How many it may have.
    pub(super) most: usize,
}

impl UniqueTexts {
    pub(super) fn read<'de, D, N>(self, deserializer: D) -> Result<BTreeMap<N, Arc<str>>, D::Error>
    where
        D: Deserializer<'de>,
        N: Deserialize<'de> + Ord + fmt::Display,
    {
        deserializer.deserialize_map(Reader { of: self, names: PhantomData })
    }
}

struct Reader<N> {
    of: UniqueTexts,
    names: PhantomData<N>,
}

impl<'de, N: Deserialize<'de> + Ord + fmt::Display> Visitor<'de> for Reader<N> {
    type Value = BTreeMap<N, Arc<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of {} by {} name", self.of.texts, self.of.what)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let UniqueTexts { what, most, .. } = self.of;
        let mut found = BTreeMap::new();
        while let Some((name, text)) = map.next_entry::<N, String>()? {
            if found.len() == most {
                return Err(A::Error::custom(format!("a bundle has at most {most} {what}s")));
            }
            if found.contains_key(&name) {
                return Err(A::Error::custom(format!("duplicate {what} `{name}`")));
            }
            found.insert(name, text.into());
        }
        Ok(found)
    }
}
