//! Names that people choose, validated once at the border and trusted from then on.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::file::{check_folder, check_path, check_type};

/// Why a name was refused. The text says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct NameError {
    what: &'static str,
    problem: String,
}

impl NameError {
    fn new(what: &'static str, problem: impl Into<String>) -> Self {
        Self { what, problem: problem.into() }
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $check:path;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and keeps it as it is.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                match $check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(problem) => Err(NameError::new($what, problem)),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    )*};
}

names! {
    /// The name of an app: a DNS label (RFC 1035), since it is the first label of the app's host name.
    AppName, "app name", check_dns_label;
    /// The name of a script: 1 to 64 of `a-z A-Z 0-9 _ -`, with `/` between the folders of a nested name.
    ScriptName, "script name", check_script_name;
    /// The name of a kv collection: 1 to 128 of `a-z A-Z 0-9 _ . : -`.
    CollectionName, "collection name", check_collection;
    /// A kv key: 1 to 512 bytes of any Unicode text but U+0000. Not normalised: NFC and NFD are two keys.
    KvKey, "key", check_key;
    /// A host name in lower case, without a port. Neither an IP address nor anything that could be read as one.
    DomainName, "domain", check_domain;
    /// The name of a principal: 1 to 64 of `a-z 0-9 _ . @ -`, and nothing that could be read as an id.
    PrincipalName, "principal name", check_principal;
    /// The name of a secret of an app: 1 to 64 of `a-z A-Z 0-9 _ . -`, the first of them a letter, a digit or `_`.
    SecretName, "secret name", check_setting;
    /// The name of a plain variable of an app, of the same form.
    VariableName, "variable name", check_setting;
    /// The name of a trigger of an app, of the same form, and nothing that could be read as an id.
    TriggerName, "trigger name", check_trigger;
    /// The name of a queue of an app, of the same form.
    QueueName, "queue name", check_setting;
    /// A topic: 1 to 128 of `a-z A-Z 0-9 _ . : / -`.
    TopicName, "topic", check_topic;
    /// Which collections: `*` for all, a prefix that ends with `*` such as `users:*`, or the name of one.
    CollectionPattern, "collection", check_collection_pattern;
    /// Which topics, of the same form: `*`, `orders/*`, or one topic.
    TopicPattern, "topic", check_topic_pattern;
    /// What is before the `@` of an address that receives e-mail: 1 to 64 of `a-z 0-9 _ . -`.
    MailboxName, "address", check_mailbox;
    /// What makes a message one that was sent before: 1 to 128 bytes of any text but U+0000.
    DedupeKey, "dedupe_key", check_message_key;
    /// The group of a message: 1 to 128 bytes of any text but U+0000.
    GroupKey, "group", check_message_key;
    /// Where the answer of an asynchronous request is sent: an absolute URL of http or https without a user, at most 2,048
    /// bytes long.
    CallbackUrl, "callback_url", check_callback;
    /// The path of a file of an app: segments between `/`, in NFC, at most 512 bytes. It is a name in the database and
    /// never a path of a node's file system, so that `A` and `a` are two files everywhere.
    FilePath, "file path", check_path;
    /// A folder of an app's files, such as `static/`: a file path and a `/` at its end.
    FileFolder, "folder", check_folder;
    /// The media type of a file, as `content-type` has it: `type/subtype`, and parameters after `;`.
    ContentType, "content type", check_type;
}

impl KvKey {
    /// The longest key, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 512;
}

fn check_length(text: &str, max: usize) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    if text.len() > max {
        return Err(format!("is {} bytes long; the longest allowed is {max}", text.len()));
    }
    Ok(())
}

fn check_chars(text: &str, allowed: &str, is_allowed: impl Fn(char) -> bool) -> Result<(), String> {
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(c) => Err(format!("contains {c:?}; allowed are {allowed}")),
        None => Ok(()),
    }
}

fn check_dns_label(text: &str) -> Result<(), String> {
    check_length(text, 63)?;
    check_chars(text, "a-z, 0-9 and -", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')?;
    if text.starts_with('-') || text.ends_with('-') {
        return Err("must not start or end with -".into());
    }
    Ok(())
}

fn check_script_name(text: &str) -> Result<(), String> {
    check_length(text, 64)?;
    check_chars(text, "a-z, A-Z, 0-9, _, - and / between folders", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/')
    })?;
    if text.split('/').any(str::is_empty) {
        return Err("must not start or end with / or have an empty folder".into());
    }
    Ok(())
}

fn check_collection(text: &str) -> Result<(), String> {
    check_length(text, 128)?;
    check_chars(text, "a-z, A-Z, 0-9, _, ., : and -", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-')
    })
}

fn check_key(text: &str) -> Result<(), String> {
    let allowed = "allowed are 1 to 512 bytes of any text but U+0000";
    if text.is_empty() {
        return Err(format!("must not be empty; {allowed}"));
    }
    check_length(text, KvKey::MAX_BYTES)?;
    if text.contains('\0') {
        return Err(format!("contains U+0000, which cannot be stored; {allowed}"));
    }
    Ok(())
}

fn check_topic(text: &str) -> Result<(), String> {
    check_length(text, 128)?;
    check_chars(text, "a-z, A-Z, 0-9, _, ., :, / and -", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '/' | '-')
    })
}

