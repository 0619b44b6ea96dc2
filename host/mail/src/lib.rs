//! E-mail of apps: in over SMTP, out through a relay.
//!
//! What comes in is handed to a [`MailSink`], and answered `250` only after the sink has committed it. What goes out is
//! given to the operator's relay by [`Relay::send`]; queues and retries are not here but in the outbox.
//!
//! What does not live here: SQL, which addresses there are, what becomes of an event.

mod incoming;
mod relay;
mod smtp;

#[cfg(test)]
mod fuzz;

pub use incoming::IncomingMail;
pub use relay::{Relay, RelayConfig, RelayError, RelayUrl, SendError, SenderAddress};
pub use smtp::{MailSink, Recipient, Served, SinkError, SmtpConfig, serve};
