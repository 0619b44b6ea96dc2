//! The keys of an issuer (RFC 7517).

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse},
};
use serde::{Deserialize, Deserializer};

/// The keys that tokens may be signed with.
#[derive(Deserialize)]
pub(super) struct KeySet {
    #[serde(deserialize_with = "known_keys")]
    keys: Vec<Jwk>,
}

/// Keys of kinds that are not known are left out.
fn known_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Jwk>, D::Error> {
    let keys = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect())
}

impl KeySet {
    /// The key of an id; without an id the only one that is of the algorithm's kind.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let keys = self.keys.iter().filter(|key| is_for(key, algorithm));
        let mut found = keys.filter(|key| id.is_none_or(|id| key.common.key_id.as_deref() == Some(id)));
        let key = found.next()?;
        match found.next() {
            None => DecodingKey::from_jwk(key).ok(),
            Some(_) => None,
        }
    }
}

/// Whether a key is one to check signatures of the algorithm with. Shared secrets never are.
fn is_for(key: &Jwk, algorithm: Algorithm) -> bool {
    use Algorithm as A;
    let is_of_kind = match key.algorithm {
        AlgorithmParameters::RSA(_) => {
            matches!(algorithm, A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512)
        }
        AlgorithmParameters::EllipticCurve(_) => matches!(algorithm, A::ES256 | A::ES384),
        AlgorithmParameters::OctetKeyPair(_) => algorithm == A::EdDSA,
        _ => false,
    };
    let is_to_sign = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let named = key.common.key_algorithm.map(|named| named.to_string());
    is_of_kind && is_to_sign && named.is_none_or(|named| named == format!("{algorithm:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_for_the_algorithms_of_its_kind() {
        let key = |text: &str| serde_json::from_str::<Jwk>(text).unwrap();
        let rsa = key(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#);
        assert!(is_for(&rsa, Algorithm::RS256) && is_for(&rsa, Algorithm::PS512));
        assert!(!is_for(&rsa, Algorithm::ES256) && !is_for(&rsa, Algorithm::HS256));
        let named = key(r#"{"kty":"RSA","n":"AQAB","e":"AQAB","alg":"RS256","use":"sig"}"#);
        assert!(is_for(&named, Algorithm::RS256) && !is_for(&named, Algorithm::PS256));
        let to_encrypt = key(r#"{"kty":"RSA","n":"AQAB","e":"AQAB","use":"enc"}"#);
        assert!(!is_for(&to_encrypt, Algorithm::RS256));
        let shared = key(r#"{"kty":"oct","k":"AQAB"}"#);
        assert!(!is_for(&shared, Algorithm::HS256));
    }

    #[test]
    fn without_an_id_there_must_be_one_key_only() {
        let set: KeySet = serde_json::from_str(
            r#"{"keys":[{"kty":"new"},{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"a"},
                {"kty":"RSA","n":"AQAC","e":"AQAB","kid":"b"},{"kty":"OKP","crv":"Ed25519","x":"AQAB"}]}"#,
        )
        .unwrap();
        assert!(set.find(Some("a"), Algorithm::RS256).is_some());
        assert!(set.find(Some("c"), Algorithm::RS256).is_none());
        assert!(set.find(None, Algorithm::RS256).is_none());
        assert!(set.find(None, Algorithm::EdDSA).is_some());
        assert!(set.find(None, Algorithm::ES256).is_none());
    }
}
