//! Running the server.
