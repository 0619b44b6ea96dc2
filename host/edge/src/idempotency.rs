//! The `Idempotency-Key` of a request.

use http::{HeaderMap, HeaderName};
use picloud_core::ErrorCode;

use crate::Problem;

/// Names a request, so that the same one is answered once.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that an answer was given before.
pub const PICLOUD_IDEMPOTENT_REPLAY: HeaderName = HeaderName::from_static("picloud-idempotent-replay");

/// The key of a request: 1 to 255 visible ASCII characters.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_key =
        |text: &&str| (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let text = value.to_str().ok().map(str::trim).filter(is_key);
    match (text, values.next()) {
        (Some(text), None) => Ok(Some(text.to_owned())),
        _ => {
            let detail =
                "idempotency-key must be one value of 1 to 255 visible ASCII characters, without spaces";
            Err(Problem::new(ErrorCode::BadRequest).detail(detail))
        }
    }
}

/// Why a request under a key is not answered: it is being answered right now.
pub fn under_way() -> Problem {
    Problem::new(ErrorCode::IdempotencyConflict).detail("the same request is under way").retry_after(1)
}

/// Why a request under a key is not answered: another one has it.
pub fn key_of_another() -> Problem {
    Problem::new(ErrorCode::IdempotencyConflict).detail("another request was made under this idempotency-key")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_one_short_text() {
        let read = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
            }
            idempotency_key(&headers).map_err(|_| ())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[b" order-7 "]), Ok(Some("order-7".into())));
        assert_eq!(read(&[&[b'a'; 255]]), Ok(Some("a".repeat(255))));
        for wrong in
            [&[&b""[..]][..], &[&[b'a'; 256]], &[b"a", b"a"], &["\u{e9}".as_bytes()], &[b"a b"], &[b"a\tb"]]
        {
            assert_eq!(read(wrong), Err(()), "{wrong:?}");
        }
    }
}
