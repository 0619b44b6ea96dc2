//! Signatures: `picloud-signature: t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256 of `SECONDS.BODY` under a key of the
//! route.
//!
//! The senders that sign in their own way (GitHub, Stripe, Slack) differ in the header, in how it is read into a
//! [`Claim`], and in what is signed before the body; what follows from there is the same.

use hmac::{Hmac, Mac as _};
use http::{HeaderMap, HeaderName};
use picloud_store::RouteKey;
use sha2::Sha256;
use time::OffsetDateTime;

use super::replays::{Claimed, Mark, Replays};

pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("picloud-signature");

/// How far the time of a signature may be from now, in seconds.
const TOLERANCE: u64 = 300;

/// The longest header.
const MAX_BYTES: usize = 1024;

/// The most signatures in a header: a sender that changes its key signs with both.
const MOST_DIGESTS: usize = 4;

/// Why a signature was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignatureError {
    #[error("this route needs a signature: picloud-signature: t=SECONDS,v1=HEX")]
    Missing,
    #[error("the request has two picloud-signature headers")]
    Twice,
    #[error("picloud-signature is not t=SECONDS,v1=HEX with the 64 hexadecimal digits of an HMAC-SHA256")]
    Malformed,
    #[error("the signature's time is more than 300 seconds from now")]
    Stale,
    #[error("the signature is not one of this body and this time under a key of the route")]
    Wrong,
    #[error("this signature was used before")]
    Used,
}

/// What a header claims.
#[derive(Debug, PartialEq, Eq)]
struct Claim<'h> {
    /// As it is written, since that is what was signed.
    time: &'h str,
    seconds: i64,
    digests: Vec<[u8; 32]>,
}

/// Checks the signature of a request, and claims it: it is good once.
pub(super) fn check<'r>(
    headers: &HeaderMap,
    body: &[u8],
    keys: &[RouteKey],
    now: OffsetDateTime,
    replays: &'r Replays,
) -> Result<Claimed<'r>, SignatureError> {
    let claim = Claim::read(headers)?;
    if claim.seconds.abs_diff(now.unix_timestamp()) > TOLERANCE {
        return Err(SignatureError::Stale);
    }
    let mut is_right = false;
    // The marks of all keys: else a request signed with both could come again with the other one.
    let mut marks = Vec::with_capacity(keys.len());
    for key in keys.iter().filter(|key| key.expires_at.is_none_or(|end| end > now)) {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.key.reveal().as_bytes()) else { continue };
        for part in [claim.time.as_bytes(), b".", body] {
            mac.update(part);
        }
        for digest in &claim.digests {
            // In a time that does not depend on where they differ.
            is_right |= mac.clone().verify_slice(digest).is_ok();
        }
        let digest = mac.finalize().into_bytes();
        let mark: Mark = std::array::from_fn(|i| digest[i]);
        marks.push(mark);
    }
    if !is_right {
        return Err(SignatureError::Wrong);
    }
    replays.claim(marks).ok_or(SignatureError::Used)
}

impl<'h> Claim<'h> {
    fn read(headers: &'h HeaderMap) -> Result<Self, SignatureError> {
        let mut values = headers.get_all(SIGNATURE).iter();
        let value = values.next().ok_or(SignatureError::Missing)?;
        if values.next().is_some() {
            return Err(SignatureError::Twice);
        }
        let text = value.to_str().ok().filter(|text| text.len() <= MAX_BYTES);
        text.and_then(Self::parse).ok_or(SignatureError::Malformed)
    }

    /// Parts of other names are left for later versions.
    fn parse(text: &'h str) -> Option<Self> {
        let mut time = None;
        let mut digests = Vec::new();
        for part in text.split(',') {
            match part.trim().split_once('=')? {
                ("t", seconds) if time.is_none() => time = Some(seconds),
                ("v1", digest) if digests.len() < MOST_DIGESTS => digests.push(hex(digest)?),
                ("t" | "v1", _) => return None,
                _ => {}
            }
        }
        let time = time.filter(|time| time.len() <= 12 && time.bytes().all(|byte| byte.is_ascii_digit()))?;
        let seconds = time.parse().ok()?;
        (!digests.is_empty()).then_some(Self { time, seconds, digests })
    }
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use picloud_store::SigningKey;

    use super::*;

