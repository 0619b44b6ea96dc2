//! The keys that a list asks for, as a range that an index in byte order can scan.

use picloud_core::{KvKey, KvListQuery};

/// Keys from `first` on and before `end`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) first: String,
    pub(crate) end: String,
}

impl KeyRange {
    /// The range of a query; `None` if no key can be in it.
    ///
    /// No key contains U+0000, which PostgreSQL cannot hold, though a query may.
    pub(super) fn of(query: &KvListQuery) -> Option<Self> {
        Self::new(&query.prefix, query.after.as_deref())
    }

    /// The keys that start with `prefix` and come after `after`; `None` if no key can be among them.
    pub(crate) fn new(prefix: &str, after: Option<&str>) -> Option<Self> {
        if prefix.contains('\0') {
            return None;
        }
        let first = match after {
            Some(after) if after >= prefix => {
                // The least key after `after`. What follows a U+0000 in it cannot make a difference.
                let (after, _) = after.split_once('\0').unwrap_or((after, ""));
                format!("{after}\u{1}")
            }
            _ => prefix.to_owned(),
        };
        Some(Self { first, end: end_of(prefix) })
    }
}

/// The least text above every key with this prefix: its last character that has a successor, raised by one.
/// Byte order of UTF-8 is the order of code points, so no key lies in between.
fn end_of(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // The range of characters steps over the surrogates.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return end;
        }
    }
    // Longer than any key, all of it the greatest character.
    char::MAX.to_string().repeat(KvKey::MAX_BYTES / char::MAX.len_utf8() + 1)
}

#[cfg(test)]
mod tests {
    use picloud_core::CollectionName;
    use proptest::prelude::*;

    use super::*;

    fn query(prefix: &str, after: Option<&str>) -> KvListQuery {
        let collection = CollectionName::new("c").unwrap();
        KvListQuery { collection, prefix: prefix.to_owned(), after: after.map(str::to_owned), limit: 1 }
    }

    #[test]
    fn ends_are_tight() {
        assert_eq!(end_of("ab"), "ac");
        assert_eq!(end_of("a\u{d7ff}"), "a\u{e000}");
        assert_eq!(end_of("a\u{10ffff}"), "b");
        assert!(end_of("").as_str() > "\u{10ffff}".repeat(128).as_str());
    }

    #[test]
    fn nul_in_a_query_is_harmless() {
        assert_eq!(KeyRange::of(&query("a\0", None)), None);
        assert_eq!(KeyRange::of(&query("", Some("a\0b"))).unwrap().first, "a\u{1}");
    }

    proptest! {
        #[test]
        fn the_range_holds_exactly_what_the_query_asks_for(
            prefix in "[ab\u{1}\u{7f}\u{d7ff}\u{10ffff}]{0,3}",
            after in prop::option::of("[ab\0\u{1}\u{7f}\u{d7ff}\u{10ffff}]{0,4}"),
            key in "[ab\u{1}\u{7f}\u{d7ff}\u{e000}\u{10ffff}]{1,5}",
        ) {
            let asked = key.starts_with(&prefix) && after.as_deref().is_none_or(|after| key.as_str() > after);
            let range = KeyRange::of(&query(&prefix, after.as_deref())).unwrap();
            prop_assert_eq!(range.first <= key && key < range.end, asked);
        }
    }
}
