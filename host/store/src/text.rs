//! Text between the domain and the database.

use std::{borrow::Cow, error::Error as StdError, str::FromStr};

use crate::StoreError;

/// Reads a name, code or pattern that was checked when it was stored.
pub(crate) fn parse<T: FromStr>(text: &str) -> Result<T, StoreError>
where
    T::Err: Into<Box<dyn StdError + Send + Sync>>,
{
    text.parse().map_err(|error: T::Err| StoreError::Database(error.into()))
}

/// Reads a digest that was stored.
pub(crate) fn digest(bytes: Vec<u8>) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Database("a stored digest is not 32 bytes long".into()))
}

/// Text of a log or an error message as PostgreSQL can hold it: U+0000 becomes its visible picture U+2400, and
/// what is beyond `max` bytes is cut.
pub(crate) fn printable(text: &str, max: usize) -> Cow<'_, str> {
    let end = text.floor_char_boundary(max);
    let text = &text[..end];
    if text.contains('\0') {
        // The picture takes three bytes, so the result is cut again.
        let mut replaced = text.replace('\0', "\u{2400}");
        replaced.truncate(replaced.floor_char_boundary(max));
        Cow::Owned(replaced)
    } else {
        Cow::Borrowed(text)
    }
}

/// A number as a signed column holds it; what does not fit is the most it can hold.
pub(crate) fn bigint(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// A number that was stored by [`bigint`].
pub(crate) fn unsigned(number: i64) -> u64 {
    number.try_into().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgres_refuses_is_replaced_and_what_is_too_long_is_cut() {
        assert_eq!(printable("a\0b", 10), "a\u{2400}b");
        assert_eq!(printable("aé", 2), "a");
        assert_eq!(printable("\0\0", 4), "\u{2400}");
        assert_eq!(printable("plain", 5), "plain");
    }
}
