use std::time::Duration;

use picloud_core::DomainName;

/// Caps and timers of the listener.
#[derive(Clone, Debug)]
pub struct SmtpConfig {
    /// The domain that mail is taken for; the name that the listener greets with as well.
    pub domain: DomainName,
    /// The largest mail, in bytes.
    pub max_message_bytes: usize,
    /// The largest event that a mail may become, in bytes of JSON. What does not fit is left out of it and marked.
    pub max_event_bytes: usize,
    /// Memory for the mails that are being received, in bytes, for all connections together.
    pub max_buffered_bytes: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address (IPv4), or one network of 64 bits (IPv6).
    pub max_connections_per_peer: usize,
    /// Mails a minute from one such address, which may come at once.
    pub mails_per_minute: u32,
    /// Receivers of one mail.
    pub max_recipients: usize,
    /// Events that one mail may become: triggers among its receivers.
    pub max_events: usize,
    /// Commands of a connection without a mail that was accepted.
    pub max_idle_commands: usize,
    /// Commands of a connection that were refused.
    pub max_refused_commands: usize,
    /// For a command, a line of a mail, and for the peer to take an answer.
    pub line_timeout: Duration,
    /// For a whole mail.
    pub data_timeout: Duration,
    /// For the sink.
    pub sink_timeout: Duration,
    /// For mails that are being received at shutdown.
    pub grace: Duration,
}

impl SmtpConfig {
    /// The defaults, for a domain.
    pub fn new(domain: DomainName) -> Self {
        Self {
            domain,
            max_message_bytes: 10 << 20,
            max_event_bytes: 1 << 20,
            max_buffered_bytes: 64 << 20,
            max_connections: 200,
            max_connections_per_peer: 10,
            mails_per_minute: 120,
            max_recipients: 100,
            max_events: 10,
            max_idle_commands: 50,
            max_refused_commands: 10,
            line_timeout: Duration::from_mins(1),
            data_timeout: Duration::from_mins(10),
            sink_timeout: Duration::from_mins(1),
            grace: Duration::from_secs(30),
        }
    }
}
