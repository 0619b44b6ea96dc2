//! The program: configuration, the server's wiring, embedded PostgreSQL and the command-line client.
//!
//! What does not live here: SQL, HTTP serving, WebAssembly. Those are the crates that this one puts together.

mod cli;
mod client;
mod config;
mod confinement;
mod doctor;
mod exit;
mod likeness;
mod postgres;
mod serve;
mod terminal;
mod units;

use std::{env, ffi::OsString, process::ExitCode};

use exit::ErrorFormat;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let errors = ErrorFormat::of(&arguments);
    match cli::run(arguments, errors) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.show(errors);
            failure.exit.into()
        }
    }
}
