//! The edge: the one place where errors learn HTTP, shared by the control listener and the app listener.
//!
//! What lives here: which status an [`ErrorCode`](picloud_core::ErrorCode) has, `application/problem+json`
//! ([`Problem`]), reading a body within its limits ([`read_body`]), whom a request is for ([`authority`]) and whom it
//! comes from ([`Client`]), and the accept loop with its timers and caps ([`serve`]).
//!
//! What does not: routes, handlers, anything that knows an app or a principal.

mod authority;
mod body;
mod client;
mod cookie;
mod exchange;
mod head;
mod idempotency;
mod problem;
mod serve;
mod status;
mod stream;

pub use authority::authority;
pub use body::{BodyError, BodyTimes, read_body};
pub use client::{Client, X_FORWARDED_FOR};
pub use cookie::{SECURE_SESSION_COOKIE, SECURE_SIGN_IN_COOKIE, SESSION_COOKIE, SIGN_IN_COOKIE};
pub use exchange::Tracked;
pub use idempotency::{
    IDEMPOTENCY_KEY, PICLOUD_IDEMPOTENT_REPLAY, idempotency_key, key_of_another, under_way,
};
pub use problem::{PICLOUD_ERROR, PICLOUD_REQUEST_ID, Problem, request_id_value};
pub use serve::{ServeConfig, Served, serve};
pub use status::{status_of, status_of_run, title_of};

#[cfg(test)]
mod fuzz;
