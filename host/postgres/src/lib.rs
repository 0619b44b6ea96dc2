//! PostgreSQL's server programs: where they are, who may run them, and throw-away clusters for tests and for
//! checking SQL at compile time.
//!
//! What does not live here: SQL, connections, and the supervision of the product's own cluster. The crate is
//! apart from `picloud-store` because the automation needs it to make the store compile.

mod binaries;
mod error;
mod throwaway;
mod user;

pub use binaries::{Binaries, binaries_in, find_binaries, installed_binaries};
pub use error::ServerError;
pub use throwaway::ThrowawayCluster;
pub use user::{ServerUser, server_user, user_by_id};
