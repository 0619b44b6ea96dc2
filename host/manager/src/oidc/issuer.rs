//! The issuer as it answers: its document, its keys, its tokens.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use form_urlencoded::{Serializer, byte_serialize};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use super::{
    Refusal,
    attempts::Attempt,
    http::{Answer, Http},
    keys::KeySet,
    settings::{ClientSecret, IssuerUrl, OidcConfig},
    shown,
};

/// After this the document and the keys are read anew.
const FRESH: Duration = Duration::from_hours(1);

/// Keys are read again for an unknown key id, but not more often than this.
const REFETCH: Duration = Duration::from_mins(1);

/// After a failure the issuer is left alone for so long.
const REST: Duration = Duration::from_secs(3);

/// What of the issuer was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// `/.well-known/openid-configuration`.
    Document,
    /// `jwks_uri`.
    Keys,
    /// `token_endpoint`.
    Tokens,
    /// `userinfo_endpoint`.
    UserInfo,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Document => "the document",
            Self::Keys => "the keys",
            Self::Tokens => "the token endpoint",
            Self::UserInfo => "the userinfo endpoint",
        })
    }
}

/// Why the issuer could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IssuerError {
    /// There was no answer, or it took too long or was too long.
    #[error("{part} of the issuer: {cause}")]
    Unreachable {
        /// What was asked.
        part: Part,
        /// Why.
        cause: String,
    },
    /// The answer is not one of success.
    #[error("{part} of the issuer answered {status}{error}")]
    Status {
        /// What was asked.
        part: Part,
        /// The HTTP status.
        status: u16,
        /// The error code, with a separator before it.
        error: String,
    },
    /// The answer is not what the standard says.
    #[error("{part} of the issuer: {problem}")]
    Malformed {
        /// What was asked.
        part: Part,
        /// What is wrong.
        problem: String,
    },
    /// It failed a moment ago.
    #[error("the issuer failed a moment ago: {0}")]
    Resting(String),
    /// As many calls as are allowed are under way.
    #[error("too many users sign in at once; try again later")]
    Busy,
}

/// The issuer's document, as far as it is used.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// What a code is redeemed for.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub(super) id_token: String,
    pub(super) access_token: Option<String>,
}

#[derive(Deserialize)]
struct UserInfo {
    sub: String,
    email: Option<String>,
    #[serde(default)]
    email_verified: Verified,
}

/// `true`, or as some issuers write it `"true"`.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum Verified {
    Flag(bool),
    Text(String),
    #[default]
    Missing,
}

impl Verified {
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Flag(flag) => *flag,
            Self::Text(text) => text == "true",
            Self::Missing => false,
        }
    }
}

#[derive(Deserialize)]
struct OAuthError {
    error: String,
}

/// The issuer, with what is known of it.
pub(super) struct Issuer {
    url: IssuerUrl,
    client_id: String,
    client_secret: Option<ClientSecret>,
    http: Http,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    metadata: Option<(Instant, Arc<Metadata>)>,
    keys: Option<(Instant, KeySet)>,
    refetched: Option<Instant>,
    failed: Option<(Instant, String)>,
}

impl Issuer {
    pub(super) fn new(config: &OidcConfig) -> Self {
        Self {
            url: config.issuer.clone(),
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            http: Http::new(&config.issuer),
            known: Mutex::default(),
        }
    }

    /// The document.
    pub(super) async fn metadata(&self) -> Result<Arc<Metadata>, IssuerError> {
        let mut known = self.known.lock().await;
        self.metadata_in(&mut known).await
    }

