//! What identifies a script's text and the image that is built from it.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

use crate::{ScriptName, ScriptSources};

macro_rules! digests {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps a digest read from storage.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of SHA-256.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            /// Lower-case hexadecimal, 64 characters.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let wrong = "a SHA-256 digest is 64 hexadecimal digits";
                if text.len() != 64 || !text.is_ascii() {
                    return Err(wrong);
                }
                let mut bytes = [0; 32];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong)?;
                }
                Ok(Self(bytes))
            }
        }
    )*};
}

digests! {
    /// SHA-256 of one script's source text.
    SourceHash;
    /// SHA-256 over everything a script's image is built from: its own name and source and those of every
    /// library it imports, directly or not. Two versions with the same key share one image.
    ImageKey;
    /// SHA-256 of a file's content.
    FileHash;
}

impl FileHash {
    /// The hash of a content.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }
}

impl SourceHash {
    /// The hash of a source text.
    pub fn of(source: &str) -> Self {
        Self(Sha256::digest(source.as_bytes()).into())
    }
}

impl ImageKey {
    /// The key of the image that `sources` makes.
    pub fn of(sources: &ScriptSources) -> Self {
        let mut hash = Sha256::new();
        let mut add = |name: &ScriptName, source: &str| {
            for part in [name.as_str(), source] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        };
        add(&sources.name, &sources.source);
        for (name, source) in &sources.libraries {
            add(name, source);
        }
        Self(hash.finalize().into())
    }
}

/// What stands for the body among a script's handlers ([`BuiltScript::handlers`](crate::BuiltScript)), where it is the
/// body that handles its events. The guest reports it so.
pub const BODY_HANDLER: &str = "body";

/// The name of the function that handles requests.
const REQUEST_HANDLER: &str = "on_request";

/// Whether a script with these handlers ([`BuiltScript::handlers`](crate::BuiltScript)) answers requests. A library
/// does not, nor a script that handles other events only.
pub fn answers_requests(handlers: &[String]) -> bool {
    handlers.iter().any(|handler| handler == REQUEST_HANDLER || handler == BODY_HANDLER)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;

    fn sources(name: &str, source: &str, libraries: &[(&str, &str)]) -> ScriptSources {
        ScriptSources {
            name: ScriptName::new(name).unwrap(),
            source: Arc::from(source),
            libraries: libraries
                .iter()
                .map(|(name, source)| (ScriptName::new(*name).unwrap(), Arc::from(*source)))
                .collect::<BTreeMap<_, Arc<str>>>(),
        }
    }

    #[test]
    fn the_key_covers_every_part_and_its_borders() {
        let keys = [
            ImageKey::of(&sources("a", "1", &[])),
            ImageKey::of(&sources("a", "2", &[])),
            ImageKey::of(&sources("b", "1", &[])),
            ImageKey::of(&sources("a", "1", &[("b", "1")])),
            ImageKey::of(&sources("a", "1", &[("b", "2")])),
            ImageKey::of(&sources("a", "1b", &[])),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn a_handler_of_requests_or_a_body_answers_them() {
        let answers = |handlers: &[&str]| {
            answers_requests(&handlers.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert!(answers(&[BODY_HANDLER]) && answers(&["on_kv", "on_request"]));
        assert!(!answers(&[]) && !answers(&["on_kv"]));
    }

    #[test]
    fn digests_round_trip_as_text() {
        let hash = SourceHash::of("1");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("xyz".parse::<SourceHash>().is_err());
    }
}
