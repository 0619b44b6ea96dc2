//! The control plane: the management API, tokens, the OpenAPI document, health and metrics.
//!
//! A [`Manager`] is a server of the control listener. Every endpoint stands in one table (`endpoints`), with
//! who may call it; handlers (`api`) read a request, ask the store, the `Execute` port or the node, and answer
//! a view. Errors become `application/problem+json` in one place (`manager`).
//!
//! What does not live here: SQL (`picloud-store`), statuses of errors and the accept loop (`picloud-edge`),
//! parsing of scripts (only through the `Execute` port), app traffic (`picloud-orchestrator`).

mod access;
mod api;
mod audit;
mod authenticate;
mod config;
mod context;
mod deploy;
mod domain_proof;
mod endpoints;
mod error;
mod extract;
mod fold;
mod guard;
mod health;
mod idempotency;
mod manager;
mod oidc;
mod openapi;
mod owner;
mod page;
mod password;
mod precondition;
mod principal_ref;
mod sign_in_limiter;
mod store_error;
mod token;
mod turns;

pub use config::{AppAddress, ManagerConfig};
pub use manager::Manager;
pub use oidc::{AllowedEmails, ClientSecret, IssuerUrl, OidcConfig, PublicUrl};
pub use openapi::openapi_json;
pub use owner::{OWNER_TOKEN_FILE, OwnerError, OwnerToken, ensure_owner, reset_owner_token};
pub use token::TOKEN_PREFIX;
