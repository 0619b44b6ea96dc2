//! What the tasks show while they work: numbered steps and how long each took.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Counts the steps of a task.
pub(crate) struct Steps {
    total: usize,
    number: usize,
    started: Instant,
}

impl Steps {
    /// A task of `total` steps.
    pub(crate) fn new(total: usize) -> Self {
        Self { total, number: 0, started: Instant::now() }
    }

    /// Runs the next step under its heading. What it gives back is shown beside the time it took.
    pub(crate) fn step(&mut self, title: &str, work: impl FnOnce() -> Result<String>) -> Result<()> {
        self.number += 1;
        println!("[{}/{}] {title}", self.number, self.total);
        let started = Instant::now();
        let outcome = work()?;
        println!("      {outcome} ({})", seconds(started.elapsed()));
        Ok(())
    }

    /// Since the task began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A duration for people: `0.4 s`, `12.0 s`, `3 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 120 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(440)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs(119)), "119.0 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 05 s");
    }
}
