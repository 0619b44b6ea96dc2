//! The SMTP listener, as the settings have it.

use picloud_mail::{MailSink, SmtpConfig};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::node::bind;
use crate::{config::ServeArgs, exit::Failure};

/// The listener, bound before anything else is started, so that a port in use is noticed at once.
pub(super) struct MailListener {
    listener: TcpListener,
    config: SmtpConfig,
}

impl MailListener {
    /// Binds the listener; `None` where it is off.
    pub(super) async fn bind(args: &ServeArgs) -> Result<Option<Self>, Failure> {
        let Some(address) = args.mail.smtp_addr else { return Ok(None) };
        let (listener, address) = bind("PICLOUD_SMTP_ADDR", address).await?;
        let mut config = args.mail.smtp(&args.app_domain);
        config.grace = args.drain();
        tracing::info!(%address, domain = %config.domain, "taking mail");
        Ok(Some(Self { listener, config }))
    }

    /// Takes mail for `sink` until `stop` is called for.
    pub(super) fn serve(
        self,
        sink: impl MailSink,
        stop: CancellationToken,
    ) -> JoinHandle<picloud_mail::Served> {
        let Self { listener, config } = self;
        tokio::spawn(picloud_mail::serve(listener, config, sink, async move { stop.cancelled().await }))
    }
}
