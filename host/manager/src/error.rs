//! What a handler answers when it refuses or fails.

use std::{borrow::Cow, fmt};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use picloud_core::{ErrorCode, LimitError, NameError, SourcePosition};
use picloud_edge::Problem;
use serde::Serialize;

/// A problem on its way to the client. It becomes a response without a body that carries it as an extension;
/// the outermost layer, which knows the request's id, turns that into `application/problem+json`.
#[derive(Clone)]
pub(crate) struct ApiError(Box<Problem>);

impl ApiError {
    /// An error of `code`; `detail` says what is wrong and what is allowed.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(code).detail(detail).into()
    }

    /// A failure of the platform: its cause goes to the log, and nothing of it to the client.
    pub(crate) fn internal(doing: &'static str, cause: &dyn fmt::Display) -> Self {
        tracing::error!(doing, %cause, "a management request failed");
        Self::new(ErrorCode::Internal, "the platform failed; its log has the cause")
    }

    /// Not authenticated.
    pub(crate) fn unauthenticated(detail: &'static str) -> Self {
        let challenge = HeaderValue::from_static("Bearer realm=\"picloud\"");
        Problem::new(ErrorCode::Unauthenticated)
            .detail(detail)
            .header(header::WWW_AUTHENTICATE, challenge)
            .into()
    }

    /// Says more before the text.
    pub(crate) fn preceded_by(self, context: &str) -> Self {
        let detail = format!("{context}{}", self.0.text());
        self.0.detail(detail).into()
    }

    /// Names the field that is wrong.
    pub(crate) fn field(self, name: impl Into<String>) -> Self {
        self.with("field", name.into())
    }

    /// Adds a member to the problem document.
    pub(crate) fn with(self, name: &'static str, value: impl Serialize) -> Self {
        self.0.with(name, value).into()
    }

    /// Adds where in a script it is, if that is known.
    pub(crate) fn at(self, position: Option<&SourcePosition>) -> Self {
        let Some(position) = position else { return self };
        self.with("script", &position.script)
            .with("line", position.line)
            .with("column", position.column)
            .with("source_line", &position.source_line)
    }

    /// When the client should come again.
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        self.0.retry_after(seconds).into()
    }

    /// Another status than the code's own.
    pub(crate) fn status(self, status: StatusCode) -> Self {
        self.0.status(status).into()
    }

    /// The code.
    pub(crate) fn code(&self) -> ErrorCode {
        self.0.code()
    }

    /// The text for people.
    #[cfg(test)]
    pub(crate) fn detail(&self) -> &str {
        self.0.text()
    }

    /// The problem itself.
    pub(crate) fn into_problem(self) -> Problem {
        *self.0
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code(), self.0.text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.0.http_status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<LimitError> for ApiError {
    fn from(error: LimitError) -> Self {
        let detail = error.to_string();
        match error {
            LimitError::AboveCeiling { field, value, ceiling } => Self::new(ErrorCode::AboveCeiling, detail)
                .field(field)
                .with("value", value)
                .with("ceiling", ceiling),
            LimitError::AboveApp { field, value, limit } => Self::new(ErrorCode::AboveCeiling, detail)
                .field(field)
                .with("value", value)
                .with("ceiling", limit),
            LimitError::TooSmall { field, value, least } => {
                Self::new(ErrorCode::Invalid, detail).field(field).with("value", value).with("least", least)
            }
        }
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::new(ErrorCode::Invalid, error.to_string())
    }
}
