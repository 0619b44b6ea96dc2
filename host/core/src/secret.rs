//! Secrets: values that scripts may read and nobody else.

use std::{fmt, str::FromStr};

use zeroize::Zeroizing;

use crate::{AppId, SecretName};

/// A secret in clear: 1 byte to 64 KiB of any text. Its memory is overwritten when it is dropped, and no form of
/// output shows it.
pub struct SecretValue(Zeroizing<String>);

/// Why a value cannot be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretValueError {
    /// It has no byte.
    #[error("the value is empty; a secret has 1 byte to {max} bytes", max = SecretValue::MAX_BYTES)]
    Empty,
    /// It has too many bytes.
    #[error("the value has {0} bytes; a secret has at most {max}", max = SecretValue::MAX_BYTES)]
    TooLarge(usize),
    /// Its bytes are no text.
    #[error("the value is not UTF-8 text: byte {0} starts no character")]
    NotText(usize),
}

impl SecretValue {
    /// The longest value, in bytes.
    pub const MAX_BYTES: usize = 64 << 10;

    /// Takes over bytes that are UTF-8 text. They are overwritten also where they are refused.
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretValueError> {
        let bytes = Zeroizing::new(bytes);
        if bytes.is_empty() {
            return Err(SecretValueError::Empty);
        }
        if bytes.len() > Self::MAX_BYTES {
            return Err(SecretValueError::TooLarge(bytes.len()));
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Self(Zeroizing::new(text.to_owned()))),
            Err(error) => Err(SecretValueError::NotText(error.valid_up_to())),
        }
    }

    /// The value in clear, for whoever it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}

/// Names one write of a secret: no two values of the platform have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretVersion(i64);

impl SecretVersion {
    /// Wraps a version of the storage.
    pub const fn from_i64(version: i64) -> Self {
        Self(version)
    }

    /// The version as storage keeps it.
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

/// Names a key that secrets are encrypted with: `k` and 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKeyId(String);

impl SecretKeyId {
    /// The id that these random bytes make.
    pub fn from_random(bytes: [u8; 8]) -> Self {
        Self(format!("k{:016x}", u64::from_be_bytes(bytes)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretKeyId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix('k').unwrap_or_default();
        let is_id = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| Self(text.to_owned())).ok_or("the id of a key is k and 16 hexadecimal digits")
    }
}

/// What a ciphertext is bound to: moved to another place, it cannot be decrypted.
#[derive(Clone, Copy, Debug)]
pub struct SecretPlace<'a> {
    /// The app.
    pub app: AppId,
    /// The secret's name in it.
    pub name: &'a SecretName,
    /// Which of its values it is.
    pub version: SecretVersion,
}

/// A secret as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSecret {
    /// The key it is encrypted with.
    pub key: SecretKeyId,
    /// The nonce, never used twice.
    pub nonce: [u8; 24],
    /// The ciphertext and its tag.
    pub ciphertext: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_text_of_bounded_length_and_is_never_printed() {
        let value = SecretValue::new(b"hunter2\0".to_vec()).unwrap();
        assert_eq!(value.expose(), "hunter2\0");
        assert_eq!(format!("{value:?}"), "SecretValue(..)");
        assert!(SecretValue::new(vec![b'x'; SecretValue::MAX_BYTES]).is_ok());
        for (bytes, error) in [
            (vec![], SecretValueError::Empty),
            (vec![b'x'; SecretValue::MAX_BYTES + 1], SecretValueError::TooLarge(SecretValue::MAX_BYTES + 1)),
            (b"hunter2\xff".to_vec(), SecretValueError::NotText(7)),
        ] {
            let refused = SecretValue::new(bytes).unwrap_err();
            assert_eq!(refused, error);
            assert!(!refused.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn ids_of_keys_have_one_form() {
        let id = SecretKeyId::from_random([0, 1, 2, 3, 4, 5, 6, 255]);
        assert_eq!(id.as_str(), "k00010203040506ff");
        assert_eq!(id.as_str().parse(), Ok(id));
        for bad in ["", "k", "00010203040506ff", "k00010203040506FF", "k00010203040506ff0"] {
            assert!(bad.parse::<SecretKeyId>().is_err(), "{bad}");
        }
    }
}
