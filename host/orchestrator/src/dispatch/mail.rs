//! Sending the e-mails of scripts.

use std::time::Duration;

use picloud_core::{ErrorCode, MailerError, OutgoingMail};
use picloud_store::{ClaimedEvent, EventFault, Verdict};
use tokio::time::timeout;

use super::{BUSY, Dispatcher, event};

/// How long a relay may take for one mail.
const LONGEST: Duration = Duration::from_mins(2);

impl Dispatcher {
    /// Gives a mail to the relay.
    pub(super) async fn send_mail(&self, event: &ClaimedEvent) -> Verdict {
        let Some(app) = self.invoker.directory.by_id(event.app) else {
            // It is being deleted, and its events with it.
            return Verdict::GiveBack { delay: BUSY };
        };
        let Some(mailer) = &self.mailer else {
            let message = "nothing is set up that sends mail; the operator sets PICLOUD_SMTP_RELAY";
            return dead(ErrorCode::MailNotConfigured, message);
        };
        let mail = match OutgoingMail::from_json(&event.payload) {
            Ok(mail) => mail,
            Err(problem) => return dead(ErrorCode::Invalid, problem),
        };
        let sent = timeout(LONGEST, mailer.send(event.claim.event, &app.name, &mail)).await;
        let sent = sent.unwrap_or_else(|_| {
            Err(MailerError::Temporary(format!("the relay took longer than {} s", LONGEST.as_secs())))
        });
        let policy = &self.config.retry;
        match sent {
            Ok(()) => Verdict::Done { dead_letter: event.dead_letter, is_grouped: event.group.is_some() },
            Err(MailerError::Permanent(message)) => dead(ErrorCode::MailRejected, message),
            Err(MailerError::Temporary(message)) if policy.is_exhausted(event.claim.attempt) => {
                dead(ErrorCode::MailFailed, message)
            }
            Err(MailerError::Temporary(message)) => Verdict::Retry {
                delay: policy.delay(event.claim.attempt, event::random()),
                fault: EventFault::new(ErrorCode::MailFailed, message),
            },
        }
    }
}

fn dead(code: ErrorCode, message: impl Into<String>) -> Verdict {
    Verdict::Dead { fault: EventFault::new(code, message), script: None }
}
