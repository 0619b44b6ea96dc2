//! The text of a mail, as it comes after DATA.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, SemaphorePermit},
};

use super::{
    lines::{LineError, Lines},
    reply::Reply,
    server::Shared,
};

/// The memory that a mail is given first; it is doubled as needed.
const FIRST_BYTES: usize = 64 * 1024;

/// How often the bytes of a mail may be in memory: as they came, and what is made of them.
const COPIES: usize = 2;

/// How receiving ended.
pub(super) enum Received<'a> {
    /// With a whole mail, and the memory that is counted for it.
    Mail(Vec<u8>, Memory<'a>),
    /// With its end, but it is not taken.
    Refused(Reply),
    /// With so much too much that the end is not waited for.
    Endless(Reply),
}

/// Memory that is counted for a mail; given back when dropped.
pub(super) struct Memory<'a> {
    semaphore: &'a Semaphore,
    permit: Option<SemaphorePermit<'a>>,
    bytes: usize,
}

impl<'a> Memory<'a> {
    fn new(semaphore: &'a Semaphore) -> Self {
        Self { semaphore, permit: None, bytes: 0 }
    }

    /// Makes room for `length` bytes in `buffer`, by doubling it. `false` where there is no memory for that.
    fn reserve(&mut self, buffer: &mut Vec<u8>, length: usize) -> bool {
        while self.bytes < length {
            let more = self.bytes.max(FIRST_BYTES);
            let permits = u32::try_from(more.div_ceil(1024) * COPIES).unwrap_or(u32::MAX);
            let Ok(permit) = self.semaphore.try_acquire_many(permits) else { return false };
            match &mut self.permit {
                Some(held) => held.merge(permit),
                None => self.permit = Some(permit),
            }
            self.bytes += more;
            buffer.reserve_exact(self.bytes - buffer.len());
        }
        true
    }
}

/// Receives a mail to its end, without the dots that were put before lines that begin with one.
///
/// What is not taken is read to its end all the same, so that the connection stays usable, but for no more than a mail
/// may have.
pub(super) async fn receive<'a, K, S: AsyncRead + AsyncWrite>(
    lines: &mut Lines<S>,
    shared: &'a Shared<K>,
) -> Result<Received<'a>, LineError> {
    let most = shared.config.max_message_bytes;
    let mut memory = Memory::new(&shared.memory);
    let mut mail = Vec::new();
    let refusal = loop {
        let line = lines.next().await?;
        if line == b".\r\n" {
            return Ok(Received::Mail(mail, memory));
        }
        let text = line.strip_prefix(b".").unwrap_or(line);
        let length = mail.len() + text.len();
        if length > most {
            break Reply::TOO_LARGE;
        }
        if !memory.reserve(&mut mail, length) {
            break Reply::NO_ROOM;
        }
        mail.extend_from_slice(text);
    };
    drop((mail, memory));
    let mut passed = 0;
    while passed <= most {
        let line = lines.next().await?;
        if line == b".\r\n" {
            return Ok(Received::Refused(refusal));
        }
        passed += line.len();
    }
    Ok(Received::Endless(refusal))
}
