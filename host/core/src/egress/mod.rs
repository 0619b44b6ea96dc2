//! What scripts may call outside: an app's allow-list, a call and its answer, and the record of what was called.

mod record;
mod rules;

use std::time::Instant;

use bytes::Bytes;

use crate::{Method, SecretMask};

pub use record::{EgressEntry, EgressLog, EgressRecord};
pub use rules::{EgressError, EgressHost, EgressRule, EgressRules, EgressScheme};

/// An HTTP request that a script makes.
#[derive(Clone, Debug)]
pub struct EgressCall {
    /// The method.
    pub method: Method,
    /// The URL as the script gave it.
    pub url: String,
    /// Header names and values as the script gave them.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Bytes,
    /// How many redirects may be followed; what comes after them is the answer.
    pub redirects: EgressRedirects,
    /// The most bytes that the answer's body may have.
    pub response_bytes: u64,
    /// When it must be over.
    pub deadline: Instant,
    /// Masks the secrets that the script was given, in what is recorded.
    pub mask: SecretMask,
}

/// What becomes of an answer that leads elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressRedirects {
    /// It is followed, so many times; one more is an error.
    Follow(u8),
    /// It is the answer.
    Answer,
}

impl EgressRedirects {
    /// The most that are followed.
    pub const MOST: u8 = 5;
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressAnswer {
    /// The status, 200 to 999.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
    /// The URL that answered, after redirects, without its fragment.
    pub url: String,
}

impl EgressAnswer {
    /// What it has in bytes: URL, headers and body.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.url.len() + headers + self.body.len()
    }
}
