//! Why a call has no answer that a script could get.

use picloud_core::{ErrorCode, HostError};

use crate::policy::Refusal;

/// A failed call. The texts are for the script's author.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("http: {0}")]
    Invalid(String),
    #[error("http: {0}")]
    Refused(#[from] Refusal),
    #[error(
        "http: {0} has no address that scripts may reach: private, local and special addresses are closed; \
         PiCloud's operator can open networks with PICLOUD_EGRESS_PRIVATE"
    )]
    Address(String),
    #[error("http: {0} did not answer in time")]
    Timeout(String),
    #[error("http: {place} {problem}")]
    Failed { place: String, problem: String },
    #[error("http: {place} answered {what}")]
    TooLarge { place: String, what: String },
}

impl Failure {
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) | Self::Refused(Refusal::Url(_)) => ErrorCode::Invalid,
            Self::Refused(Refusal::NotAllowed { .. }) => ErrorCode::EgressDenied,
            Self::Address(_) => ErrorCode::EgressAddressDenied,
            Self::Timeout(_) => ErrorCode::EgressTimeout,
            Self::Failed { .. } => ErrorCode::EgressFailed,
            Self::TooLarge { .. } => ErrorCode::ResponseTooLarge,
        }
    }

    pub(crate) fn failed(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Failed { place: place.into(), problem: problem.into() }
    }
}

impl From<Failure> for HostError {
    fn from(failure: Failure) -> Self {
        Self::new(failure.code(), failure.to_string())
    }
}
