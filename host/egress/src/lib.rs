//! Scripts' calls to other services over HTTP.
//!
//! [`decide`] says whether an app may call a URL, and [`AddressPolicy`] whether an address may be connected to; both
//! are pure. [`Egress`] makes the calls: it resolves a name once, connects to an address that was checked, and checks
//! anew for each redirect. Connections are kept for the next call of the same app, and never for another app.
//!
//! What does not live here: budgets of an invocation, which the sandbox holds; the allow-lists, which the store has.

mod addresses;
mod call;
mod connect;
mod failure;
mod headers;
mod own;
mod policy;
mod pool;
mod resolve;
mod tls;

pub use addresses::{AddressPolicy, OpenNetwork, Ownership, is_public};
pub use call::{Egress, EgressConfig};
pub use policy::{Refusal, Target, decide};
pub use resolve::{Resolve, SystemResolver};
pub use tls::{ExtraRoots, RootsError};
