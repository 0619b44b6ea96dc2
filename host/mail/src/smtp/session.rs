//! One connection: which command may follow which, and what it is answered.

use std::{net::IpAddr, ops::ControlFlow, sync::Arc};

use picloud_core::{MailAddress, TriggerId};
use smtp_proto::{Error as ProtocolError, MAIL_BODY_BINARYMIME, MAIL_REQUIRETLS, MailFrom, RcptTo, Request};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{
    MailSink, Recipient, SinkError,
    data::{self, Received},
    lines::{LineError, Lines},
    reply::Reply,
    server::Shared,
};
use crate::{
    IncomingMail,
    incoming::{Envelope, MailRefusal},
};

/// A mail that is being announced.
struct Transaction {
    from: String,
    recipients: Vec<Recipient>,
    addresses: usize,
}

/// A connection.
pub(crate) struct Session<K, S> {
    shared: Arc<Shared<K>>,
    lines: Lines<S>,
    peer: IpAddr,
    helo: Option<String>,
    transaction: Option<Transaction>,
    /// Commands since a mail was accepted.
    idle: usize,
    refused: usize,
}

/// What a command comes to: an answer, unless it has been given; or the last words of the connection.
type Step = ControlFlow<Reply, Option<Reply>>;

impl<K: MailSink, S: AsyncRead + AsyncWrite> Session<K, S> {
    pub(crate) fn new(shared: Arc<Shared<K>>, stream: S, peer: IpAddr) -> Self {
        let lines = Lines::new(stream, shared.config.line_timeout);
        Self { shared, lines, peer, helo: None, transaction: None, idle: 0, refused: 0 }
    }

    /// Serves the connection to its end. `may_send` says whether its peer may send one more mail now.
    pub(crate) async fn run(mut self, may_send: impl Fn() -> bool) {
        let last_words = match self.converse(may_send).await {
            Ok(reply) => reply,
            Err(LineError::Closed) => return,
            Err(LineError::Timeout) => Reply::TIMEOUT,
            Err(LineError::TooLong) => Reply::LINE_TOO_LONG,
            Err(LineError::Bare) => Reply::BARE,
        };
        if self.lines.answer(&last_words.line()).await.is_ok() {
            self.lines.close().await;
        }
    }

    async fn converse(&mut self, may_send: impl Fn() -> bool) -> Result<Reply, LineError> {
        let shared = Arc::clone(&self.shared);
        self.lines.answer(&Reply::greeting(&shared.config)).await?;
        loop {
            let line = tokio::select! {
                biased;
                () = shared.stop.cancelled() => return Ok(Reply::SHUTDOWN),
                line = self.lines.next() => line?,
            };
            let request = parse(line);
            self.idle += 1;
            let reply = match self.command(request, &may_send).await? {
                ControlFlow::Continue(None) => continue,
                ControlFlow::Continue(Some(reply)) => reply,
                ControlFlow::Break(reply) => return Ok(reply),
            };
            self.refused += usize::from(reply.is_refusal());
            if self.refused > shared.config.max_refused_commands {
                return Ok(Reply::TOO_MANY_ERRORS);
            }
            if self.idle > shared.config.max_idle_commands + self.announced() {
                return Ok(Reply::TOO_MANY_COMMANDS);
            }
            self.lines.answer(&reply.line()).await?;
        }
    }

    /// Commands that are not idle, since they have named recipients of the mail to come.
    fn announced(&self) -> usize {
        self.transaction.as_ref().map_or(0, |transaction| transaction.addresses)
    }

