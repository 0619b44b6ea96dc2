//! A connection's stream with its timers.
//!
//! hyper's own timer for heads allocates for every request and does not cover a connection that never says
//! which protocol it speaks; this one is armed about once a timeout, whatever the traffic. The stream also
//! gives the parser's own error answers the form that every other error has.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use picloud_core::ErrorCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::{Problem, exchange::Exchange, head::HeadScan};

/// How much of what a refused client goes on sending is read and thrown away, and for how long. Closing with
/// unread input would reset the connection and destroy the answer on its way.
const LINGER_BYTES: usize = 4 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// The timeouts of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamTimes {
    /// For a whole head, from its first byte; also for the first byte of a new connection.
    pub(crate) head: Duration,
    /// Between two requests.
    pub(crate) idle: Duration,
    /// Without the client taking a byte of an answer.
    pub(crate) write: Duration,
}

/// What a connection is waiting for when a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Head,
    Idle,
    Write,
}

/// A stream that ends by itself when its peer is too slow.
#[derive(Debug)]
pub(crate) struct GuardedStream<T> {
    inner: T,
    exchange: Arc<Exchange>,
    times: StreamTimes,
    timer: Pin<Box<Sleep>>,
    is_armed: bool,
    /// The value of [`Exchange::started`] and [`Exchange::finished`] that the fields below belong to.
    started: u32,
    finished: u32,
    /// Since when nothing has happened: the last answer's end, or the last byte of an answer that the peer took.
    idle_since: Instant,
    head_since: Option<Instant>,
    blocked_since: Option<Instant>,
    scan: HeadScan,
    is_new: bool,
    is_http2: bool,
    /// [`Exchange::started`] when everything was flushed and nothing being served.
    flushed: Option<u32>,
    own_answer: Bytes,
    linger: Option<(Instant, usize)>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> GuardedStream<T> {
    pub(crate) fn new(inner: T, exchange: Arc<Exchange>, times: StreamTimes) -> Self {
        let now = Instant::now();
        Self {
            inner,
            exchange,
            times,
            timer: Box::pin(sleep_until(now)),
            is_armed: false,
            started: 0,
            finished: 0,
            idle_since: now,
            head_since: None,
            blocked_since: None,
            scan: HeadScan::default(),
            is_new: true,
            is_http2: false,
            flushed: Some(0),
            own_answer: Bytes::new(),
            linger: None,
        }
    }

    /// Takes note of bytes that belong to a head.
    fn received(&mut self, bytes: &[u8]) {
        if self.is_http2 || self.exchange.is_serving() {
            return;
        }
        self.follow_exchange();
        if !bytes.is_empty() {
            self.head_since.get_or_insert_with(Instant::now);
        }
        self.scan.feed(bytes);
        if self.is_new && self.scan.is_http2() {
            self.is_http2 = true;
            self.head_since = None;
        } else if self.scan.is_ambiguous() {
            self.exchange.set_ambiguous();
        } else if self.scan.is_done() {
            self.exchange.set_scanned();
        }
    }

    /// Starts over where a request came and went since the last look.
    fn follow_exchange(&mut self) {
        let (started, finished) = (self.exchange.started(), self.exchange.finished());
        if (started, finished) != (self.started, self.finished) {
            (self.started, self.finished) = (started, finished);
            self.is_new = false;
            self.idle_since = Instant::now();
            self.head_since = None;
            self.scan = HeadScan::default();
        }
    }

    fn deadline(&mut self) -> Option<(Instant, Wait)> {
        self.follow_exchange();
        if let Some(since) = self.blocked_since {
            return Some((since + self.times.write, Wait::Write));
        }
        if self.exchange.is_serving() {
            // An HTTP/2 client can leave an answer waiting without blocking the connection.
            return self.exchange.is_answering().then(|| (self.idle_since + self.times.write, Wait::Write));
        }
        Some(match self.head_since {
            Some(since) => (since + self.times.head, Wait::Head),
            // Of HTTP/2 this covers the preface, and a client that never asks for anything.
            None if self.is_new => (self.idle_since + self.times.head, Wait::Idle),
            None => (self.idle_since + self.times.idle, Wait::Idle),
        })
    }

    /// Waits for the deadline of whatever the stream is waiting for. The timer is left armed for an earlier
    /// moment, which costs one wake-up then and nothing for each request until then.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Wait> {
        loop {
            let Some((deadline, wait)) = self.deadline() else { return Poll::Pending };
            if !self.is_armed || self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
                self.is_armed = true;
            }
            ready!(self.timer.as_mut().poll(cx));
            self.is_armed = false;
            if Instant::now() >= deadline {
                return Poll::Ready(wait);
            }
        }
    }

    /// Sees to it that the deadline is noticed. The parser may not read again after an answer, because it is
    /// still waiting from before; when the timer wakes the connection's task, it does.
    fn stay_awake(&mut self, cx: &mut Context<'_>) {
        let is_pending = self.is_armed && !self.timer.is_elapsed();
        if !is_pending && self.poll_deadline(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Ends a connection whose peer is too slow: with an answer where a request had begun, in silence where
    /// none had.
    fn expire(&mut self, wait: Wait, cx: &mut Context<'_>) -> io::Result<()> {
        tracing::debug!(?wait, "a connection's peer is too slow");
        match wait {
            Wait::Idle => return Ok(()),
            Wait::Head if !self.exchange.is_serving() => {
                let detail = format!("the head did not arrive within {} ms", self.times.head.as_millis());
                let answer = Problem::new(ErrorCode::RequestTimeout).detail(detail).into_http1();
                // Nothing is on its way, so that the socket's buffer has room; if not, the peer reads nothing.
                let _ = Pin::new(&mut self.inner).poll_write(cx, &answer);
            }
            Wait::Head | Wait::Write => {}
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Whether the parser itself is answering: it writes, but no request began since everything was flushed.
    fn is_parsers_answer(&self, bytes: &[u8]) -> bool {
        self.flushed == Some(self.exchange.started()) && bytes.starts_with(b"HTTP/1.")
    }

    fn wrote(&mut self, result: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(result) => {
                self.blocked_since = None;
                // What HTTP/2 says by itself, in answer to pings for example, is no use of the connection.
                if self.exchange.is_serving() {
                    self.idle_since = Instant::now();
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                self.blocked_since.get_or_insert_with(Instant::now);
                let wait = ready!(self.poll_deadline(cx));
                Poll::Ready(self.expire(wait, cx).and(Err(io::ErrorKind::TimedOut.into())))
            }
        }
    }

    fn poll_own_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.own_answer.is_empty() {
            let result = Pin::new(&mut self.inner).poll_write(cx, &self.own_answer);
            match ready!(self.wrote(result, cx))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.own_answer.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (until, mut read) = self.linger.unwrap_or((Instant::now() + LINGER_TIME, 0));
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => read += buffer.filled().len(),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
            if read > LINGER_BYTES {
                return Poll::Ready(());
            }
        }
        self.linger = Some((until, read));
        self.timer.as_mut().reset(until);
        self.timer.as_mut().poll(cx)
    }
}

/// The answer in the place of the parser's own, which has nothing but a status.
fn own_answer(parsers: &[u8], scan: &HeadScan) -> Bytes {
    let problem = match parsers.get(9..12) {
        // The parser calls a length that no body can have too large a head.
        Some(b"431") if scan.has_only_a_large_body() => Problem::new(ErrorCode::BodyTooLarge)
            .detail("the body is announced as larger than any body can be"),
        Some(b"431") => Problem::new(ErrorCode::HeadersTooLarge)
            .detail("the head has more than 100 headers, or more bytes than this server takes"),
        Some(b"414") => {
            Problem::new(ErrorCode::HeadersTooLarge).detail("the target of the request is too long")
        }
        _ => Problem::new(ErrorCode::BadRequest).detail("the head of the request is not valid HTTP"),
    };
    problem.into_http1()
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for GuardedStream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                this.received(&buffer.filled()[before..]);
                Poll::Ready(result)
            }
            Poll::Pending => {
                let wait = ready!(this.poll_deadline(cx));
                Poll::Ready(this.expire(wait, cx))
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GuardedStream<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(first) = buffers.first()
            && this.is_parsers_answer(first)
        {
            this.own_answer = own_answer(first, &this.scan);
            this.flushed = None;
            return Poll::Ready(Ok(buffers.iter().map(|buffer| buffer.len()).sum()));
        }
        ready!(this.poll_own_answer(cx))?;
        let result = Pin::new(&mut this.inner).poll_write_vectored(cx, buffers);
        this.wrote(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_own_answer(cx))?;
        ready!(Pin::new(&mut this.inner).poll_flush(cx))?;
        // The parser flushes only once its own buffer is empty.
        if !this.exchange.is_serving() {
            this.flushed = Some(this.exchange.started());
        }
        this.stay_awake(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_own_answer(cx))?;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        if this.flushed.is_none() || this.exchange.lingers() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
