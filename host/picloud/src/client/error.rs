//! Why a client command failed, and how the server's own words for it are shown.

use std::io;

use serde::Deserialize;

use super::excerpt::Place;
use crate::{
    exit::{Exit, Failure, local_document},
    terminal::{GUTTER, STRONG, printable},
};

/// Why a client command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nothing answers there.
    #[error("{url} does not answer: {problem}{hint}")]
    Unreachable {
        /// The server.
        url: String,
        /// What the connection said.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The server refused, with a problem document.
    #[error("{}", .0.render())]
    Problem(Box<Problem>),
    /// Something answers, but not as a PiCloud server does.
    #[error(
        "{url} does not answer like a PiCloud server: {problem}\n--url and PICLOUD_URL are the address of the control \
         listener, not that of the apps"
    )]
    Foreign {
        /// The server.
        url: String,
        /// What is odd.
        problem: String,
    },
    /// No token was found for the server.
    #[error(
        "no token for {0}: none in PICLOUD_TOKEN, none saved by `picloud login`, and no owner-token in the data \
         folder{1}"
    )]
    NoToken(String, String),
    /// The owner's token is there, but this user may not read it.
    #[error(
        "{0} has the owner's token, but this user may not read it; run this as a user who may, or save a token of your \
         own with `picloud login`, or set PICLOUD_TOKEN"
    )]
    UnreadableToken(String),
    /// An argument or a local file is wrong.
    #[error("{0}")]
    Input(String),
    /// The server has something of the kind, but not what was named.
    #[error("{0}")]
    NotFound(String),
    /// A script that was tried out has failed.
    #[error("{0}")]
    Run(String),
    /// A local file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (exit, code) = match &error {
            ClientError::Unreachable { .. } => (Exit::Unavailable, "unreachable"),
            ClientError::Foreign { .. } => (Exit::Unavailable, "not_picloud"),
            ClientError::Problem(problem) => {
                let document = problem.document.clone();
                return Self::new(problem.exit(), &error).document(document);
            }
            ClientError::NoToken(..) | ClientError::UnreadableToken(_) => (Exit::Denied, "no_token"),
            ClientError::Input(_) => (Exit::Usage, "usage"),
            ClientError::NotFound(_) => (Exit::NotFound, "not_found"),
            ClientError::Run(_) => (Exit::Failed, "run_failed"),
            ClientError::File { .. } => (Exit::Failed, "file"),
            ClientError::Output(_) => (Exit::Failed, "output"),
        };
        let message = error.to_string();
        let document = local_document(code, &message);
        Self::new(exit, message).document(document)
    }
}

/// An `application/problem+json` document.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    /// The document as it came.
    #[serde(skip)]
    pub(crate) document: String,
    /// A name like the one that is not there.
    #[serde(skip)]
    pub(crate) meant: Option<String>,
    pub(crate) status: u16,
    pub(crate) code: String,
    title: String,
    detail: String,
    request_id: String,
    #[serde(flatten)]
    place: Place,
    fuel_used: Option<u64>,
    /// The lines that a failed invocation logged.
    pub(crate) logs: Vec<LogLine>,
    /// All that does not compile, where it may be more than one script.
    errors: Vec<CompileError>,
}

/// What is wrong with a script.
#[derive(Clone, Debug, Deserialize)]
struct CompileError {
    message: String,
    #[serde(flatten)]
    place: Place,
}

/// Why an invocation failed, as the history and the log have it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RunError {
    pub(crate) code: String,
    pub(crate) message: String,
    #[serde(flatten)]
    pub(crate) place: Place,
}

/// A line of a log, in a problem or an answer.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) level: String,
    pub(crate) message: String,
}

impl Problem {
    /// What to show: what is wrong, where, and by which id the server's log knows it.
    pub(crate) fn render(&self) -> String {
        let what = if self.detail.is_empty() { &self.title } else { &self.detail };
        let meant = self.meant.as_ref().map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
        // No call of the management API is answered so, but every one that is sent to an app.
        let mistaken = match self.code.as_str() {
            "route_not_found" => "; an app answers here: --url is the address of the control listener",
            _ => "",
        };
        let mut text = located(&format!("{what}{meant}{mistaken}"), &self.place);
        if self.errors.len() > 1 {
            let errors = self.errors.iter().map(|error| located(&error.message, &error.place));
            text = errors.collect::<Vec<_>>().join("\n\n");
        }
        let mut facts = vec![format!("code: {}", printable(&self.code))];
        if let Some(fuel) = self.fuel_used {
            facts.push(format!("fuel used: {fuel}"));
        }
        if !self.request_id.is_empty() {
            facts.push(format!("request: {}", printable(&self.request_id)));
        }
        format!("{text}\n{} {}", GUTTER.paint("  ="), facts.join(", "))
    }

    fn exit(&self) -> Exit {
        match self.status {
            401 | 403 => Exit::Denied,
            404 => Exit::NotFound,
            429 | 503 => Exit::Unavailable,
            _ => Exit::Failed,
        }
    }
}

/// A message with the line of source that it is about.
fn located(message: &str, place: &Place) -> String {
    let message = STRONG.paint(printable(message));
    match (place.excerpt(), place.script_only()) {
        (Some(excerpt), _) => format!("{message}\n{excerpt}"),
        (None, Some(script)) => format!("{script}: {message}"),
        (None, None) => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_compile_error_shows_its_line() {
        let problem: Problem = serde_json::from_str(
            r#"{"status":422,"code":"compile_error","detail":"Expecting ')'","request_id":"0197",
                "script":"greet","line":12,"column":3,"source_line":"\tf(1"}"#,
        )
        .unwrap();
        assert_eq!(
            plain(&problem.render()),
            "Expecting ')'\n  --> greet.rhai:12:3\n   |\n12 | \tf(1\n   | \t ^\n  = code: compile_error, request: 0197"
        );
        assert_eq!(Failure::from(ClientError::Problem(Box::new(problem))).exit, Exit::Failed);
    }

    #[test]
    fn each_script_that_does_not_compile_shows_its_line() {
        let problem: Problem = serde_json::from_str(
            r#"{"status":422,"code":"compile_error","detail":"no","script":"a","line":1,"column":2,"source_line":"x",
                "errors":[{"script":"a","message":"no","line":1,"column":0,"source_line":"x"},
                    {"script":"b","message":"neither","line":null,"column":null,"source_line":null},
                    {"script":"c","message":"nor","line":3,"column":1,"source_line":"y"}]}"#,
        )
        .unwrap();
        assert_eq!(
            plain(&problem.render()),
            "no\n --> a.rhai:1\n  |\n1 | x\n\nb.rhai: neither\n\nnor\n --> c.rhai:3:1\n  |\n3 | y\n  | ^\n  = code: compile_error"
        );
    }

    #[test]
    fn an_app_that_answers_for_the_server_is_recognised() {
        let problem: Problem =
            serde_json::from_str(r#"{"status":404,"code":"route_not_found","title":"No such route"}"#)
                .unwrap();
        assert!(plain(&problem.render()).contains("--url is the address of the control listener"));
    }

    #[test]
    fn a_problem_without_a_place_is_one_line_and_its_facts() {
        let problem: Problem = serde_json::from_str(
            r#"{"status":404,"code":"app_not_found","title":"Not found","request_id":"1"}"#,
        )
        .unwrap();
        assert_eq!(plain(&problem.render()), "Not found\n  = code: app_not_found, request: 1");
        assert_eq!(Failure::from(ClientError::Problem(Box::new(problem))).exit, Exit::NotFound);
    }
}
