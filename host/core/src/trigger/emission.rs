//! Events that an invocation makes.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{DedupeKey, EventId, GroupKey, QueueName, TopicName};

/// An event that an invocation makes when it commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// Its id, which the script was given.
    pub id: EventId,
    /// What it is.
    pub what: Emitted,
}

/// What can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emitted {
    /// A message for a queue.
    Message {
        /// The queue.
        queue: QueueName,
        /// The body as JSON text.
        body: Arc<str>,
        /// How it is to be handled.
        options: MessageOptions,
    },
    /// A publication on a topic, for every trigger whose pattern matches.
    Publication {
        /// The topic.
        topic: TopicName,
        /// The body as JSON text.
        body: Arc<str>,
    },
    /// An e-mail.
    Mail(Box<OutgoingMail>),
}

impl Emitted {
    /// What it takes, in bytes, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Message { body, .. } | Self::Publication { body, .. } => body.len(),
            Self::Mail(mail) => mail.bytes(),
        }
    }
}

/// How a message is to be handled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageOptions {
    /// Not before so long after it was sent; at most [`Self::MAX_DELAY`].
    pub delay: Duration,
    /// Those with more are handled first; -100 to 100.
    pub priority: i16,
    /// A second message with this key within 24 hours is dropped.
    pub dedupe_key: Option<DedupeKey>,
    /// Messages of one group are handled in the order in which they were sent, one at a time.
    pub group: Option<GroupKey>,
}

impl MessageOptions {
    /// The longest delay: a year.
    pub const MAX_DELAY: Duration = Duration::from_hours(365 * 24);
    /// The least priority.
    pub const MIN_PRIORITY: i16 = -100;
    /// The highest priority.
    pub const MAX_PRIORITY: i16 = 100;
}

/// An e-mail that a script sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingMail {
    /// The display name of the sender; the address is the app's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_name: Option<String>,
    /// The receivers, as `address` or `Name <address>`.
    pub to: Vec<String>,
    /// Receivers of a copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<String>,
    /// Receivers of a copy that the others do not see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bcc: Vec<String>,
    /// Where answers go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The subject.
    pub subject: String,
    /// The plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The HTML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// The `Message-ID` of the mail that this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<String>,
}

impl OutgoingMail {
    /// The most receivers of one mail, copies included.
    pub const MAX_RECEIVERS: usize = 50;

    /// The bytes of its texts.
    pub fn bytes(&self) -> usize {
        let receivers = self.to.iter().chain(&self.cc).chain(&self.bcc).map(String::len).sum::<usize>();
        let texts = [&self.from_name, &self.reply_to, &self.text, &self.html, &self.in_reply_to];
        let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
        receivers + self.subject.len() + texts
    }
}
