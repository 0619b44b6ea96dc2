//! E-mail of apps: in over SMTP, out through a relay.
