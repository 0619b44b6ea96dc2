//! The names of the cookies of those who signed in or do so. The control listener sets them; since cookies ignore ports, the app
//! listener keeps them from scripts.

/// Over TLS: browsers take a cookie of this prefix from the host itself only, over TLS, for every path.
pub const SECURE_SESSION_COOKIE: &str = "__Host-picloud_session";

/// Over plain HTTP.
pub const SESSION_COOKIE: &str = "picloud_session";

/// Of a browser that signs in by way of an issuer, over TLS.
pub const SECURE_SIGN_IN_COOKIE: &str = "__Host-picloud_sign_in";

/// The same over plain HTTP.
pub const SIGN_IN_COOKIE: &str = "picloud_sign_in";
