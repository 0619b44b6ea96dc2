//! API tokens: `pcl_` and 256 random bits. Only the SHA-256 of a token is ever stored; it is looked up by that
//! hash, so that the time of a look-up tells nothing about a token.

use std::fmt;

use picloud_store::{SigningKey, TokenHash};

/// What every token starts with, so that one in a log or a repository is recognised.
pub const TOKEN_PREFIX: &str = "pcl_";

/// What the value of every session cookie starts with.
const SESSION_PREFIX: &str = "pcls_";

/// A token in clear. It is shown once, where it is made; its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// A new token from the operating system's randomness.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        random_text(TOKEN_PREFIX).map(Self)
    }

    /// A new session, likewise.
    pub(crate) fn generate_session() -> Result<Self, getrandom::Error> {
        random_text(SESSION_PREFIX).map(Self)
    }

    /// A token as a client or a file gave it; it may be anything.
    pub(crate) fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The token in clear.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub(crate) fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }

    /// Whether it has the form of a token that this program made.
    pub(crate) fn is_well_formed(&self) -> bool {
        let digits = self.0.strip_prefix(TOKEN_PREFIX).unwrap_or_default();
        digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What every key starts with that callers of a route sign with.
const SIGNING_KEY_PREFIX: &str = "pcs_";

/// A new key to sign with, from the operating system's randomness.
pub(crate) fn new_signing_key() -> Result<SigningKey, getrandom::Error> {
    random_text(SIGNING_KEY_PREFIX).map(SigningKey::from_text)
}

/// A prefix and 256 random bits in hexadecimal digits.
pub(crate) fn random_text(prefix: &str) -> Result<String, getrandom::Error> {
    let mut bits = [0_u8; 32];
    getrandom::fill(&mut bits)?;
    let mut text = prefix.to_owned();
    text.extend(bits.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 0xf)]));
    Ok(text)
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_256_random_bits_and_never_printed() {
        let (one, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one, other);
        assert!(one.is_well_formed());
        assert!(!Secret::from_text("pcl_").is_well_formed());
        assert!(!format!("{one:?}").contains(&one.reveal()[4..]));
        let (one, other) = (new_signing_key().unwrap(), new_signing_key().unwrap());
        assert!(one != other && one.reveal().starts_with("pcs_") && one.reveal().len() == 68);
    }
}
