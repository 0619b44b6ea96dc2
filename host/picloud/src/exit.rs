//! How the program ends: its exit codes, and the one error type that `main` shows.

use std::{ffi::OsString, fmt, process::ExitCode};

use serde_json::json;

use crate::terminal;

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

impl Exit {
    /// The code of an error document where there is no better one.
    const fn code(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Unavailable => "unavailable",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::CannotStart => "cannot_start",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How an error is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorFormat {
    /// For people.
    Text,
    /// One JSON object on one line.
    Json,
}

impl ErrorFormat {
    /// JSON where the command line has `--json`. Its words are looked at as they are, so that this is known of a
    /// command line that is refused as well.
    pub(crate) fn of(arguments: &[OsString]) -> Self {
        let mut options = arguments.iter().take_while(|argument| *argument != "--");
        if options.any(|argument| argument == "--json") { Self::Json } else { Self::Text }
    }
}

/// Why the program ends without having done what was asked. The message is for people, complete in itself.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What to show after `error: `; empty where everything has been said.
    pub(crate) message: String,
    /// The error as JSON: the server's own document, if it is a server's error.
    document: Option<String>,
}

impl Failure {
    /// A failure that ends with `exit`.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), document: None }
    }

    /// The same failure with a document of its own for programs.
    pub(crate) fn document(self, json: String) -> Self {
        Self { document: Some(json), ..self }
    }

    /// Writes it to standard error.
    pub(crate) fn show(&self, format: ErrorFormat) {
        match format {
            ErrorFormat::Text if self.message.is_empty() => {}
            ErrorFormat::Text => terminal::error(&self.message),
            ErrorFormat::Json => match &self.document {
                Some(document) => terminal::verbatim_note(document),
                None => terminal::verbatim_note(&local_document(self.exit.code(), &self.message)),
            },
        }
    }
}

/// The document of an error that is not the server's: a code of its own, and the text without its colours.
pub(crate) fn local_document(code: &str, message: &str) -> String {
    json!({ "code": code, "detail": anstream::adapter::strip_str(message).to_string() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_asked_for_by_an_option_and_not_by_a_value() {
        let format = |words: &[&str]| {
            ErrorFormat::of(&words.iter().map(|word| OsString::from(*word)).collect::<Vec<_>>())
        };
        assert_eq!(format(&["picloud", "list", "--json", "--nonsense"]), ErrorFormat::Json);
        assert_eq!(format(&["picloud", "kv", "set", "c", "k", "--", "--json"]), ErrorFormat::Text);
    }

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
        let documented = include_str!("../../../docs/CLI.md");
        for line in EXIT_CODES.lines().skip(1) {
            let (code, text) = line.trim().split_once(' ').unwrap();
            let row = format!("| {code} | {} |", text.trim());
            assert!(documented.contains(&row), "docs/CLI.md has no row {row}");
        }
    }
}
