//! The port to what sends e-mails.

use std::fmt;

use crate::{AppName, BoxFuture, EventId, OutgoingMail};

/// Sends the e-mails of apps.
pub trait Mailer: fmt::Debug + Send + Sync {
    /// Sends a mail of an app, to all receivers or to none. `event` is the same each time a mail is tried again, so that one
    /// that is sent twice can be told as one.
    fn send<'a>(
        &'a self,
        event: EventId,
        app: &'a AppName,
        mail: &'a OutgoingMail,
    ) -> BoxFuture<'a, Result<(), MailerError>>;
}

/// Why a mail was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailerError {
    /// It may work later.
    #[error("{0}")]
    Temporary(String),
    /// It will not work, however often it is tried.
    #[error("{0}")]
    Permanent(String),
}
