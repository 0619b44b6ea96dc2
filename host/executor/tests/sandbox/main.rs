//! The sandbox, tried with the real guest: what scripts can do, what stops them, what they leave behind.
//! `cargo xtask guest` must have been run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corpus;
mod egress;
mod events;
mod gates;
mod images;
mod isolation;
mod limits;
mod nested;
mod secrets;
mod support;