fn check_message_key(text: &str) -> Result<(), String> {
    check_length(text, 128)?;
    if text.contains('\0') {
        return Err("contains U+0000, which cannot be stored; allowed are 1 to 128 bytes of any text".into());
    }
    Ok(())
}

fn check_collection_pattern(text: &str) -> Result<(), String> {
    check_pattern(text, "users:*", check_collection)
}

fn check_topic_pattern(text: &str) -> Result<(), String> {
    check_pattern(text, "orders/*", check_topic)
}

/// `*`, a prefix that ends with it, or a whole name; a pattern is as long as a name at most.
fn check_pattern(
    text: &str,
    example: &str,
    check_name: fn(&str) -> Result<(), String>,
) -> Result<(), String> {
    check_length(text, 128)?;
    let prefix = text.strip_suffix('*').unwrap_or(text);
    if prefix.is_empty() {
        return Ok(());
    }
    check_name(prefix).map_err(|problem| {
        format!("{problem}, and * at the end for whatever follows: {example} is a pattern, and * is all")
    })
}

fn check_mailbox(text: &str) -> Result<(), String> {
    check_length(text, 64)?;
    check_chars(text, "a-z, 0-9, _, . and -", |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-')
    })?;
    if text.split('.').any(str::is_empty) {
        return Err("must not start or end with . or have two of them in a row".into());
    }
    // Names by which whoever runs a mail server is reached (RFC 2142), and the sender of bounces.
    if matches!(text, "postmaster" | "abuse" | "hostmaster" | "mailer-daemon") {
        return Err(format!("cannot be {text}: that is for whoever runs the platform"));
    }
    Ok(())
}

fn check_trigger(text: &str) -> Result<(), String> {
    check_setting(text)?;
    check_is_no_id(text)
}

fn check_is_no_id(text: &str) -> Result<(), String> {
    // Where one is named, an id does as well.
    if uuid::Uuid::parse_str(text).is_ok() {
        return Err("has the form of an id; any other name is allowed".into());
    }
    Ok(())
}

fn check_callback(text: &str) -> Result<(), String> {
    check_length(text, 2_048)?;
    let allowed = "allowed is an absolute URL of http or https";
    // The parser of URLs leaves them out.
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(format!("has a space or a control character; {allowed}"));
    }
    let url = url::Url::parse(text).map_err(|problem| format!("is no URL ({problem}); {allowed}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        return Err(format!("has another scheme, or a user; {allowed}"));
    }
    Ok(())
}

fn check_domain(text: &str) -> Result<(), String> {
    check_length(text, 253)?;
    for label in text.split('.') {
        check_dns_label(label).map_err(|problem| format!("has a label that {problem}"))?;
    }
    // As the URL standard tells addresses from names: by a last label that is a number.
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if is_number {
        return Err("is an IP address; a host name is needed".into());
    }
    Ok(())
}

fn check_principal(text: &str) -> Result<(), String> {
    check_length(text, 64)?;
    check_chars(text, "a-z, 0-9, _, ., @ and -", |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '@' | '-')
    })?;
    check_is_no_id(text)
}

fn check_setting(text: &str) -> Result<(), String> {
    check_length(text, 64)?;
    check_chars(text, "a-z, A-Z, 0-9, _, . and -", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
    })?;
    if text.starts_with(['.', '-']) {
        return Err("must not start with . or -".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names_are_dns_labels() {
        for good in ["a", "demo", "my-app-2", &"a".repeat(63)] {
            assert!(AppName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "é", "a\0", &"a".repeat(64)] {
            assert!(AppName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn script_names_cannot_leave_their_app() {
        for good in ["hello", "api/users", "A_b-3"] {
            assert!(ScriptName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a//b", "..", "../a", "a.rhai", "a b", "a\\b", "\0"] {
            assert!(ScriptName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn domains_are_names_and_not_addresses() {
        for good in ["example.org", "localhost", "1.example", "xn--bcher-kva.example"] {
            assert!(DomainName::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "127.0.0.1", "1.2.3", "0x7f.1", "127.0.0.0x1", "a.b.", "A.example", "[::1]", "a:80", "::1"]
        {
            assert!(DomainName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_keep_any_text_but_nul() {
        assert!(KvKey::new("é").is_ok());
        assert_ne!(KvKey::new("\u{e9}"), KvKey::new("e\u{301}"));
        assert!(KvKey::new("").is_err());
        assert!(KvKey::new("a\0b").is_err());
        assert!(KvKey::new("k".repeat(512)).is_ok());
        assert!(KvKey::new("k".repeat(513)).is_err());
    }

    #[test]
    fn names_of_secrets_and_variables_are_plain() {
        for good in ["stripe", "STRIPE_KEY", "a.b-c", "7", "_x", &"a".repeat(64)] {
            assert!(SecretName::new(good).is_ok() && VariableName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-x", ".x", "a b", "a/b", "é", "a\0", &"a".repeat(65)] {
            assert!(SecretName::new(bad).is_err() && VariableName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn errors_say_what_is_allowed() {
        let error = AppName::new("Demo").expect_err("capital").to_string();
        assert_eq!(error, "app name contains 'D'; allowed are a-z, 0-9 and -");
    }
}