    const BODY: &[u8] = b"{\"order\": 7}";

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap()
    }

    fn key(text: &str) -> RouteKey {
        RouteKey { key: SigningKey::from_text(text), expires_at: None }
    }

    fn digest(key: &str, time: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(&[time.as_bytes(), b".", body].concat());
        format!("{:x}", mac.finalize().into_bytes())
    }

    fn signed(key: &str, time: &str) -> String {
        format!("t={time},v1={}", digest(key, time, BODY))
    }

    fn checked(values: &[&str], body: &[u8], keys: &[RouteKey]) -> Result<(), SignatureError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(SIGNATURE, value.parse().unwrap());
        }
        check(&headers, body, keys, now(), &Replays::default()).map(Claimed::keep)
    }

    /// The value is of `openssl dgst -sha256 -hmac`, so that what is documented is what is checked.
    #[test]
    fn a_signature_made_elsewhere_is_good() {
        let value = "t=1700000000,v1=23e2db7bf25b3a35a4b45973e6065cb672a77de0d311edc67f136d1badab8d1d";
        assert_eq!(checked(&[value], b"hello", &[key("a key of sixteen")]), Ok(()));
    }

    #[test]
    fn the_body_the_time_and_the_key_count() {
        let good = signed("k", "1700000000");
        assert_eq!(checked(&[&good], BODY, &[key("k")]), Ok(()));
        assert_eq!(checked(&[&good], b"{\"order\": 8}", &[key("k")]), Err(SignatureError::Wrong));
        assert_eq!(checked(&[&good], b"", &[key("k")]), Err(SignatureError::Wrong));
        assert_eq!(checked(&[&good], BODY, &[key("K")]), Err(SignatureError::Wrong));
        assert_eq!(checked(&[&good], BODY, &[]), Err(SignatureError::Wrong));
        let later = good.replace("t=1700000000", "t=1700000001");
        assert_eq!(checked(&[&later], BODY, &[key("k")]), Err(SignatureError::Wrong));
    }

    #[test]
    fn a_signature_is_good_around_its_time() {
        for (time, expected) in [
            ("1699999700", Ok(())),
            ("1700000300", Ok(())),
            ("1699999699", Err(SignatureError::Stale)),
            ("1700000301", Err(SignatureError::Stale)),
            ("0", Err(SignatureError::Stale)),
            ("999999999999", Err(SignatureError::Stale)),
        ] {
            assert_eq!(checked(&[&signed("k", time)], BODY, &[key("k")]), expected, "{time}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_refused() {
        let good = signed("k", "1700000000");
        let digest = &good[good.find("v1=").unwrap() + 3..];
        let refused = |value: &str| checked(&[value], BODY, &[key("k")]);
        for bad in [
            String::new(),
            "t=1700000000".to_owned(),
            format!("v1={digest}"),
            digest.to_owned(),
            good[..good.len() - 1].to_owned(),
            good[..good.len() - 2].to_owned(),
            format!("{good}0"),
            format!("t=1700000000,v1=0x{}", &digest[2..]),
            format!("t=1700000000,v1=+{}", &digest[1..]),
            "t=1700000000,v1=a+LRHNnibr7Tvhof+YzqmtZPSPJaFew+9LCsWrLRHEo=".to_owned(),
            format!("t=+1700000000,v1={digest}"),
            format!("t=1700000000.0,v1={digest}"),
            format!("t=1700000000,t=1700000000,v1={digest}"),
            format!("t=1700000000{}", format!(",v1={digest}").repeat(5)),
            format!("{good},{}", "x=y,".repeat(400)),
            format!("t=1700000000;v1={digest}"),
        ] {
            assert_eq!(refused(&bad), Err(SignatureError::Malformed), "{bad}");
        }
        assert_eq!(checked(&[], BODY, &[key("k")]), Err(SignatureError::Missing));
        assert_eq!(checked(&[&good, &good], BODY, &[key("k")]), Err(SignatureError::Twice));
        assert_eq!(refused(&good.to_uppercase().replace("T=", "t=").replace("V1=", "v1=")), Ok(()));
        assert_eq!(refused(&format!("{good}, v2=later")), Ok(()));
    }

    #[test]
    fn two_keys_are_good_until_the_old_one_ends() {
        let end = |seconds: i64| Some(now() + time::Duration::seconds(seconds));
        let keys = |seconds: i64| [key("new"), RouteKey { expires_at: end(seconds), ..key("old") }];
        for name in ["new", "old"] {
            assert_eq!(checked(&[&signed(name, "1700000000")], BODY, &keys(1)), Ok(()), "{name}");
        }
        let old = signed("old", "1700000000");
        assert_eq!(checked(&[&old], BODY, &keys(0)), Err(SignatureError::Wrong));
    }

    #[test]
    fn a_request_signed_with_both_keys_does_not_come_again_with_one() {
        let keys = [key("new"), key("old")];
        let replays = Replays::default();
        let (new, old) = (digest("new", "1700000000", BODY), digest("old", "1700000000", BODY));
        let check = |value: String| {
            let headers = HeaderMap::from_iter([(SIGNATURE, value.parse().unwrap())]);
            check(&headers, BODY, &keys, now(), &replays).map(Claimed::keep)
        };
        assert_eq!(check(format!("t=1700000000,v1={new},v1={old}")), Ok(()));
        for again in [format!("t=1700000000,v1={old}"), format!("t=1700000000,v1={new}")] {
            assert_eq!(check(again), Err(SignatureError::Used));
        }
    }

    #[test]
    fn any_header_is_read_or_refused() {
        bolero::check!(name = "signature").with_max_len(64).with_iterations(20_000).for_each(
            |input: &[u8]| {
                let digest = "0f".repeat(32);
                let parts =
                    ["t=", "v1=", &digest, ",", " ", "1700000000", "v2=x", "=", "F", "-1", "99999999999999"];
                let text: String = input.iter().map(|byte| parts[usize::from(*byte) % parts.len()]).collect();
                let Some(claim) = Claim::parse(&text) else { return };
                assert!((1..=MOST_DIGESTS).contains(&claim.digests.len()));
                assert!(claim.time.bytes().all(|byte| byte.is_ascii_digit()) && claim.seconds >= 0);
            },
        );
    }
}
