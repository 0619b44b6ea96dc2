//! A content that was found.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use bytes::Bytes;

/// A content, verified. It stays readable when the cache drops it.
#[derive(Debug)]
pub struct Content(pub(crate) Source);

#[derive(Debug)]
pub(crate) enum Source {
    /// It has just been fetched.
    Memory(Bytes),
    /// In a file, from `start` on.
    Disk { file: File, start: u64, size: u64 },
}

impl Content {
    /// Its length, in bytes.
    pub fn size(&self) -> u64 {
        match &self.0 {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::Disk { size, .. } => *size,
        }
    }

    /// All of it in memory.
    pub async fn bytes(self) -> io::Result<Bytes> {
        match self.0 {
            Source::Memory(bytes) => Ok(bytes),
            Source::Disk { mut file, start, size } => {
                blocking(move || {
                    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
                    file.seek(SeekFrom::Start(start))?;
                    file.take(size).read_to_end(&mut bytes)?;
                    if bytes.len() as u64 == size { Ok(bytes.into()) } else { Err(cut_short()) }
                })
                .await
            }
        }
    }

    /// The bytes from `from` to before `to`, both within its size, to be read in parts.
    pub async fn part(self, from: u64, to: u64) -> io::Result<Part> {
        match self.0 {
            Source::Memory(bytes) => {
                let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Part::Memory(bytes.slice(index(from)..index(to).max(index(from)))))
            }
            Source::Disk { mut file, start, .. } => {
                let file = blocking(move || file.seek(SeekFrom::Start(start + from)).map(|_| file)).await?;
                Ok(Part::Disk { file, size: to.saturating_sub(from) })
            }
        }
    }
}

/// A part of a content.
#[derive(Debug)]
pub enum Part {
    /// In memory.
    Memory(Bytes),
    /// The next `size` bytes of a file.
    Disk {
        /// The file, which nobody else reads.
        file: File,
        /// How many bytes of it.
        size: u64,
    },
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => Err(io::Error::other(ended)),
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a cached file is shorter than it was")
}
