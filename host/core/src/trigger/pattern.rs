//! Which collections and topics a trigger is for.

use crate::{
    AppName, CollectionName, CollectionPattern, MailboxName, NameError, TopicName, TopicPattern, TriggerName,
};

/// Whether a collection is one of those that `pattern` means: `*` is all, a pattern that ends with `*` is those that
/// begin with what is before it, and any other is the collection of that name.
pub fn collection_matches(pattern: &str, collection: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => collection.starts_with(prefix),
        None => pattern == collection,
    }
}

impl CollectionPattern {
    /// Whether `collection` is one of them.
    pub fn matches(&self, collection: &CollectionName) -> bool {
        collection_matches(self.as_str(), collection.as_str())
    }
}

impl TopicPattern {
    /// Whether `topic` is one of them; as collections are.
    pub fn matches(&self, topic: &TopicName) -> bool {
        collection_matches(self.as_str(), topic.as_str())
    }
}

impl MailboxName {
    /// The address of a trigger that names none: the app's name, a dot, and the trigger's in lower case.
    pub fn of(app: &AppName, trigger: &TriggerName) -> Result<Self, NameError> {
        Self::new(format!("{app}.{}", trigger.as_str().to_ascii_lowercase()))
    }

    /// Whether an app may have it: what is before the first dot is the name of an app, and nobody else's.
    pub fn is_allowed_to(&self, app: &AppName) -> bool {
        self.as_str().split_once('.').is_none_or(|(first, _)| first == app.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_all_a_prefix_or_one() {
        let cases = [
            ("*", "users", true),
            ("*", "a:b", true),
            ("users:*", "users:1", true),
            ("users:*", "users:", true),
            ("users:*", "users", false),
            ("users:*", "my:users:1", false),
            ("users*", "users", true),
            ("users", "users", true),
            ("users", "users2", false),
            ("users", "Users", false),
        ];
        for (pattern, collection, matches) in cases {
            let pattern = CollectionPattern::new(pattern).unwrap();
            let collection = CollectionName::new(collection).unwrap();
            assert_eq!(pattern.matches(&collection), matches, "{pattern} {collection}");
        }
        let orders = TopicPattern::new("orders/*").unwrap();
        assert!(orders.matches(&TopicName::new("orders/new/eu").unwrap()));
        assert!(!orders.matches(&TopicName::new("orders").unwrap()));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_what_is_allowed() {
        for bad in ["", "**", "*a", "a*b", "a b", "a/*", "a\0", "\u{e4}*", &"a".repeat(129)] {
            assert!(CollectionPattern::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "**", "a/*/b", "a b", "a\0*", &format!("{}*", "a".repeat(128))] {
            assert!(TopicPattern::new(bad).is_err(), "{bad:?}");
        }
        let refusal = CollectionPattern::new("a*b").unwrap_err().to_string();
        assert!(refusal.starts_with("collection contains '*'; allowed are"), "{refusal}");
        assert!(refusal.contains("users:* is a pattern"), "{refusal}");
    }

    #[test]
    fn no_app_has_an_address_that_begins_with_the_name_of_another() {
        let app = AppName::new("demo").unwrap();
        let made = MailboxName::of(&app, &TriggerName::new("Inbox").unwrap()).unwrap();
        assert_eq!(made.as_str(), "demo.inbox");
        for (address, is_allowed) in [("demo.inbox", true), ("support", true), ("other.inbox", false)] {
            assert_eq!(MailboxName::new(address).unwrap().is_allowed_to(&app), is_allowed, "{address}");
        }
        for bad in ["", "a@b", ".a", "a.", "a..b", "A", "a b", "a\0", "postmaster", &"a".repeat(65)] {
            assert!(MailboxName::new(bad).is_err(), "{bad:?}");
        }
        assert!(MailboxName::of(&app, &TriggerName::new("a".repeat(64)).unwrap()).is_err());
    }

    #[test]
    fn a_trigger_is_not_named_like_an_id() {
        assert!(TriggerName::new("nightly").is_ok());
        assert!(TriggerName::new(uuid::Uuid::nil().to_string()).is_err());
    }
}
