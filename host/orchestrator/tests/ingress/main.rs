//! The app listener over real sockets and a real PostgreSQL.
//!
//! Scripts are stood in for by Rust functions behind the `Execute` port: what is tested here is what the
//! orchestrator does with requests, answers, effects and load. The sandbox is tested where it is, and both
//! together in the program's own tests.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

mod access;
mod addressing;
mod budgets;
mod client;
mod cors;
mod data;
mod egress;
mod events;
mod events_lost;
mod files;
mod http2;
mod kept;
mod load;
mod platform;
mod rates;
mod requests;
mod responses;
mod scripts;
mod secrets;
mod signatures;
