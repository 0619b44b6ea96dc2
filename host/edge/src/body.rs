//! Reading a request's body within its limits.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::Body;
use http_body_util::BodyExt as _;
use picloud_core::ErrorCode;
use tokio::time::{Instant, timeout_at};

use crate::Problem;

/// How long a body may take.
#[derive(Clone, Copy, Debug)]
pub struct BodyTimes {
    /// From its first to its last byte.
    pub whole: Duration,
    /// From one piece to the next.
    pub between: Duration,
}

impl Default for BodyTimes {
    fn default() -> Self {
        Self { whole: Duration::from_secs(30), between: Duration::from_secs(10) }
    }
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It has, or says it has, more bytes than this.
    TooLarge(u64),
    /// It did not arrive in time.
    TimedOut,
    /// It ended before it was whole, or its chunks are malformed.
    Broken,
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(limit) => Self::new(ErrorCode::BodyTooLarge)
                .detail(format!("the body is larger than {limit} bytes"))
                .with("limit", limit),
            BodyError::TimedOut => {
                Self::new(ErrorCode::RequestTimeout).detail("the body did not arrive in time")
            }
            BodyError::Broken => {
                Self::new(ErrorCode::BadRequest).detail("the body is malformed or ended before it was whole")
            }
        }
        .close()
    }
}

/// Reads the whole body, at most `limit` bytes. A `Content-Length` above the limit is refused before anything
/// is read. A body that comes in one piece, as most do, is not copied.
pub async fn read_body<B>(
    headers: &HeaderMap,
    mut body: B,
    limit: u64,
    times: BodyTimes,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge(limit));
    }
    let started = Instant::now();
    let mut wait_until = started + times.between.min(times.whole);
    let mut pieces = Pieces::default();
    while !body.is_end_stream() {
        let frame = match timeout_at(wait_until, body.frame()).await {
            Err(_) => return Err(BodyError::TimedOut),
            Ok(Some(Err(_))) => return Err(BodyError::Broken),
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers say nothing that a handler could see.
        let Ok(data) = frame.into_data() else { continue };
        if (pieces.len() + data.len()) as u64 > limit {
            return Err(BodyError::TooLarge(limit));
        }
        pieces.push(data, announced);
        wait_until = (started + times.whole).min(Instant::now() + times.between);
    }
    Ok(pieces.join())
}

/// What has come of a body.
#[derive(Default)]
struct Pieces {
    only: Bytes,
    joined: BytesMut,
}

impl Pieces {
    fn len(&self) -> usize {
        self.only.len() + self.joined.len()
    }

    fn push(&mut self, piece: Bytes, announced: Option<u64>) {
        if self.len() == 0 {
            self.only = piece;
            return;
        }
        if self.joined.is_empty() {
            // What is announced is at most the limit.
            self.joined.reserve(announced.map_or(self.only.len() + piece.len(), |length| length as usize));
            self.joined.extend_from_slice(&std::mem::take(&mut self.only));
        }
        self.joined.extend_from_slice(&piece);
    }

    fn join(self) -> Bytes {
        if self.joined.is_empty() { self.only } else { self.joined.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody, channel::Channel};
    use hyper::body::Frame;

    use super::*;

    async fn read<B: Body<Data = Bytes> + Unpin>(body: B, limit: u64) -> Result<Bytes, BodyError> {
        read_body(&HeaderMap::new(), body, limit, BodyTimes::default()).await
    }

    fn stream(pieces: &[&'static str]) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
        let frames: Vec<_> =
            pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn pieces_are_joined_up_to_the_limit() {
        assert_eq!(read(stream(&["a", "", "bc", "d"]), 4).await, Ok(Bytes::from("abcd")));
        assert_eq!(read(stream(&["a", "bc", "de"]), 4).await, Err(BodyError::TooLarge(4)));
        assert_eq!(read(Full::new(Bytes::new()), 0).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn a_length_over_the_limit_is_refused_unread() {
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, 5.into())]);
        let (_open, endless) = Channel::<Bytes>::new(1);
        let read = read_body(&headers, endless, 4, BodyTimes::default()).await;
        assert_eq!(read, Err(BodyError::TooLarge(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_or_drips_times_out() {
        let (_open, stalled) = Channel::<Bytes>::new(1);
        assert_eq!(read(stalled, 4).await, Err(BodyError::TimedOut));

        let (mut dripping, body) = Channel::<Bytes>::new(1);
        let drip = async {
            while dripping.send_data(Bytes::from_static(b"x")).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        };
        let started = Instant::now();
        let (read, ()) = tokio::join!(read(body, 100), drip);
        assert_eq!(read, Err(BodyError::TimedOut));
        assert!(started.elapsed() <= Duration::from_secs(36));
    }
}
