//! The SMTP listener, as the settings have it, and where its mail goes.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use picloud_core::{BoxFuture, TriggerId};
use picloud_mail::{IncomingMail, MailSink, Recipient, Served, SinkError, SmtpConfig};
use picloud_orchestrator::Orchestrator;
use picloud_store::StoreError;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::node::bind;
use crate::{config::ServeArgs, exit::Failure};

/// The listener, bound before anything else is started, so that a port in use is noticed at once.
pub(super) struct MailListener {
    listener: TcpListener,
    address: SocketAddr,
    config: SmtpConfig,
}

impl MailListener {
    /// Binds the listener; `None` where it is off.
    pub(super) async fn bind(args: &ServeArgs) -> Result<Option<Self>, Failure> {
        let Some(address) = args.mail.smtp_addr else { return Ok(None) };
        let (listener, address) = bind("PICLOUD_SMTP_ADDR", address).await?;
        let mut config = args.mail.smtp(&args.app_domain);
        config.grace = args.drain();
        Ok(Some(Self { listener, address, config }))
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes mail for the triggers of apps until `stop` is called for.
    pub(super) fn serve(
        self,
        orchestrator: Arc<Orchestrator>,
        stop: CancellationToken,
    ) -> JoinHandle<Served> {
        let Self { listener, address, config } = self;
        tracing::info!(%address, domain = %config.domain, "taking mail");
        let stopped = async move { stop.cancelled().await };
        tokio::spawn(picloud_mail::serve(listener, config, OutboxSink(orchestrator), stopped))
    }
}

/// Makes events of mails.
struct OutboxSink(Arc<Orchestrator>);

impl MailSink for OutboxSink {
    fn recipient<'a>(&'a self, local: &'a str) -> BoxFuture<'a, Result<Option<TriggerId>, SinkError>> {
        Box::pin(async move { self.0.email_trigger(local).await.map_err(|error| refusal(&error)) })
    }

    fn deliver(
        &self,
        mail: IncomingMail,
        recipients: Vec<Recipient>,
    ) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let triggers: Vec<TriggerId> = recipients.iter().map(|recipient| recipient.trigger).collect();
            let by_trigger: BTreeMap<TriggerId, Recipient> =
                recipients.into_iter().map(|recipient| (recipient.trigger, recipient)).collect();
            let payload = |trigger, most| {
                let fields = by_trigger.get(&trigger).map(|recipient| mail.fields_within(recipient, most));
                serde_json::Value::Object(fields.unwrap_or_default()).to_string()
            };
            self.0.take_mail(&triggers, payload).await.map_err(|error| refusal(&error))
        })
    }
}

fn refusal(error: &StoreError) -> SinkError {
    match error {
        StoreError::OutboxFull { .. } => SinkError::Full,
        StoreError::Unavailable(_) | StoreError::Conflict => SinkError::Unavailable,
        _ => {
            tracing::error!(%error, "a mail cannot be taken");
            SinkError::Unavailable
        }
    }
}
