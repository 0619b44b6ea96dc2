//! The SMTP listener: RFC 5321, for the addresses of apps and for nothing else.
//!
//! A message ends at CRLF `.` CRLF and at nothing that only looks like it: a line feed or a carriage return that stands
//! alone is refused and the connection closed, so that no two servers can disagree about where a message ends.

mod config;
mod data;
mod lines;
mod peers;
mod reply;
mod server;
mod session;
mod sink;

pub use config::SmtpConfig;
pub use server::{Served, serve};
pub use sink::{MailSink, Recipient, SinkError};

#[cfg(test)]
pub(crate) use {server::Shared, session::Session};
