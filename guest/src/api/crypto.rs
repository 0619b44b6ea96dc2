//! `hash::` and `crypto::`: SHA-2 and HMAC.

use hmac::{Hmac, Mac};
use rhai::Dynamic;
use sha2::{Digest, Sha256, Sha512};

use super::{Part, bytes_of, encoding};
use crate::raise::{Outcome, invalid};

pub(super) fn hash_module() -> Part {
    let mut part = Part::new("hash");
    part.add("sha256(data)", |data: Dynamic| Ok(hex(&Sha256::digest(bytes_of(&data, "hash::sha256")?))));
    part.add("sha512(data)", |data: Dynamic| Ok(hex(&Sha512::digest(bytes_of(&data, "hash::sha512")?))));
    part.add("hmac(key, data)", |key: Dynamic, data: Dynamic| {
        Ok(hex(&hmac_sha256("hash::hmac", &key, &data)?))
    });
    part.add("hmac_sha512(key, data)", |key: Dynamic, data: Dynamic| hmac_sha512(&key, &data));
    part
}

pub(super) fn crypto_module() -> Part {
    let mut part = Part::new("crypto");
    part.add("equal(a, b)", |a: Dynamic, b: Dynamic| {
        Ok(equal(&bytes_of(&a, "crypto::equal")?, &bytes_of(&b, "crypto::equal")?))
    });
    part.add("verify_hmac(key, data, signature)", |key: Dynamic, data: Dynamic, signature: &str| {
        let expected = hmac_sha256("crypto::verify_hmac", &key, &data)?;
        Ok(equal(&expected, &signature_bytes(signature)))
    });
    part
}

fn hmac_sha256(function: &str, key: &Dynamic, data: &Dynamic) -> Outcome<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&bytes_of(key, function)?)
        .map_err(|_| invalid(format!("{function}: the key cannot be used")))?;
    mac.update(&bytes_of(data, function)?);
    Ok(mac.finalize().into_bytes().to_vec())
}

fn hmac_sha512(key: &Dynamic, data: &Dynamic) -> Outcome<String> {
    let function = "hash::hmac_sha512";
    let mut mac = Hmac::<Sha512>::new_from_slice(&bytes_of(key, function)?)
        .map_err(|_| invalid(format!("{function}: the key cannot be used")))?;
    mac.update(&bytes_of(data, function)?);
    Ok(hex(&mac.finalize().into_bytes()))
}

/// Hexadecimal or base64, also behind `sha256=` as webhooks have it. What is neither matches nothing.
fn signature_bytes(text: &str) -> Vec<u8> {
    let text = text.trim();
    let text = text.strip_prefix("sha256=").unwrap_or(text);
    match from_hex(text) {
        Some(bytes) => bytes,
        None => encoding::decode("crypto::verify_hmac", text).unwrap_or_default(),
    }
}

/// Compares in a time that does not depend on where two texts of the same length differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    a.len() == b.len() && difference == 0
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes().chunks(2).map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}
