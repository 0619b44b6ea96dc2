//! The store against a real PostgreSQL: one throw-away cluster for the process, one database a test.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod access;
mod apps;
mod audit;
mod bundles;
mod chains;
mod changes;
mod commits;
mod domains;
mod egress;
mod files;
mod fixture;
mod history;
mod identities;
mod kv;
mod kv_model;
mod lifecycle;
mod mail;
mod notifications;
mod outbox;
mod outbox_bounds;
mod outbox_clock;
mod outbox_lanes;
mod outbox_lost;
mod outbox_model;
mod principals;
mod retention;
mod routes;
mod scripts;
mod secrets;
mod triggers;
mod variables;
