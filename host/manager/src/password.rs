//! Passwords: argon2id, a few at once.
//!
//! The parameters are those that OWASP's Password Storage Cheat Sheet names first for 19 MiB of memory. Two at once
//! take 38 MiB, however many clients try, and what more than 16 wait for is refused.

use std::{fmt, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::{self, SaltString},
};
use picloud_core::ErrorCode;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::error::ApiError;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Computations at once.
const AT_ONCE: usize = 2;
/// Computations that wait, at most.
const MAX_WAITING: usize = 16;

const MIN_CHARACTERS: usize = 12;
const MAX_BYTES: usize = 1024;

/// What a password is compared with where there is none: it costs the same, and nobody knows what it is the hash of.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LXNpZ25zLWluLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A password in clear. Its `Debug` form hides it.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Password(String);

impl Password {
    /// Whether it is good enough for a new one.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let characters = self.0.chars().count();
        let problem = if characters < MIN_CHARACTERS {
            format!("the password has {characters} characters; allowed are {MIN_CHARACTERS} and more")
        } else if self.0.len() > MAX_BYTES {
            format!("the password has {} bytes; the longest allowed is {MAX_BYTES}", self.0.len())
        } else {
            return Ok(());
        };
        Err(ApiError::new(ErrorCode::Invalid, problem).field("password"))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Hashes and checks passwords within a bounded amount of memory.
#[derive(Clone)]
pub(crate) struct Passwords {
    /// One for each that computes or waits.
    places: Arc<Semaphore>,
    /// One for each that computes.
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE + MAX_WAITING)),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Passwords {
    /// The hash of a password, as it is stored.
    pub(crate) async fn hash(&self, password: Password) -> Result<String, ApiError> {
        let hash = move || {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt).map_err(|error| error.to_string())?;
            let salt = SaltString::encode_b64(&salt).map_err(|error| error.to_string())?;
            let hash = argon2()?.hash_password(password.0.as_bytes(), &salt);
            hash.map(|hash| hash.to_string()).map_err(|error| error.to_string())
        };
        self.compute(hash).await
    }

    /// Whether a password is the one of `hash`. Without a hash it is not, and that takes as long.
    pub(crate) async fn verify(&self, password: Password, hash: Option<String>) -> Result<bool, ApiError> {
        let verify = move || {
            let text = hash.as_deref().unwrap_or(NOBODY);
            let parsed = PasswordHash::new(text).map_err(|error| error.to_string())?;
            match argon2()?.verify_password(password.0.as_bytes(), &parsed) {
                Ok(()) => Ok(hash.is_some()),
                Err(password_hash::Error::Password) => Ok(false),
                Err(error) => Err(error.to_string()),
            }
        };
        self.compute(verify).await
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, ApiError> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let detail = format!("{MAX_WAITING} passwords wait to be checked; try again later");
            return Err(ApiError::new(ErrorCode::NodeBusy, detail));
        };
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|error| ApiError::internal("a password", &error))?;
        // The work goes on if its client goes away, and so keeps what it has taken.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop((place, turn));
            done
        });
        match done.await {
            Ok(done) => done.map_err(|error| ApiError::internal("a password", &error)),
            Err(error) => Err(ApiError::internal("a password", &error)),
        }
    }
}

fn argon2() -> Result<Argon2<'static>, String> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| error.to_string())?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password(text.to_owned())
    }

    #[tokio::test]
    async fn a_hash_is_for_one_password_and_salted() {
        let passwords = Passwords::default();
        let one = passwords.hash(password("correct horse")).await.unwrap();
        let other = passwords.hash(password("correct horse")).await.unwrap();
        assert_ne!(one, other);
        assert!(passwords.verify(password("correct horse"), Some(one.clone())).await.unwrap());
        assert!(!passwords.verify(password("correct horsf"), Some(one)).await.unwrap());
        assert!(!passwords.verify(password("anything"), None).await.unwrap());
    }

    #[test]
    fn nobodys_hash_costs_what_a_real_one_costs() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let params = Params::try_from(&nobody).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (MEMORY_KIB, PASSES, LANES));
        assert_eq!(nobody.algorithm, Algorithm::Argon2id.ident());
        assert_eq!(nobody.hash.unwrap().len(), Params::DEFAULT_OUTPUT_LEN);
        assert_eq!(nobody.salt.unwrap().decode_b64(&mut [0; 16]).unwrap().len(), 16);
    }

    #[tokio::test]
    async fn a_flood_is_refused_and_leaves_the_places_free() {
        let passwords = Passwords::default();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        let wait = || {
            let gate = Arc::clone(&gate);
            let passwords = passwords.clone();
            tokio::spawn(async move {
                let waits = move || {
                    let gate = gate.lock().map_err(|error| error.to_string())?;
                    // Ends with an error when the other side is gone.
                    gate.recv().or(Ok(()))
                };
                passwords.compute(waits).await
            })
        };
        let held: Vec<_> = (0..AT_ONCE + MAX_WAITING).map(|_| wait()).collect();
        while passwords.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = passwords.verify(password("x"), None).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NodeBusy);
        drop(open);
        for held in held {
            held.await.unwrap().unwrap();
        }
        assert_eq!(passwords.places.available_permits(), AT_ONCE + MAX_WAITING);
        assert_eq!(passwords.turns.available_permits(), AT_ONCE);
    }

    #[test]
    fn new_passwords_have_12_characters_to_1024_bytes() {
        for good in ["123456789012", "ääääääääääää", &"x".repeat(1024)] {
            assert!(password(good).check().is_ok(), "{good}");
        }
        for bad in ["", "12345678901", "äääääääääää", &"x".repeat(1025), &"ä".repeat(513)] {
            assert_eq!(password(bad).check().unwrap_err().code(), ErrorCode::Invalid, "{bad}");
        }
        assert_eq!(format!("{:?}", password("secret")), "Password(..)");
    }
}
