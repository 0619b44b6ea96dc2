//! Mail over real sockets: in from a client that says what it is told, out to a relay that is this crate's listener.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod data;
mod limits;
mod relay;
mod session;
mod support;
