//! `picloud:runtime/events`: what an invocation sends. It is kept in the invocation's session, and sent when that is
//! committed.

use std::time::Duration;

use picloud_core::{
    DedupeKey, Emission, Emitted, ErrorCode, EventId, GroupKey, HostError, MessageOptions, NameError,
    OutgoingMail, QueueName, TopicName,
};

use super::{Answer, Failure, answer, running};
use crate::{
    bindings::picloud::runtime::events::{Host, MessageOptions as GivenOptions, OutgoingMail as GivenMail},
    fault::Stop,
    state::{Shared, State},
};

/// The most events of one invocation.
const MAX_EVENTS: u64 = 1_000;

impl Host for State {
    async fn send(&mut self, queue: String, body: String, options: GivenOptions) -> Answer<String> {
        answer(send(self, queue, body, options))
    }

    async fn publish(&mut self, topic: String, body: String) -> Answer<String> {
        answer(publish(self, topic, body))
    }

    async fn mail(&mut self, mail: GivenMail) -> Answer<String> {
        answer(send_mail(self, mail))
    }
}

fn send(state: &mut State, queue: String, body: String, options: GivenOptions) -> Result<String, Failure> {
    let shared = &running(state)?.shared;
    let keys = [&options.dedupe_key, &options.group].into_iter().flatten().map(String::len).sum::<usize>();
    shared.charge_call(queue.len() + body.len() + keys)?;
    let queue = QueueName::new(queue)?;
    let options = message_options(options)?;
    emit(shared, Emitted::Message { queue, body: body.into(), options })
}

fn publish(state: &mut State, topic: String, body: String) -> Result<String, Failure> {
    let shared = &running(state)?.shared;
    shared.charge_call(topic.len() + body.len())?;
    let topic = TopicName::new(topic)?;
    emit(shared, Emitted::Publication { topic, body: body.into() })
}

fn send_mail(state: &mut State, mail: GivenMail) -> Result<String, Failure> {
    let shared = &running(state)?.shared;
    let GivenMail { from_name, to, cc, bcc, reply_to, subject, text, html, in_reply_to } = mail;
    let mail = OutgoingMail { from_name, to, cc, bcc, reply_to, subject, text, html, in_reply_to };
    shared.charge_call(mail.bytes())?;
    if !shared.host.can_mail() {
        let message = "email: nothing is set up here that sends mail; the operator sets PICLOUD_SMTP_RELAY";
        return Err(HostError::new(ErrorCode::MailNotConfigured, message).into());
    }
    mail.check().map_err(|error| HostError::new(ErrorCode::Invalid, format!("email: {error}")))?;
    emit(shared, Emitted::Mail(Box::new(mail)))
}

/// Makes an event, to be sent at the commit.
fn emit(shared: &Shared, what: Emitted) -> Result<String, Failure> {
    let (bytes, limit) = (what.bytes(), shared.limits.event_bytes);
    if bytes as u64 > limit {
        let noun = match &what {
            Emitted::Message { .. } | Emitted::Publication { .. } => "body",
            Emitted::Mail(_) => "mail",
        };
        let message = format!("the {noun} has {bytes} bytes; this app's limit event_bytes is {limit}");
        return Err(HostError::new(ErrorCode::TooLarge, message).into());
    }
    let id = EventId::generate();
    let text = id.to_string();
    shared.charge_bytes(text.len())?;
    let mut progress = shared.progress();
    if progress.events >= MAX_EVENTS {
        return Err(Stop::HostCallBudget(format!("an invocation may send {MAX_EVENTS} events")).into());
    }
    progress.events += 1;
    progress.kv.emit(Emission { id, what });
    Ok(text)
}

fn message_options(given: GivenOptions) -> Result<MessageOptions, HostError> {
    let invalid = |message: String| HostError::new(ErrorCode::Invalid, message);
    let delay = Duration::from_millis(given.delay_ms);
    if delay > MessageOptions::MAX_DELAY {
        let most = MessageOptions::MAX_DELAY.as_millis();
        let message = format!("the delay is {} ms; allowed are 0 to {most}, which is a year", given.delay_ms);
        return Err(invalid(message));
    }
    let (least, most) = (MessageOptions::MIN_PRIORITY, MessageOptions::MAX_PRIORITY);
    let priority = i16::try_from(given.priority).ok().filter(|priority| (least..=most).contains(priority));
    let priority = priority.ok_or_else(|| {
        invalid(format!("the priority is {}; allowed are {least} to {most}", given.priority))
    })?;
    let wrong = |error: NameError| invalid(error.to_string());
    let dedupe_key = given.dedupe_key.map(DedupeKey::new).transpose().map_err(wrong)?;
    let group = given.group.map(GroupKey::new).transpose().map_err(wrong)?;
    Ok(MessageOptions { delay, priority, dedupe_key, group })
}
