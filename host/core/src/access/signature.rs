//! How the callers of a route sign.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::AccessError;

/// How the callers of a route with [`RouteAccess::Hmac`](super::RouteAccess::Hmac) sign their requests: the platform's own
/// way, or that of a service which sends webhooks. All of them are an HMAC-SHA256 under a key of the route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SignatureScheme {
    /// `picloud-signature: t=SECONDS,v1=HEX` over `SECONDS.BODY`.
    #[default]
    Picloud,
    /// `x-hub-signature-256: sha256=HEX` over the body.
    Github,
    /// `stripe-signature: t=SECONDS,v1=HEX` over `SECONDS.BODY`.
    Stripe,
    /// `x-slack-signature: v0=HEX` over `v0:SECONDS:BODY`, with `x-slack-request-timestamp: SECONDS`.
    Slack,
    /// A header with the digits, in hexadecimal or base64, over the body.
    Generic(SignatureHeader),
}

/// The name of a header that has a signature: 1 to 64 of `a-z 0-9 -`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureHeader(String);

/// What stands before a header of its own.
const GENERIC: &str = "generic";

impl SignatureScheme {
    /// The header that has the signature, in lower case.
    pub fn header(&self) -> &str {
        match self {
            Self::Picloud => "picloud-signature",
            Self::Github => "x-hub-signature-256",
            Self::Stripe => "stripe-signature",
            Self::Slack => "x-slack-signature",
            Self::Generic(header) => header.as_str(),
        }
    }
}

impl SignatureHeader {
    /// A header; its name is taken in lower case.
    pub fn new(name: &str) -> Result<Self, AccessError> {
        let name = name.to_ascii_lowercase();
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=64).contains(&name.len()) || !name.bytes().all(is_allowed) {
            return Err(AccessError(
                "the header of a signature has a wrong name; allowed are 1 to 64 of a-z, 0-9 and -".into(),
            ));
        }
        Ok(Self(name))
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SignatureHeader {
    fn default() -> Self {
        Self("x-signature".to_owned())
    }
}

impl fmt::Display for SignatureScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Picloud => f.write_str("picloud"),
            Self::Github => f.write_str("github"),
            Self::Stripe => f.write_str("stripe"),
            Self::Slack => f.write_str("slack"),
            Self::Generic(header) if *header == SignatureHeader::default() => f.write_str(GENERIC),
            Self::Generic(header) => write!(f, "{GENERIC}:{}", header.as_str()),
        }
    }
}

impl FromStr for SignatureScheme {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        Ok(match text {
            "picloud" => Self::Picloud,
            "github" => Self::Github,
            "stripe" => Self::Stripe,
            "slack" => Self::Slack,
            GENERIC => Self::Generic(SignatureHeader::default()),
            other => match other.split_once(':') {
                Some((GENERIC, header)) => Self::Generic(SignatureHeader::new(header)?),
                _ => {
                    let shown: String = other.chars().take(100).collect();
                    return Err(AccessError(format!(
                        "the signature is {shown:?}; allowed are picloud, github, stripe, slack, generic and generic:HEADER"
                    )));
                }
            },
        })
    }
}

impl TryFrom<String> for SignatureScheme {
    type Error = AccessError;

    fn try_from(text: String) -> Result<Self, AccessError> {
        text.parse()
    }
}

impl From<SignatureScheme> for String {
    fn from(scheme: SignatureScheme) -> Self {
        scheme.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_round_trip() {
        for text in ["picloud", "github", "stripe", "slack", "generic", "generic:x-shopify-hmac-sha256"] {
            let scheme: SignatureScheme = text.parse().unwrap();
            assert_eq!(scheme.to_string(), text);
            assert_eq!(serde_json::to_value(&scheme).unwrap(), text);
        }
        assert_eq!("generic:X-Signature".parse::<SignatureScheme>().unwrap().to_string(), "generic");
        assert_eq!("generic:X-A".parse::<SignatureScheme>().unwrap().header(), "x-a");
        let long = format!("generic:{}", "x".repeat(65));
        for bad in [
            "",
            "GitHub",
            "gitlab",
            "github:x-a",
            "generic:",
            "generic:a b",
            "generic:a\r\nb",
            "generic:é",
            &long,
        ] {
            let error = bad.parse::<SignatureScheme>().unwrap_err().to_string();
            assert!(error.contains("allowed are"), "{bad}: {error}");
        }
    }
}
