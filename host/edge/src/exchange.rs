//! What the two sides of one connection know of each other: the stream, which sees bytes, and the service,
//! which sees requests.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response,
    header::{CONNECTION, TRANSFER_ENCODING},
};
use http_body::{Body, Frame, SizeHint};
use picloud_core::{ErrorCode, RequestId};

use crate::Problem;

/// The most headers of a request.
const MAX_HEADERS: usize = 100;

/// The state of a connection's requests. Both sides are polled by one task, except for HTTP/2's streams, and
/// nothing here guards other memory, so that relaxed order does.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    started: AtomicU32,
    finished: AtomicU32,
    answering: AtomicU32,
    /// The number of the request, from 1, whose whole head the stream has looked at last.
    scanned: AtomicU32,
    is_ambiguous: AtomicBool,
    lingers: AtomicBool,
}

impl Exchange {
    /// How many requests have begun, modulo 2^32.
    pub(crate) fn started(&self) -> u32 {
        self.started.load(Relaxed)
    }

    /// How many requests are over, modulo 2^32.
    pub(crate) fn finished(&self) -> u32 {
        self.finished.load(Relaxed)
    }

    /// Whether a request is between its head and the end of its answer.
    pub(crate) fn is_serving(&self) -> bool {
        self.started() != self.finished()
    }

    /// Whether an answer waits for the client to take it.
    pub(crate) fn is_answering(&self) -> bool {
        self.answering.load(Relaxed) > 0
    }

    /// Marks the framing of the request whose head was just read as ambiguous.
    pub(crate) fn set_ambiguous(&self) {
        self.is_ambiguous.store(true, Relaxed);
    }

    /// The whole head of the next request has been looked at.
    pub(crate) fn set_scanned(&self) {
        self.scanned.store(self.started().wrapping_add(1), Relaxed);
    }

    /// Whether the client may still be sending what the last answer refused.
    pub(crate) fn lingers(&self) -> bool {
        self.lingers.load(Relaxed)
    }

    /// Begins a request.
    pub(crate) fn begin(self: &Arc<Self>) -> Serving {
        self.started.fetch_add(1, Relaxed);
        Serving { exchange: Arc::clone(self), is_answering: false }
    }

    /// What both listeners refuse before any handler sees it.
    pub(crate) fn refusal<B>(&self, request: &Request<B>) -> Option<Problem> {
        let problem = if self.is_ambiguous.load(Relaxed) {
            let detail = "the length of the body is given more than once, or beside Transfer-Encoding";
            Problem::new(ErrorCode::BadRequest).detail(detail).close()
        } else if request.headers().contains_key(TRANSFER_ENCODING)
            && self.scanned.load(Relaxed) != self.started()
        {
            // Its head came behind another request, where it could not be looked at.
            let detail = "a request with Transfer-Encoding must wait for the answer to the one before";
            Problem::new(ErrorCode::BadRequest).detail(detail).close()
        } else if request.headers().get_all(TRANSFER_ENCODING).iter().any(|value| !is_chunked(value)) {
            let detail = "the only Transfer-Encoding that is understood is chunked";
            Problem::new(ErrorCode::BadRequest).detail(detail).close()
        } else if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
            let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
            Problem::new(ErrorCode::MethodNotAllowed).allow(methods).close()
        } else if request.headers().len() > MAX_HEADERS {
            let detail = format!("the request has more than {MAX_HEADERS} headers");
            Problem::new(ErrorCode::HeadersTooLarge).detail(detail).close()
        } else {
            return None;
        };
        Some(problem.request_id(RequestId::generate()))
    }
}

fn is_chunked(value: &HeaderValue) -> bool {
    value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// A request that is being served, from its head to the last byte of its answer.
#[derive(Debug)]
pub(crate) struct Serving {
    exchange: Arc<Exchange>,
    is_answering: bool,
}

impl Serving {
    /// The answer begins.
    pub(crate) fn answer<B>(&mut self, response: &Response<B>) {
        self.is_answering = true;
        self.exchange.answering.fetch_add(1, Relaxed);
        let is_refusal = response.status().is_client_error() || response.status().is_server_error();
        let closes = response.headers().get(CONNECTION).is_some_and(|value| value == "close");
        self.exchange.lingers.store(is_refusal || closes, Relaxed);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.is_answering {
            self.exchange.answering.fetch_sub(1, Relaxed);
        }
        self.exchange.finished.fetch_add(1, Relaxed);
    }
}

/// An answer's body that tells the connection when it is gone.
#[derive(Debug)]
pub struct Tracked<B> {
    body: B,
    _serving: Serving,
}

impl<B> Tracked<B> {
    pub(crate) fn new(body: B, serving: Serving) -> Self {
        Self { body, _serving: serving }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
