//! The names of the cookie of those who signed in. The control listener sets it; since cookies ignore ports, the app
//! listener keeps it from scripts.

/// Over TLS: browsers take a cookie of this prefix from the host itself only, over TLS, for every path.
pub const SECURE_SESSION_COOKIE: &str = "__Host-picloud_session";

/// Over plain HTTP.
pub const SESSION_COOKIE: &str = "picloud_session";
