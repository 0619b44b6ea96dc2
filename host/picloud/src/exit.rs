//! How the program ends: its exit codes, and the one error type that `main` shows.

use std::{fmt, process::ExitCode};

/// The exit codes; `picloud --help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for failed: the server refused it, or a script did.
    Failed = 1,
    /// The command line or a setting is wrong.
    Usage = 2,
    /// The server does not answer, or answers that it cannot now.
    Unavailable = 3,
    /// There is no such app, script, key or version.
    NotFound = 4,
    /// Not signed in, or not allowed.
    Denied = 5,
    /// The server cannot start here: folder, port or PostgreSQL.
    CannotStart = 6,
    /// A second Ctrl-C or SIGTERM ended the server before its drain did.
    Interrupted = 130,
}

/// The part of `--help` that documents [`Exit`].
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    it failed: the server refused it, a script does not compile or failed
  2    the command line or a setting is wrong
  3    the server does not answer, or cannot now
  4    no such app, script, key or version
  5    not signed in, or not allowed
  6    the server cannot start: its folder, a port or PostgreSQL
  130  a second Ctrl-C ended the server before it had drained";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the program ends without having done what was asked. The message is for people, complete in itself.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What to show after `error: `; empty where everything has been said.
    pub(crate) message: String,
}

impl Failure {
    /// A failure that ends with `exit`.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_documented() {
        let all = [
            Exit::Failed,
            Exit::Usage,
            Exit::Unavailable,
            Exit::NotFound,
            Exit::Denied,
            Exit::CannotStart,
            Exit::Interrupted,
        ];
        for exit in all {
            assert!(EXIT_CODES.contains(&format!("\n  {} ", exit as u8)), "{exit:?}");
        }
    }
}
