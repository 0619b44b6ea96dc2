//! Events that were given up: how they come here, who is told, and what becomes of them.

mod bury;
mod read;
mod resolve;

pub use read::{DeadLetter, DeadLetterFilter, FingerprintCount, LetterState};
pub use resolve::{Replay, Replayed, Resolution};

pub(crate) use bury::{Fallen, bury, handled, tell};
