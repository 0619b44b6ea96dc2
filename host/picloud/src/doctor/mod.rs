//! What this machine gives the server.
