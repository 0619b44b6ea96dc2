//! Lines of a connection, and answers to it.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf, split},
    time::timeout,
};

/// The longest line, its CRLF included (RFC 5321, 4.5.3.1.6).
const MAX_LINE_BYTES: usize = 1000;

/// Answers that a peer has not taken yet, before it is made to.
const MAX_PENDING_BYTES: usize = 4096;

/// Why there is no line.
#[derive(Debug)]
pub(super) enum LineError {
    /// The connection is over.
    Closed,
    /// Nothing came in time, or no answer was taken.
    Timeout,
    /// The line is too long.
    TooLong,
    /// A carriage return or a line feed stands alone.
    Bare,
}

impl From<io::Error> for LineError {
    fn from(_: io::Error) -> Self {
        // However a connection ended, there is nobody to tell.
        Self::Closed
    }
}

/// A connection as lines.
pub(super) struct Lines<S> {
    reader: BufReader<ReadHalf<S>>,
    writer: WriteHalf<S>,
    pending: Vec<u8>,
    line: Vec<u8>,
    patience: Duration,
}

impl<S: AsyncRead + AsyncWrite> Lines<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        let (reader, writer) = split(stream);
        Self { reader: BufReader::new(reader), writer, pending: Vec::new(), line: Vec::new(), patience }
    }

    /// The next line with its CRLF. Answers that wait are sent before anything is waited for, so that commands that came
    /// together are answered together.
    pub(super) async fn next(&mut self) -> Result<&[u8], LineError> {
        if !self.reader.buffer().contains(&b'\n') {
            self.flush().await?;
        }
        self.line.clear();
        timeout(self.patience, read_line(&mut self.reader, &mut self.line))
            .await
            .map_err(|_| LineError::Timeout)??;
        Ok(&self.line)
    }

    /// Answers, at the latest when the peer is waited for.
    pub(super) async fn answer(&mut self, text: &str) -> Result<(), LineError> {
        self.pending.extend_from_slice(text.as_bytes());
        if self.pending.len() > MAX_PENDING_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends what is still to be sent, and ends the connection.
    pub(super) async fn close(mut self) {
        if self.flush().await.is_ok() {
            // The peer may have gone first.
            let _ = timeout(self.patience, self.writer.shutdown()).await;
        }
    }

    async fn flush(&mut self) -> Result<(), LineError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let sent = async {
            self.writer.write_all(&self.pending).await?;
            self.writer.flush().await
        };
        timeout(self.patience, sent).await.map_err(|_| LineError::Timeout)??;
        self.pending.clear();
        Ok(())
    }
}

async fn read_line<R: AsyncRead>(
    reader: &mut BufReader<ReadHalf<R>>,
    line: &mut Vec<u8>,
) -> Result<(), LineError> {
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Err(LineError::Closed);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(chunk.len());
        if line.len() + taken > MAX_LINE_BYTES {
            return Err(LineError::TooLong);
        }
        line.extend_from_slice(&chunk[..taken]);
        reader.consume(taken);
        if end.is_some() {
            break;
        }
        // What cannot become a line any more is not waited for.
        if has_bare_return(line) {
            return Err(LineError::Bare);
        }
    }
    let Some(text) = line.strip_suffix(b"\r\n") else { return Err(LineError::Bare) };
    if text.contains(&b'\r') { Err(LineError::Bare) } else { Ok(()) }
}

/// Whether there is a carriage return before the last byte, which may still become a part of CRLF.
fn has_bare_return(text: &[u8]) -> bool {
    text.split_last().is_some_and(|(_, before)| before.contains(&b'\r'))
}
