//! E-mail: the listener that takes it, and the relay that sends it.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Args;
use picloud_core::{DomainName, SecretValue};
use picloud_mail::{Relay, RelayConfig, RelayUrl, SenderAddress, SmtpConfig};

use super::{parse_address, secret_file, values};
use crate::exit::{Exit, Failure};

/// How e-mail comes in and goes out.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "E-mail")]
pub(crate) struct MailArgs {
    /// SMTP listener: takes mail for the addresses of triggers [default: off]
    #[arg(long, env = "PICLOUD_SMTP_ADDR", value_name = "IP:PORT", value_parser = parse_address)]
    pub(crate) smtp_addr: Option<SocketAddr>,

    /// Domain of the addresses that mail is taken for [default: the domain of apps]
    #[arg(long, env = "PICLOUD_SMTP_DOMAIN", value_name = "DOMAIN", value_parser = values::domain)]
    smtp_domain: Option<DomainName>,

    /// The largest mail that is taken; a number of bytes, or with KiB, MiB or GiB
    #[arg(long, env = "PICLOUD_SMTP_MAX_BYTES", value_name = "BYTES", default_value = "10MiB", value_parser = values::bytes(64 << 10, 64 << 20))]
    smtp_max_bytes: u64,

    /// The largest event that a mail becomes; contents of attachments that do not fit are left out
    #[arg(long, env = "PICLOUD_SMTP_MAX_EVENT_BYTES", value_name = "BYTES", default_value = "1MiB", value_parser = values::bytes(16 << 10, 32 << 20))]
    smtp_max_event_bytes: u64,

    /// SMTP connections at once
    #[arg(long, env = "PICLOUD_SMTP_MAX_CONNECTIONS", value_name = "COUNT", default_value = "200", value_parser = values::whole(1, 10_000))]
    smtp_max_connections: u64,

    /// SMTP connections at once from one address
    #[arg(long, env = "PICLOUD_SMTP_MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT", default_value = "10", value_parser = values::whole(1, 10_000))]
    smtp_max_connections_per_address: u64,

    /// Mails a minute from one address
    #[arg(long, env = "PICLOUD_SMTP_MAILS_PER_MINUTE", value_name = "COUNT", default_value = "120", value_parser = values::whole(1, 1_000_000))]
    smtp_mails_per_minute: u64,

    /// Mail server that sends what scripts send: `smtp://USER@HOST:PORT` with STARTTLS, `smtps://USER@HOST:PORT` with TLS,
    /// or `smtp://127.0.0.1:PORT?tls=none` [default: none, scripts cannot send]
    #[arg(long, env = "PICLOUD_SMTP_RELAY", value_name = "URL", hide_env_values = true, value_parser = str::parse::<RelayUrl>)]
    smtp_relay: Option<RelayUrl>,

    /// Password of the relay's user; better in a file, or in the variable
    #[arg(long, env = "PICLOUD_SMTP_RELAY_PASSWORD", value_name = "PASSWORD", hide_env_values = true, value_parser = password)]
    smtp_relay_password: Option<Arc<SecretValue>>,

    /// File of the password of the relay's user, mode 0600
    #[arg(long, env = "PICLOUD_SMTP_RELAY_PASSWORD_FILE", value_name = "FILE")]
    smtp_relay_password_file: Option<PathBuf>,

    /// File of certificates (PEM) of authorities to trust for the relay, beside the public ones
    #[arg(long, env = "PICLOUD_SMTP_RELAY_CA_FILE", value_name = "FILE")]
    smtp_relay_ca_file: Option<PathBuf>,

    /// Address that scripts send from; {app} in it becomes the app's name: {app}@apps.example.org
    #[arg(long, env = "PICLOUD_MAIL_FROM", value_name = "ADDRESS", value_parser = str::parse::<SenderAddress>)]
    mail_from: Option<SenderAddress>,
}

