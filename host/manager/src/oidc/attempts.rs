//! Sign-ins that have begun: each is over once, in the browser that began it, within ten minutes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

use super::Refusal;

/// The longest that a user may take at the issuer.
pub(crate) const LIFETIME: Duration = Duration::from_mins(10);

/// Sign-ins at once, some 500 bytes each. What comes beyond is refused; nothing is pushed out by a flood.
const MOST: usize = 4096;

/// What is kept of a sign-in until its browser comes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// What the ID token must have.
    pub(crate) nonce: String,
    /// What proves to the issuer that the code is for whoever began.
    pub(crate) verifier: String,
    /// Where the browser comes back to.
    pub(crate) redirect_uri: String,
}

/// Those that are not over, by their state.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<String, Kept>>);

struct Kept {
    attempt: Attempt,
    /// SHA-256 of what the browser has in its cookie.
    browser: [u8; 32],
    begun: Instant,
}

impl Attempts {
    /// Keeps one.
    pub(super) fn add(&self, state: String, browser: &str, attempt: Attempt) -> Result<(), Refusal> {
        self.add_at(Instant::now(), state, browser, attempt)
    }

    /// Ends one, if it is that of this browser. A state in another browser ends nothing.
    pub(super) fn take(&self, state: &str, browser: &str) -> Option<Attempt> {
        self.take_at(Instant::now(), state, browser)
    }

    fn add_at(&self, now: Instant, state: String, browser: &str, attempt: Attempt) -> Result<(), Refusal> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.retain(|_, kept| is_fresh(kept, now));
        }
        if kept.len() >= MOST {
            return Err(Refusal::TooMany);
        }
        kept.insert(state, Kept { attempt, browser: Sha256::digest(browser).into(), begun: now });
        Ok(())
    }

    fn take_at(&self, now: Instant, state: &str, browser: &str) -> Option<Attempt> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let browser: [u8; 32] = Sha256::digest(browser).into();
        if kept.get(state)?.browser != browser {
            return None;
        }
        kept.remove(state).filter(|kept| is_fresh(kept, now)).map(|kept| kept.attempt)
    }
}

fn is_fresh(kept: &Kept, now: Instant) -> bool {
    now.saturating_duration_since(kept.begun) <= LIFETIME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt() -> Attempt {
        Attempt { nonce: "n".into(), verifier: "v".into(), redirect_uri: "u".into() }
    }

    #[test]
    fn each_is_over_once_and_in_its_own_browser() {
        let attempts = Attempts::default();
        attempts.add("state".into(), "ada", attempt()).unwrap();
        assert_eq!(attempts.take("state", "eve"), None);
        assert_eq!(attempts.take("other", "ada"), None);
        assert_eq!(attempts.take("state", "ada"), Some(attempt()));
        assert_eq!(attempts.take("state", "ada"), None);
    }

    #[test]
    fn each_is_over_after_ten_minutes() {
        let attempts = Attempts::default();
        let start = Instant::now();
        for state in ["a", "b"] {
            attempts.add_at(start, state.into(), "ada", attempt()).unwrap();
        }
        assert!(attempts.take_at(start + LIFETIME, "a", "ada").is_some());
        assert!(attempts.take_at(start + LIFETIME + Duration::from_secs(1), "b", "ada").is_none());
    }

    #[test]
    fn a_flood_pushes_nobody_out_and_is_over_by_itself() {
        let attempts = Attempts::default();
        let start = Instant::now();
        for number in 0..MOST {
            attempts.add_at(start, number.to_string(), "ada", attempt()).unwrap();
        }
        let late = start + LIFETIME;
        assert!(matches!(attempts.add_at(late, "x".into(), "ada", attempt()), Err(Refusal::TooMany)));
        assert!(attempts.take_at(late, "7", "ada").is_some());
        let later = late + Duration::from_secs(1);
        attempts.add_at(later, "x".into(), "ada", attempt()).unwrap();
        attempts.add_at(later, "y".into(), "ada", attempt()).unwrap();
        assert_eq!(attempts.0.lock().unwrap().len(), 2);
    }
}