    /// Whoever waits for the lock meanwhile has the same answer, also where it is a failure.
    async fn metadata_in(&self, known: &mut Known) -> Result<Arc<Metadata>, IssuerError> {
        if let Some((at, metadata)) = &known.metadata
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(metadata));
        }
        if let Some((at, cause)) = &known.failed
            && at.elapsed() < REST
        {
            return Err(IssuerError::Resting(cause.clone()));
        }
        match self.read_metadata().await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                known.metadata = Some((Instant::now(), Arc::clone(&metadata)));
                known.failed = None;
                Ok(metadata)
            }
            Err(error) => {
                if error != IssuerError::Busy {
                    known.failed = Some((Instant::now(), error.to_string()));
                }
                Err(error)
            }
        }
    }

    async fn read_metadata(&self) -> Result<Metadata, IssuerError> {
        let part = Part::Document;
        let metadata: Metadata = read(part, &self.http.get(part, &self.url.document(), None).await?)?;
        let malformed = |problem: String| Err(IssuerError::Malformed { part, problem });
        if metadata.issuer != self.url.as_str() {
            let given = metadata.issuer.chars().take(200).collect::<String>();
            return malformed(format!(
                "it is that of the issuer {given:?}, and PICLOUD_OIDC_ISSUER is {:?}; both must be the same to the \
                 letter",
                self.url.as_str()
            ));
        }
        let places = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        for place in places.into_iter().chain(&metadata.userinfo_endpoint) {
            if !self.url.trusts(place) {
                return malformed("an address in it is not one of https".into());
            }
        }
        Ok(metadata)
    }

    /// The key that a token says it is signed with. An unknown one is looked for again, at most once a minute.
    pub(super) async fn key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<DecodingKey>, IssuerError> {
        let mut known = self.known.lock().await;
        if let Some((at, keys)) = &known.keys
            && at.elapsed() < FRESH
        {
            if let Some(key) = keys.find(id, algorithm) {
                return Ok(Some(key));
            }
            if known.refetched.is_some_and(|at| at.elapsed() < REFETCH) {
                return Ok(None);
            }
            known.refetched = Some(Instant::now());
        }
        let keys = self.read_keys(&mut known).await?;
        let found = keys.find(id, algorithm);
        known.keys = Some((Instant::now(), keys));
        Ok(found)
    }

    async fn read_keys(&self, known: &mut Known) -> Result<KeySet, IssuerError> {
        let metadata = self.metadata_in(known).await?;
        read(Part::Keys, &self.http.get(Part::Keys, &metadata.jwks_uri, None).await?)
    }

    /// Redeems the code of a sign-in.
    pub(super) async fn redeem(&self, code: &str, attempt: &Attempt) -> Result<Tokens, Refusal> {
        let metadata = self.metadata().await?;
        let (form, authorization) = self.redemption(code, attempt, metadata.takes_basic());
        let part = Part::Tokens;
        let answer = self.http.post(part, &metadata.token_endpoint, form, authorization).await?;
        if error_of(&answer).as_deref() == Some("invalid_grant") {
            return Err(Refusal::Declined("it does not take the code (invalid_grant)".into()));
        }
        Ok(read(part, &answer)?)
    }

    /// The form that redeems a code, and the header that says who asks.
    fn redemption(&self, code: &str, attempt: &Attempt, takes_basic: bool) -> (String, Option<String>) {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", &attempt.redirect_uri)
            .append_pair("code_verifier", &attempt.verifier);
        match &self.client_secret {
            Some(secret) if takes_basic => {
                return (form.finish(), Some(basic(&self.client_id, secret.reveal())));
            }
            Some(secret) => {
                form.append_pair("client_id", &self.client_id).append_pair("client_secret", secret.reveal());
            }
            None => {
                form.append_pair("client_id", &self.client_id);
            }
        }
        (form.finish(), None)
    }

    /// The address of a user whose ID token has none, and whether it is verified.
    pub(super) async fn email_of(
        &self,
        subject: &str,
        access_token: &str,
    ) -> Result<(Option<String>, bool), Refusal> {
        let metadata = self.metadata().await?;
        let Some(url) = &metadata.userinfo_endpoint else { return Ok((None, false)) };
        let is_header = access_token.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_header {
            return Err(Refusal::Token("its access token is not one"));
        }
        let answer = self.http.get(Part::UserInfo, url, Some(access_token)).await?;
        let user: UserInfo = read(Part::UserInfo, &answer)?;
        if user.sub != subject {
            return Err(Refusal::Token("the userinfo endpoint answers for another user"));
        }
        Ok((user.email, user.email_verified.is_true()))
    }
}

impl Metadata {
    /// What an issuer takes that says nothing.
    fn takes_basic(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_deref();
        methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"))
    }
}

/// RFC 6749, 2.3.1: both are encoded as in a form before they are put together.
fn basic(id: &str, secret: &str) -> String {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret))))
}

fn read<T: DeserializeOwned>(part: Part, answer: &Answer) -> Result<T, IssuerError> {
    if answer.status != 200 {
        let error = error_of(answer).map(|error| format!(", {}", shown(&error))).unwrap_or_default();
        return Err(IssuerError::Status { part, status: answer.status, error });
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| IssuerError::Malformed { part, problem: error.to_string() })
}

fn error_of(answer: &Answer) -> Option<String> {
    if answer.status == 200 {
        return None;
    }
    serde_json::from_slice::<OAuthError>(&answer.body).ok().map(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_encoded_before_it_is_sent() {
        assert_eq!(basic("a:b", "c d%"), format!("Basic {}", STANDARD.encode("a%3Ab:c+d%25")));
    }

    #[test]
    fn verified_is_true_and_nothing_else() {
        let read = |text: &str| serde_json::from_str::<Verified>(text).unwrap().is_true();
        assert!(read("true") && read(r#""true""#));
        assert!(!read("false") && !read(r#""false""#) && !read(r#""1""#) && !read("null"));
        assert!(serde_json::from_str::<Verified>("1").is_err());
    }
}
