//! Events that were given up: how they come here, who is told, and what becomes of them.

mod bury;
mod many;
mod read;
mod resolve;

pub use many::{MAX_MANY, ManyReplayed};
pub use read::{DeadLetter, DeadLetterFilter, FingerprintCount, LetterState};
pub use resolve::{Replay, Replayed, Resolution};

pub(crate) use bury::{Fallen, Letter, bury, handled, tell};
pub(crate) use resolve::resolve;
