//! PostgreSQL's log: one file of bounded size and its predecessor, and the last lines in memory for messages.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// The size at which the file becomes the predecessor.
const MAX_BYTES: u64 = 1 << 20;

/// Lines kept in memory.
const TAIL_LINES: usize = 20;

/// The longest line, in bytes; a longer one becomes several.
const MAX_LINE: u64 = 2_000;

/// Takes in what PostgreSQL says. Cloned handles share one log.
#[derive(Clone, Debug)]
pub(super) struct Log {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: Option<(File, u64)>,
    tail: VecDeque<String>,
}

impl Log {
    /// A log at `path`, which is made with the first line.
    pub(super) fn new(path: &Path) -> Self {
        let inner = Inner { path: path.to_owned(), file: None, tail: VecDeque::new() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Takes in every line of `stream` until it ends.
    pub(super) async fn follow(self, stream: impl AsyncRead + Unpin) {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A stream that cannot be read ends the log, not the server.
            match (&mut stream).take(MAX_LINE).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => self.add(String::from_utf8_lossy(&line).trim_end()),
            }
        }
    }

    /// The last lines, one below the other.
    pub(super) fn tail(&self) -> String {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.tail.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }

    fn add(&self, line: &str) {
        if ["FATAL:", "PANIC:", "ERROR:"].iter().any(|level| line.contains(level)) {
            tracing::debug!(target: "postgres", "{line}");
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.tail.len() == TAIL_LINES {
            inner.tail.pop_front();
        }
        inner.tail.push_back(line.to_owned());
        if let Err(error) = inner.write(line) {
            tracing::warn!(%error, path = %inner.path.display(), "cannot write PostgreSQL's log");
        }
    }
}

impl Inner {
    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, size)| *size >= MAX_BYTES) {
            fs::rename(&self.path, self.path.with_extension("log.old"))?;
            self.file = None;
        }
        let (file, size) = match &mut self.file {
            Some(open) => open,
            none => {
                let mut options = OpenOptions::new();
                let file = options.append(true).create(true).mode(0o600).open(&self.path)?;
                let size = file.metadata()?.len();
                none.insert((file, size))
            }
        };
        writeln!(file, "{line}")?;
        *size += line.len() as u64 + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_log_is_bounded_and_keeps_its_end() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("postgres.log");
        let log = Log::new(&path);
        let line = "x".repeat(999);
        let text = format!("{line}\n").repeat(2_500) + "the end\n";
        log.clone().follow(text.as_bytes()).await;
        let old = path.with_extension("log.old");
        for file in [&path, &old] {
            assert!(fs::metadata(file).unwrap().len() <= MAX_BYTES + 1_000);
        }
        assert!(log.tail().ends_with("the end"));
        assert_eq!(log.tail().lines().count(), TAIL_LINES);
    }
}