    async fn command(
        &mut self,
        request: Result<Request<String>, ProtocolError>,
        may_send: impl Fn() -> bool,
    ) -> Result<Step, LineError> {
        let reply = match request {
            Ok(Request::Ehlo { host }) => return self.hello(host, &Reply::ehlo(&self.shared.config)).await,
            Ok(Request::Helo { host }) => return self.hello(host, &Reply::helo(&self.shared.config)).await,
            Ok(Request::Mail { from }) => self.sender(from, may_send),
            Ok(Request::Rcpt { to }) => self.recipient(to).await,
            Ok(Request::Data) => return self.data().await,
            Ok(Request::Rset) => {
                self.transaction = None;
                Reply::OK
            }
            Ok(Request::Noop { .. }) => Reply::OK,
            Ok(Request::Quit) => return Ok(ControlFlow::Break(Reply::BYE)),
            Ok(Request::Vrfy { .. }) => Reply::CANNOT_VERIFY,
            // What follows it is a chunk, and no command.
            Ok(Request::Bdat { .. }) => return Ok(ControlFlow::Break(Reply::NOT_IMPLEMENTED)),
            Ok(Request::Lhlo { .. }) | Err(ProtocolError::UnknownCommand) => Reply::UNKNOWN,
            Ok(_) => Reply::NOT_IMPLEMENTED,
            Err(ProtocolError::InvalidSenderAddress) => Reply::BAD_SENDER,
            Err(ProtocolError::InvalidRecipientAddress) => Reply::BAD_RECIPIENT,
            Err(ProtocolError::UnsupportedParameter { .. }) => Reply::NOT_SUPPORTED,
            Err(_) => Reply::SYNTAX,
        };
        Ok(ControlFlow::Continue(Some(reply)))
    }

    async fn hello(&mut self, host: String, answer: &str) -> Result<Step, LineError> {
        self.helo = Some(host);
        self.transaction = None;
        if self.idle > self.shared.config.max_idle_commands {
            return Ok(ControlFlow::Break(Reply::TOO_MANY_COMMANDS));
        }
        self.lines.answer(answer).await?;
        Ok(ControlFlow::Continue(None))
    }

    fn sender(&mut self, from: MailFrom<String>, may_send: impl Fn() -> bool) -> Reply {
        if self.helo.is_none() {
            return Reply::HELLO_FIRST;
        }
        if self.transaction.is_some() {
            return Reply::SENDER_TWICE;
        }
        if from.flags & (MAIL_BODY_BINARYMIME | MAIL_REQUIRETLS) != 0 {
            return Reply::NOT_SUPPORTED;
        }
        if from.size > self.shared.config.max_message_bytes {
            return Reply::TOO_LARGE;
        }
        if !may_send() {
            return Reply::TOO_FAST;
        }
        self.transaction = Some(Transaction { from: from.address, recipients: Vec::new(), addresses: 0 });
        Reply::SENDER_OK
    }

    async fn recipient(&mut self, to: RcptTo<String>) -> Reply {
        let Some(transaction) = &mut self.transaction else { return Reply::SENDER_FIRST };
        if transaction.addresses >= self.shared.config.max_recipients {
            return Reply::TOO_MANY_RECIPIENTS;
        }
        let (local, domain) = match to.address.rsplit_once('@') {
            Some((local, domain)) => (local, domain),
            None => (to.address.as_str(), self.shared.config.domain.as_str()),
        };
        if !domain.eq_ignore_ascii_case(self.shared.config.domain.as_str()) {
            return Reply::NO_RELAY;
        }
        let local = local.to_ascii_lowercase();
        let found = timeout(self.shared.config.sink_timeout, find(&self.shared.sink, &local)).await;
        let trigger = match found.unwrap_or(Err(SinkError::Unavailable)) {
            Ok(Some(trigger)) => trigger,
            Ok(None) => return Reply::NO_SUCH_ADDRESS,
            Err(error) => return of_sink(error),
        };
        let is_full = transaction.recipients.len() >= self.shared.config.max_events;
        let known = transaction.recipients.iter_mut().find(|recipient| recipient.trigger == trigger);
        match known {
            Some(recipient) => recipient.addresses.push(to.address),
            // Each is an event of its own, and all of them are committed together; the sender comes again for the rest.
            None if is_full => {
                return Reply::TOO_MANY_RECIPIENTS;
            }
            None => transaction.recipients.push(Recipient { trigger, addresses: vec![to.address] }),
        }
        transaction.addresses += 1;
        Reply::RECIPIENT_OK
    }

