use picloud_core::{BoxFuture, TriggerId};

use crate::IncomingMail;

/// Why a sink does not take what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The backlog of an app is full; the sender may try again later.
    #[error("the backlog is full")]
    Full,
    /// The database is away; the sender may try again later.
    #[error("the database is away")]
    Unavailable,
}

/// A trigger that a mail is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The trigger.
    pub trigger: TriggerId,
    /// The addresses by which the sender named it, as the sender wrote them. Nobody else is told of them.
    pub addresses: Vec<String>,
}

/// Where mail goes.
pub trait MailSink: Send + Sync + 'static {
    /// The trigger that has an address of the listener's domain; `None` where there is none.
    ///
    /// `local` is the part before the `@`, in lower case and of the form that [`picloud_core::MailAddress::is_local`]
    /// allows.
    fn recipient<'a>(&'a self, local: &'a str) -> BoxFuture<'a, Result<Option<TriggerId>, SinkError>>;

    /// Commits one event for each recipient, all or none; [`IncomingMail::fields`] has what the event says. There is at
    /// least one, and no trigger twice. A trigger that is gone by now is passed over.
    fn deliver(&self, mail: IncomingMail, recipients: Vec<Recipient>)
    -> BoxFuture<'_, Result<(), SinkError>>;
}
