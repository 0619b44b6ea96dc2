//! The program: configuration, the server's wiring, embedded PostgreSQL and the command-line client.
//!
//! What does not live here: SQL, HTTP serving, WebAssembly. Those are the crates that this one puts together.

mod cli;
mod client;
mod config;
mod doctor;
mod exit;
mod postgres;
mod serve;
mod terminal;
mod units;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                terminal::error(&failure.message);
            }
            failure.exit.into()
        }
    }
}
