//! The management API over real sockets, with a real PostgreSQL. Sandbox and node are scripted: what runs in
//! the real ones is tested in `host/picloud/tests`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod access;
mod apps;
mod audit;
mod auth;
mod data;
mod dead_letters;
mod domains;
mod egress;
mod events;
mod files;
mod grants;
mod health;
mod history;
mod hosts;
mod idempotency;
mod invoke;
mod limits;
mod matrix;
mod members;
mod oidc;
mod openapi;
mod owner;
mod principals;
mod routes;
mod scripts;
mod secrets;
mod sessions;
mod support;
mod tokens;
mod triggers;
mod variables;
