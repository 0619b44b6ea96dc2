//! Signing in by way of an OpenID Connect issuer: the authorization code flow with PKCE (OpenID Connect Core 1.0,
//! RFC 7636).
//!
//! What comes from outside, the browser's query and every answer of the issuer, is taken for nothing before it is
//! checked. Whom the issuer has signed in is an [`IssuedIdentity`]; who that is here the store knows.

mod attempts;
mod http;
mod id_token;
mod issuer;
mod keys;
mod names;
mod settings;
mod signatures;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use form_urlencoded::Serializer;
use picloud_core::{ErrorCode, PrincipalName};
use picloud_store::IssuedIdentity;
use sha2::{Digest as _, Sha256};

pub use self::settings::{AllowedEmails, ClientSecret, IssuerUrl, OidcConfig, PublicUrl};
use self::{attempts::Attempts, issuer::Issuer};
pub(crate) use self::{
    attempts::{Attempt, LIFETIME},
    issuer::IssuerError,
    settings::normal_email,
};
use crate::{error::ApiError, token::random_text};

/// What is asked of the user's data: who it is, and its address.
const SCOPE: &str = "openid email";

/// Longer texts of a query are not looked at.
const MAX_QUERY_TEXT: usize = 4096;

/// Signs users in by way of one issuer.
pub(crate) struct Oidc {
    config: OidcConfig,
    issuer: Issuer,
    attempts: Attempts,
}

/// A sign-in that has begun.
pub(crate) struct Begun {
    /// Where the browser goes: the issuer's page.
    pub(crate) location: String,
    /// What the browser keeps in a cookie until it comes back.
    pub(crate) browser: String,
}

/// What the issuer's page sends the browser back with.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    /// The state that it was sent with.
    pub(crate) state: Option<String>,
    /// What the tokens are fetched with.
    pub(crate) code: Option<String>,
    /// Why there is no code.
    pub(crate) error: Option<String>,
    /// The issuer, where it says so (RFC 9207).
    pub(crate) iss: Option<String>,
}

/// Why a sign-in was refused, as the audit log has it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "this sign-in was not begun in this browser, is over, or was begun more than 10 minutes ago; begin again"
    )]
    UnknownAttempt,
    #[error("too many sign-ins have begun and are not over; try again later")]
    TooMany,
    #[error("the issuer has not signed the user in: {0}")]
    Declined(String),
    #[error("the issuer's ID token is not valid: {0}")]
    Token(&'static str),
    #[error("the issuer does not say that the user's e-mail address is verified")]
    Unverified,
    #[error("the e-mail address is not one of those that may sign in here")]
    NotAllowed { email: String },
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error("the operating system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

impl Refusal {
    /// What the client is told.
    pub(crate) fn to_error(&self) -> ApiError {
        let code = match self {
            Self::UnknownAttempt => ErrorCode::BadRequest,
            Self::TooMany | Self::Issuer(IssuerError::Busy) => ErrorCode::NodeBusy,
            Self::Declined(_) | Self::Unverified | Self::NotAllowed { .. } => ErrorCode::Forbidden,
            Self::Token(_) => ErrorCode::Unauthenticated,
            Self::Issuer(error) => {
                tracing::warn!(%error, "the issuer that signs users in fails");
                let detail = "the issuer does not answer as it should; the server's log has the cause";
                return ApiError::new(ErrorCode::IssuerUnavailable, detail);
            }
            Self::Random(error) => return ApiError::internal("a sign-in", error),
        };
        ApiError::new(code, self.to_string())
    }

    /// The address of whom it is about, where the issuer vouches for that.
    pub(crate) fn email(&self) -> Option<&str> {
        match self {
            Self::NotAllowed { email } => Some(email),
            _ => None,
        }
    }
}

impl Oidc {
    pub(crate) fn new(config: OidcConfig) -> Self {
        signatures::install();
        Self { issuer: Issuer::new(&config), attempts: Attempts::default(), config }
    }

    /// The issuer, as clients are told.
    pub(crate) fn issuer(&self) -> &str {
        self.config.issuer.as_str()
    }

    /// The address of this server that users are told, where it is set.
    pub(crate) fn public_url(&self) -> Option<&str> {
        self.config.public_url.as_ref().map(PublicUrl::as_str)
    }

    /// The names that a new user of this address may get; none where nobody is made.
    pub(crate) fn names_for(&self, email: &str) -> Vec<PrincipalName> {
        if self.config.create { names::names_for(email) } else { Vec::new() }
    }

    /// Begins a sign-in that comes back to `redirect_uri`.
    pub(crate) async fn begin(&self, redirect_uri: String) -> Result<Begun, Refusal> {
        let metadata = self.issuer.metadata().await?;
        let [state, nonce, verifier, browser] =
            [random_text("")?, random_text("")?, random_text("")?, random_text("")?];
        let query = Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", &redirect_uri)
            .append_pair("scope", SCOPE)
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &challenge(&verifier))
            .append_pair("code_challenge_method", "S256")
            .finish();
        let page = &metadata.authorization_endpoint;
        let separator = if page.contains('?') { '&' } else { '?' };
        let location = format!("{page}{separator}{query}");
        self.attempts.add(state, &browser, Attempt { nonce, verifier, redirect_uri })?;
        Ok(Begun { location, browser })
    }

    /// Whom the issuer has signed in, by what the browser has come back with and the cookie it had kept.
    pub(crate) async fn complete(
        &self,
        returned: Returned,
        browser: Option<&str>,
    ) -> Result<IssuedIdentity, Refusal> {
        let state = returned.state.filter(|state| state.len() <= MAX_QUERY_TEXT);
        let (Some(state), Some(browser)) = (state, browser) else { return Err(Refusal::UnknownAttempt) };
        let attempt = self.attempts.take(&state, browser).ok_or(Refusal::UnknownAttempt)?;
        if returned.iss.is_some_and(|iss| iss != self.config.issuer.as_str()) {
            return Err(Refusal::Declined("the answer is another issuer's".into()));
        }
        if let Some(error) = returned.error {
            return Err(Refusal::Declined(shown(&error)));
        }
        let code = returned.code.filter(|code| !code.is_empty() && code.len() <= MAX_QUERY_TEXT);
        let code = code.ok_or_else(|| Refusal::Declined("there is no code".into()))?;
        let tokens = self.issuer.redeem(&code, &attempt).await?;
        let user = id_token::verify(&self.issuer, &self.config, &tokens.id_token, &attempt.nonce).await?;
        let (email, is_verified) = match (user.email, tokens.access_token) {
            (None, Some(access_token)) => self.issuer.email_of(&user.subject, &access_token).await?,
            (email, _) => (email, user.email_verified),
        };
        let email = email.filter(|_| is_verified).ok_or(Refusal::Unverified)?;
        let email = normal_email(&email).ok_or(Refusal::Unverified)?;
        if !self.config.allowed.allows(&email) {
            return Err(Refusal::NotAllowed { email });
        }
        let issuer = self.config.issuer.as_str().to_owned();
        Ok(IssuedIdentity { issuer, subject: user.subject, email })
    }
}

/// What is sent ahead of the verifier (RFC 7636, 4.2).
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// A text of strangers as it is shown: an OAuth error code, and nothing else.
fn shown(text: &str) -> String {
    let is_code = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_code { text.to_owned() } else { "an error that is no error code".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636, appendix B.
        let challenge = challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn of_an_error_only_a_code_is_shown() {
        assert_eq!(shown("access_denied"), "access_denied");
        for text in ["<script>", "a b", &"x".repeat(65)] {
            assert_eq!(shown(text), "an error that is no error code");
        }
    }
}
