//! What starts an invocation, and what it answers.

use std::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Params, RequestId, TriggerKind};

/// The kinds of event a script can handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An HTTP request on the app listener.
    Http,
    /// A direct call with any value: the management API's `invoke` or a script's `app::invoke`.
    Invoke,
    /// A key-value entry was set or deleted.
    Kv,
    /// A time of a schedule.
    Cron,
    /// A message in a queue.
    Queue,
    /// A publication on a topic.
    Topic,
    /// An e-mail that came in.
    Email,
    /// An event that was given up.
    DeadLetter,
}

impl EventKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Http,
        Self::Invoke,
        Self::Kv,
        Self::Cron,
        Self::Queue,
        Self::Topic,
        Self::Email,
        Self::DeadLetter,
    ];

    /// The kind as storage and clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Invoke => "invoke",
            Self::Kv => "kv",
            Self::Cron => "cron",
            Self::Queue => "queue",
            Self::Topic => "topic",
            Self::Email => "email",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// What starts an invocation.
#[derive(Clone, Debug)]
pub enum Event {
    /// An HTTP request; the answer is [`Answer::Http`].
    Http(HttpRequest),
    /// A direct call. The script sees a POST request with this JSON text as its body, and as `event`; the
    /// answer is [`Answer::Value`].
    Invoke(String),
    /// What a trigger waits for. The handler of its kind is called with this JSON text as a value; the answer is
    /// [`Answer::Value`].
    Trigger {
        /// The kind of trigger.
        kind: TriggerKind,
        /// The event as JSON text.
        event: String,
    },
}

impl Event {
    /// Its kind.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Http(_) => EventKind::Http,
            Self::Invoke(_) => EventKind::Invoke,
            Self::Trigger { kind, .. } => kind.event_kind(),
        }
    }
}

/// A request as a script sees it.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The id that the client gets back and the history is found by.
    pub id: RequestId,
    /// The method, upper case.
    pub method: String,
    /// The decoded path within the app, starting with `/`.
    pub path: String,
    /// The query string as it came, without `?`.
    pub query: String,
    /// Parameters of the matched route, decoded.
    pub params: Params,
    /// The header block: `name: value\n` lines, names in lower case, in the order they came.
    pub headers: String,
    /// The whole body.
    pub body: Bytes,
    /// The client's address (from a trusted proxy's header where one is configured).
    pub ip: IpAddr,
}

/// A response as a script made it, before it is validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status the script chose; any number.
    pub status: i64,
    /// Header names and values as the script gave them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// What a successful invocation gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To an HTTP event.
    Http(HttpResponse),
    /// To any other event: the handler's value as JSON text.
    Value(String),
}
