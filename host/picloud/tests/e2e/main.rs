//! The program as its users meet it: started with its own PostgreSQL and the real sandbox, deployed to by its
//! own command line, called over raw sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod api;
mod client;
mod configuration;
mod confinement;
mod crash;
mod database_restart;
mod deploy;
mod egress;
mod endpoint_access;
mod examples;
mod files;
mod hostile_http;
mod idle;
mod kv;
mod lifecycle;
mod limits;
mod mail;
mod queues;
mod secrets;
mod support;
mod triggers;
mod usage;
