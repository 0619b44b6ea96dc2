//! A sink that remembers, a listener in front of it, and a client that says exactly what it is told.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use picloud_core::{BoxFuture, TriggerId};
use picloud_mail::{IncomingMail, MailSink, Recipient, Served, SinkError, SmtpConfig, serve};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, oneshot},
    task::JoinHandle,
};

/// One committed event: its trigger, and its fields.
pub(crate) type Event = (TriggerId, Value);

/// What the sink has, and how it behaves.
pub(crate) struct State {
    pub(crate) addresses: HashMap<String, TriggerId>,
    pub(crate) events: Mutex<Vec<Event>>,
    pub(crate) failure: Mutex<Option<SinkError>>,
    /// Deliveries that may go on.
    pub(crate) gate: Semaphore,
    /// Told when a delivery waits at the gate.
    pub(crate) waiting: Notify,
}

#[derive(Clone)]
pub(crate) struct Sink(pub(crate) Arc<State>);

impl Sink {
    fn failure(&self) -> Result<(), SinkError> {
        self.0.failure.lock().unwrap().map_or(Ok(()), Err)
    }
}

impl MailSink for Sink {
    fn recipient<'a>(&'a self, local: &'a str) -> BoxFuture<'a, Result<Option<TriggerId>, SinkError>> {
        Box::pin(async move { self.failure().map(|()| self.0.addresses.get(local).copied()) })
    }

    fn deliver(
        &self,
        mail: IncomingMail,
        recipients: Vec<Recipient>,
    ) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            self.0.waiting.notify_one();
            self.0.gate.acquire().await.unwrap().forget();
            self.failure()?;
            let events =
                recipients.iter().map(|recipient| (recipient.trigger, mail.fields(recipient).into()));
            self.0.events.lock().unwrap().extend(events);
            Ok(())
        })
    }
}

/// A listener.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) sink: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Served>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(config()).await
    }

    pub(crate) async fn start_with(config: SmtpConfig) -> Self {
        let names = ["orders", "help", "a+b", "postmaster"];
        let sink = Arc::new(State {
            addresses: names.map(|name| (name.to_owned(), TriggerId::generate())).into(),
            events: Mutex::default(),
            failure: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS >> 1),
            waiting: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(serve(listener, config, Sink(Arc::clone(&sink)), shutdown));
        Self { address, sink, stop: Some(stop), served }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.sink.events.lock().unwrap().clone()
    }

    pub(crate) fn trigger(&self, name: &str) -> TriggerId {
        self.sink.addresses[name]
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn ended(self) -> Served {
        self.served.await.unwrap()
    }

    /// A connection that has been greeted.
    pub(crate) async fn connect(&self) -> Client {
        let mut client = Client::to(self.address).await;
        assert_eq!(client.line().await, "220 apps.example.org ESMTP");
        client
    }

    /// A connection that has said EHLO.
    pub(crate) async fn hello(&self) -> Client {
        let mut client = self.connect().await;
        client.send("EHLO client.example.org\r\n").await;
        while client.line().await.starts_with("250-") {}
        client
    }

    /// A connection that has announced a mail and may send it.
    pub(crate) async fn in_data(&self) -> Client {
        let mut client = self.hello().await;
        client.says("MAIL FROM:<ada@example.org>", "250 2.1.0").await;
        client.says("RCPT TO:<orders@apps.example.org>", "250 2.1.5").await;
        client.says("DATA", "354 ").await;
        client
    }
}

pub(crate) fn config() -> SmtpConfig {
    SmtpConfig::new("apps.example.org".parse().unwrap())
}

/// A connection.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).await.unwrap();
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        assert!(line.ends_with("\r\n"), "{line:?}");
        line.trim_end().to_owned()
    }

    /// Says a line and expects an answer that starts so.
    #[track_caller]
    pub(crate) fn says<'a>(&'a mut self, text: &'a str, answer: &'a str) -> BoxFuture<'a, ()> {
        let caller = std::panic::Location::caller();
        Box::pin(async move {
            self.send(format!("{text}\r\n")).await;
            let line = self.line().await;
            assert!(line.starts_with(answer), "{text}: {line}, expected {answer} ({caller})");
        })
    }

    /// Everything until the server ends the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A server that ends while there is something to read resets the connection.
        let _ = self.0.read_to_end(&mut rest).await;
        String::from_utf8(rest).unwrap()
    }
}