impl MailArgs {
    /// The domain of addresses, where apps have this one.
    fn domain(&self, app_domain: &DomainName) -> DomainName {
        self.smtp_domain.as_ref().unwrap_or(app_domain).clone()
    }

    /// What the listener is started with.
    pub(crate) fn smtp(&self, app_domain: &DomainName) -> SmtpConfig {
        let defaults = SmtpConfig::new(self.domain(app_domain));
        let (mail, event) = (self.smtp_max_bytes as usize, self.smtp_max_event_bytes as usize);
        SmtpConfig {
            max_message_bytes: mail,
            max_event_bytes: event,
            // The largest mail always fits: buffers are doubled, and it is there once more decoded.
            max_buffered_bytes: defaults.max_buffered_bytes.max(mail * 4 + event * defaults.max_events),
            max_connections: self.smtp_max_connections as usize,
            max_connections_per_peer: self.smtp_max_connections_per_address as usize,
            mails_per_minute: self.smtp_mails_per_minute as u32,
            ..defaults
        }
    }

    /// The relay; `None` where there is none. Reads the file of the password.
    pub(crate) fn relay(&self, app_domain: &DomainName) -> Result<Option<Relay>, Failure> {
        let Some(url) = self.smtp_relay.clone() else { return self.check_unset().map(|()| None) };
        let usage = |problem: &str| Failure::new(Exit::Usage, problem);
        let from = self.mail_from.clone().ok_or_else(|| {
            usage("PICLOUD_SMTP_RELAY is set and PICLOUD_MAIL_FROM is not; it is the address that apps send from, {app}@apps.example.org")
        })?;
        let password = match (&self.smtp_relay_password, &self.smtp_relay_password_file) {
            (Some(_), Some(_)) => {
                return Err(usage(
                    "PICLOUD_SMTP_RELAY_PASSWORD and PICLOUD_SMTP_RELAY_PASSWORD_FILE are both set; set one of them",
                ));
            }
            (password, None) => password.clone(),
            (None, Some(file)) => {
                Some(secret_file::read("PICLOUD_SMTP_RELAY_PASSWORD_FILE", file, password)?)
            }
        };
        let read = |file: &PathBuf| {
            fs::read(file).map_err(|error| {
                usage(&format!("PICLOUD_SMTP_RELAY_CA_FILE is {}: {error}; allowed is a file of certificates in PEM form", file.display()))
            })
        };
        let roots = self.smtp_relay_ca_file.as_ref().map(read).transpose()?;
        let config = RelayConfig { url, password, from, hello: self.domain(app_domain), roots };
        let relay =
            Relay::new(config).map_err(|error| usage(&format!("PICLOUD_SMTP_RELAY is set; {error}")))?;
        Ok(Some(relay))
    }

    /// Without a relay the rest would do nothing, which nobody means.
    fn check_unset(&self) -> Result<(), Failure> {
        let set = [
            ("PICLOUD_SMTP_RELAY_PASSWORD", self.smtp_relay_password.is_some()),
            ("PICLOUD_SMTP_RELAY_PASSWORD_FILE", self.smtp_relay_password_file.is_some()),
            ("PICLOUD_SMTP_RELAY_CA_FILE", self.smtp_relay_ca_file.is_some()),
            ("PICLOUD_MAIL_FROM", self.mail_from.is_some()),
        ];
        match set.iter().find(|(_, is_set)| *is_set) {
            None => Ok(()),
            Some((variable, _)) => {
                let problem = format!("{variable} is set and PICLOUD_SMTP_RELAY is not; set both or neither");
                Err(Failure::new(Exit::Usage, problem))
            }
        }
    }
}

fn password(text: &str) -> Result<Arc<SecretValue>, String> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.len() > 1024 || text.chars().any(char::is_control) {
        return Err("allowed is one line of up to 1024 bytes".to_owned());
    }
    SecretValue::new(text.as_bytes().to_vec()).map(Arc::new).map_err(|error| error.to_string())
}
