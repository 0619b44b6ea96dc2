//! Calls against real servers on this machine, in clear and with TLS, by names that a resolver of the tests knows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod addresses;
mod answers;
mod pooling;
mod redirects;
mod support;
mod tls;
