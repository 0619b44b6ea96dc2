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
    events: usize,
    max_event_bytes: usize,
}

impl<'a> Memory<'a> {
    /// For a mail that becomes so many events.
    fn new<K>(shared: &'a Shared<K>, events: usize) -> Self {
        let max_event_bytes = shared.config.max_event_bytes;
        Self { semaphore: &shared.memory, permit: None, bytes: 0, events, max_event_bytes }
    }

    /// What a mail takes: its bytes as they came and decoded, and its events, in which they may be base64.
    const fn cost(&self, bytes: usize) -> usize {
        let event = bytes.saturating_add(bytes / 2);
        let event = if event < self.max_event_bytes { event } else { self.max_event_bytes };
        bytes.saturating_mul(2).saturating_add(event.saturating_mul(self.events))
    }

    /// Makes room for `length` bytes in `buffer`, by doubling it. `false` where there is no memory for that.
    fn reserve(&mut self, buffer: &mut Vec<u8>, length: usize) -> bool {
        while self.bytes < length {
            let more = self.bytes.max(FIRST_BYTES);
            let cost = self.cost(self.bytes + more) - self.cost(self.bytes);
            let permits = u32::try_from(cost.div_ceil(1024)).unwrap_or(u32::MAX);
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

/// Receives a mail that becomes so many events to its end, without the dots that were put before lines that begin with
/// one.
///
/// What is not taken is read to its end all the same, so that the connection stays usable, but for no more than a mail
/// may have.
pub(super) async fn receive<'a, K, S: AsyncRead + AsyncWrite>(
    lines: &mut Lines<S>,
    shared: &'a Shared<K>,
    events: usize,
) -> Result<Received<'a>, LineError> {
    let most = shared.config.max_message_bytes;
    let mut memory = Memory::new(shared, events);
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
