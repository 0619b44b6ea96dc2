//! ID tokens (OpenID Connect Core 1.0, 3.1.3.7).

use jsonwebtoken::{Algorithm, Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;

use super::{
    Refusal,
    issuer::{Issuer, Verified},
    settings::OidcConfig,
};

/// Signatures that are taken: those of keys whose public half alone is known here.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The longest key id and the longest subject; the standard's own bound for the latter.
const MAX_ID_BYTES: usize = 255;

/// How far the issuer's clock may be off, in seconds.
const LEEWAY: u64 = 60;

/// Whom a token is about.
pub(super) struct TokenUser {
    pub(super) subject: String,
    pub(super) email: Option<String>,
    pub(super) email_verified: bool,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    nonce: Option<String>,
    email: Option<String>,
    #[serde(default)]
    email_verified: Verified,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(#[expect(dead_code, reason = "its value is checked with the signature")] String),
    Many(Vec<String>),
}

/// Checks a token in every respect, and answers whom it is about.
pub(super) async fn verify(
    issuer: &Issuer,
    config: &OidcConfig,
    token: &str,
    nonce: &str,
) -> Result<TokenUser, Refusal> {
    let header = decode_header(token).map_err(|_| Refusal::Token("its header is malformed"))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Refusal::Token("its algorithm is not one of a public key"));
    }
    let id = header.kid.as_deref();
    if id.is_some_and(|id| id.len() > MAX_ID_BYTES) {
        return Err(Refusal::Token("its key id is too long"));
    }
    let key = issuer.key(id, header.alg).await?;
    let key = key.ok_or(Refusal::Token("the issuer does not know the key that it is signed with"))?;
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[config.issuer.as_str()]);
    validation.set_audience(&[&config.client_id]);
    validation.set_required_spec_claims(&["aud", "exp", "iss", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY;
    let claims = match decode::<Claims>(token, &key, &validation) {
        Ok(data) => data.claims,
        Err(error) => return Err(Refusal::Token(problem(error.kind()))),
    };
    if claims.iss != config.issuer.as_str() {
        return Err(Refusal::Token("another issuer made it"));
    }
    // Of several audiences only the authorized party may use it.
    let is_for_many = matches!(&claims.aud, Audience::Many(many) if many.len() != 1);
    match &claims.azp {
        Some(party) if *party == config.client_id => {}
        None if !is_for_many => {}
        _ => return Err(Refusal::Token("it was made for another client")),
    }
    if claims.nonce.as_deref() != Some(nonce) {
        return Err(Refusal::Token("it belongs to another sign-in"));
    }
    if claims.sub.is_empty() || claims.sub.len() > MAX_ID_BYTES || claims.sub.contains('\0') {
        return Err(Refusal::Token("its subject has no bytes or more than 255"));
    }
    Ok(TokenUser {
        subject: claims.sub,
        email: claims.email,
        email_verified: claims.email_verified.is_true(),
    })
}

fn problem(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidIssuer => "another issuer made it",
        ErrorKind::InvalidAudience => "it was made for another client",
        ErrorKind::MissingRequiredClaim(_) => "aud, exp, iss or sub is missing",
        ErrorKind::InvalidAlgorithm => "its key is for another algorithm",
        _ => "it is malformed",
    }
}
