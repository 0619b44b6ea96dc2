//! Proof that somebody decides about a host name that is to be served for an app.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::DomainName;

/// How it was proved that a host may be served for an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofMethod {
    /// A TXT record below the host's name.
    Dns,
    /// An owner of the installation vouched for it.
    Operator,
}

impl ProofMethod {
    /// Every method.
    pub const ALL: [Self; 2] = [Self::Dns, Self::Operator];

    /// The method as the API and the database have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for ProofMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProofMethod {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|method| method.as_str() == text);
        known.ok_or("a proof is dns or operator")
    }
}

/// What the proof of one claim has to say: 32 hexadecimal digits. It is no secret; nobody else's claim has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainChallenge(String);

impl DomainChallenge {
    /// The challenge that these random bytes make.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bytes)))
    }

    /// The challenge as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text that the record has to have.
    pub fn proof(&self) -> String {
        format!("picloud-verification={}", self.0)
    }

    /// The name of the TXT record; it can be too long for DNS, whose names have at most 253 bytes.
    pub fn record(domain: &DomainName) -> String {
        format!("_picloud.{domain}")
    }
}

impl FromStr for DomainChallenge {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_one = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_one.then(|| Self(text.to_owned())).ok_or("a challenge is 32 hexadecimal digits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_has_one_form() {
        let challenge =
            DomainChallenge::from_random(*b"\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\xff");
        assert_eq!(challenge.proof(), "picloud-verification=000102030405060708090a0b0c0d0eff");
        assert_eq!(challenge.as_str().parse(), Ok(challenge));
        for bad in ["", "0", "000102030405060708090A0B0C0D0EFF", "000102030405060708090a0b0c0d0eff0"] {
            assert!(bad.parse::<DomainChallenge>().is_err(), "{bad}");
        }
        for method in ProofMethod::ALL {
            assert_eq!(method.as_str().parse(), Ok(method));
        }
        assert!("DNS".parse::<ProofMethod>().is_err());
    }
}
