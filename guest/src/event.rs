//! Events, answers and faults as they cross the border of the sandbox. The shapes are those of `wit/`.

/// What a script is to handle.
#[derive(Clone, Debug)]
pub enum Event {
    /// An HTTP request.
    Http(HttpRequest),
    /// A direct call with JSON text.
    Invoke(String),
    /// What a trigger waits for.
    Trigger {
        /// Its kind.
        kind: TriggerKind,
        /// The event as JSON text.
        event: String,
    },
}

/// What a trigger waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerKind {
    /// A key-value entry is set or deleted.
    Kv,
    /// A time of a schedule.
    Cron,
    /// A message in a queue.
    Queue,
    /// A publication on a topic.
    Topic,
    /// An e-mail.
    Email,
    /// An event that was given up.
    DeadLetter,
}

impl Event {
    /// The name of the function that handles it.
    pub(crate) const fn handler(&self) -> &'static str {
        match self {
            Self::Http(_) | Self::Invoke(_) => "on_request",
            Self::Trigger { kind, .. } => match kind {
                TriggerKind::Kv => "on_kv",
                TriggerKind::Cron => "on_cron",
                TriggerKind::Queue => "on_message",
                TriggerKind::Topic => "on_publish",
                TriggerKind::Email => "on_email",
                TriggerKind::DeadLetter => "on_dead_letter",
            },
        }
    }
}

/// An HTTP request.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest {
    /// The id that the client gets back and the history is found by.
    pub id: String,
    /// The method, upper case.
    pub method: String,
    /// The decoded path within the app.
    pub path: String,
    /// Without `?`, as it came.
    pub query: String,
    /// Parameters of the matched route, decoded.
    pub params: Vec<(String, String)>,
    /// `name: value\n` lines, names in lower case.
    pub headers: String,
    /// The whole body.
    pub body: Vec<u8>,
    /// The client's address.
    pub ip: String,
}

/// What a script answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To an HTTP request.
    Http(HttpResponse),
    /// To any other event: the value as JSON text.
    Value(String),
}

/// A response. The host validates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// Whatever number the script chose.
    pub status: i64,
    /// Names and values as the script gave them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a script could not be compiled or an event not be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A code of docs/SEMANTICS.md.
    pub code: String,
    /// What went wrong, in plain words.
    pub message: String,
    /// Where, if it is known.
    pub position: Option<SourcePosition>,
}

/// A place in a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    /// The script or library.
    pub script: String,
    /// Counts from 1.
    pub line: u32,
    /// Counts from 1; 0: only the line is known.
    pub column: u32,
    /// The text of that line, cut at 200 characters.
    pub source_line: String,
}
