//! A name server with the records that a test gives it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, rdata::TXT},
};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

/// Answers over UDP, until it is dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _answering: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Zone {
    texts: HashMap<String, Vec<String>>,
    failing: bool,
    asked: usize,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let answering = tokio::spawn(answer(socket, Arc::clone(&zone)));
        Self { address, zone, _answering: AbortOnDropHandle::new(answering) }
    }

    /// Gives a name its TXT records, in place of those that it has.
    pub(crate) fn set(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.zone.lock().unwrap().texts.insert(format!("{name}."), texts);
    }

    /// Whether every question fails.
    pub(crate) fn fail(&self, failing: bool) {
        self.zone.lock().unwrap().failing = failing;
    }

    /// Questions so far.
    pub(crate) fn asked(&self) -> usize {
        self.zone.lock().unwrap().asked
    }
}

async fn answer(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let answer = zone.lock().unwrap().answer(&question);
        socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
    }
}

impl Zone {
    fn answer(&mut self, question: &Message) -> Message {
        self.asked += 1;
        let query = question.queries[0].clone();
        let name = query.name().to_lowercase().to_string();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        match self.texts.get(&name) {
            _ if self.failing => answer.metadata.response_code = ResponseCode::ServFail,
            Some(texts) => {
                for text in texts {
                    let txt = RData::TXT(TXT::new(vec![text.clone()]));
                    answer.add_answer(Record::from_rdata(query.name().clone(), 60, txt));
                }
            }
            None => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        answer.add_query(query);
        answer
    }
}
