//! XChaCha20-Poly1305 over one value.

use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use picloud_core::{SealedSecret, SecretKeyId, SecretPlace, SecretValue};

use crate::{VaultError, ring::KeyBytes};

/// What this form of ciphertext begins its associated data with: another form gets another name.
const FORM: &[u8] = b"picloud secret 1";

pub(crate) fn seal(
    id: &SecretKeyId,
    key: &KeyBytes,
    place: SecretPlace<'_>,
    value: &SecretValue,
) -> Result<SealedSecret, VaultError> {
    // 192 random bits: no two of all values that are ever encrypted have the same.
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce)?;
    let payload = Payload { msg: value.expose().as_bytes(), aad: &bound_to(id, place) };
    let ciphertext = cipher(key).encrypt(&XNonce::from(nonce), payload).map_err(|_| VaultError::Refused)?;
    Ok(SealedSecret { key: id.clone(), nonce, ciphertext })
}

pub(crate) fn unseal(
    key: &KeyBytes,
    place: SecretPlace<'_>,
    sealed: &SealedSecret,
) -> Result<SecretValue, VaultError> {
    let payload = Payload { msg: &sealed.ciphertext, aad: &bound_to(&sealed.key, place) };
    let bytes =
        cipher(key).decrypt(&XNonce::from(sealed.nonce), payload).map_err(|_| VaultError::Tampered)?;
    SecretValue::new(bytes).map_err(|_| VaultError::Tampered)
}

fn cipher(key: &KeyBytes) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(**key))
}

/// The associated data: every part but the last has a fixed length or says its own.
fn bound_to(id: &SecretKeyId, place: SecretPlace<'_>) -> Vec<u8> {
    let name = place.name.as_str().as_bytes();
    let mut data = FORM.to_vec();
    data.extend_from_slice(place.app.as_uuid().as_bytes());
    data.extend_from_slice(&place.version.as_i64().to_be_bytes());
    data.extend_from_slice(&(name.len() as u64).to_be_bytes());
    data.extend_from_slice(name);
    data.extend_from_slice(id.as_str().as_bytes());
    data
}