    async fn data(&mut self) -> Result<Step, LineError> {
        let again = |reply| Ok(ControlFlow::Continue(Some(reply)));
        match &self.transaction {
            None => return again(Reply::SENDER_FIRST),
            Some(transaction) if transaction.recipients.is_empty() => return again(Reply::RECIPIENT_FIRST),
            Some(_) => {}
        }
        let Some(transaction) = self.transaction.take() else { return again(Reply::SENDER_FIRST) };
        self.lines.answer(&Reply::DATA.line()).await?;
        let shared = Arc::clone(&self.shared);
        let received = timeout(
            shared.config.data_timeout,
            data::receive(&mut self.lines, &shared, transaction.recipients.len()),
        )
        .await;
        match received.map_err(|_| LineError::Timeout)?? {
            Received::Mail(mail, _memory) => {
                let reply = self.accept(mail, transaction).await;
                if reply == Reply::ACCEPTED {
                    self.idle = 0;
                }
                again(reply)
            }
            Received::Refused(reply) => again(reply),
            Received::Endless(reply) => Ok(ControlFlow::Break(reply)),
        }
    }

    async fn accept(&self, mail: Vec<u8>, transaction: Transaction) -> Reply {
        let Transaction { from, recipients, .. } = transaction;
        let envelope = Envelope { from, peer: self.peer, helo: self.helo.clone().unwrap_or_default() };
        let most = self.shared.config.max_event_bytes;
        // A large mail takes its time, in which others are to be served.
        let parsed = tokio::task::spawn_blocking(move || IncomingMail::parse(&mail, envelope, most)).await;
        let mail = match parsed {
            Ok(Ok(mail)) => mail,
            Ok(Err(MailRefusal::Loop)) => return Reply::LOOP,
            Ok(Err(MailRefusal::Header)) => return Reply::HEADERS,
            Err(error) => {
                tracing::error!(%error, "reading a mail failed");
                return Reply::UNAVAILABLE;
            }
        };
        let delivered =
            timeout(self.shared.config.sink_timeout, self.shared.sink.deliver(mail, recipients)).await;
        match delivered.unwrap_or(Err(SinkError::Unavailable)) {
            Ok(()) => Reply::ACCEPTED,
            Err(error) => of_sink(error),
        }
    }
}

/// A command. Without an `@` a recipient is the postmaster, whom the parser does not tell from nobody.
fn parse(line: &[u8]) -> Result<Request<String>, ProtocolError> {
    let request = Request::parse(&mut line.iter())?.into_owned();
    match request {
        Request::Rcpt { to } if to.address.is_empty() => {
            let is_postmaster = line.to_ascii_lowercase().windows(12).any(|part| part == b"<postmaster>");
            let address = is_postmaster.then(|| "postmaster".to_owned());
            let address = address.ok_or(ProtocolError::InvalidRecipientAddress)?;
            Ok(Request::Rcpt { to: RcptTo { address, ..to } })
        }
        request => Ok(request),
    }
}

/// The trigger of a local part, or of what stands before its `+`.
async fn find(sink: &impl MailSink, local: &str) -> Result<Option<TriggerId>, SinkError> {
    if !MailAddress::is_local(local) {
        return Ok(None);
    }
    let found = sink.recipient(local).await?;
    match local.split_once('+') {
        Some((base, _)) if found.is_none() && MailAddress::is_local(base) => sink.recipient(base).await,
        _ => Ok(found),
    }
}

fn of_sink(error: SinkError) -> Reply {
    match error {
        SinkError::Full => Reply::NO_ROOM,
        SinkError::Unavailable => Reply::UNAVAILABLE,
    }
}
