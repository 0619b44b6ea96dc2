//! The body of an answer: bytes in memory, or a file that is read while it is sent.

use std::{
    fs::File,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream as _;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use picloud_files::Part;
use tokio::io::{AsyncReadExt as _, Take};
use tokio_util::io::ReaderStream;

/// What is read of a file at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// In memory.
    Full(Full<Bytes>),
    /// From a file.
    File(Box<FileBody>),
}

/// The rest of a file.
#[derive(Debug)]
pub(crate) struct FileBody {
    stream: ReaderStream<Take<tokio::fs::File>>,
    left: u64,
}

impl FileBody {
    fn new(file: File, size: u64) -> Self {
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(CHUNK_BYTES);
        Self { stream: ReaderStream::with_capacity(file.take(size), CHUNK_BYTES), left: size }
    }
}

impl Reply {
    /// Whether there is nothing in it, and how long it is.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Full(full) => full.size_hint().exact().unwrap_or(0),
            Self::File(file) => file.left,
        }
    }
}

/// An answer in memory as one of any kind.
pub(crate) fn full(response: Response<Full<Bytes>>) -> Response<Reply> {
    response.map(Reply::Full)
}

impl Default for Reply {
    fn default() -> Self {
        Self::Full(Full::default())
    }
}

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Self {
        Self::Full(Full::new(bytes))
    }
}

impl From<Part> for Reply {
    fn from(part: Part) -> Self {
        match part {
            Part::Memory(bytes) => bytes.into(),
            Part::Disk { file, size } => Self::File(Box::new(FileBody::new(file, size))),
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let file = match self.get_mut() {
            Self::Full(full) => {
                return Pin::new(full).poll_frame(context).map_err(|never| match never {});
            }
            Self::File(file) => file,
        };
        let chunk = match ready!(Pin::new(&mut file.stream).poll_next(context)) {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None if file.left == 0 => return Poll::Ready(None),
            // The length was promised: the connection is cut, so that nobody takes a part for the whole.
            None => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
        };
        file.left = file.left.saturating_sub(chunk.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) => full.is_end_stream(),
            Self::File(file) => file.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size())
    }
}
