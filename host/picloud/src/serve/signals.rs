//! SIGTERM and Ctrl-C: the first asks for a drain, the second ends the program.

use std::time::Duration;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};

/// How long after the first signal another one is taken for the same.
const SAME_WISH: Duration = Duration::from_millis(300);

/// The signals that ask the server to stop.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl StopSignals {
    /// From now on the signals no longer end the program by themselves.
    pub(super) fn catch() -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::CannotStart, format_args!("cannot watch for signals: {error}"))
            })
        };
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// Cancels `stop` at the first signal; at the second, calls `last_words` and ends the process.
    pub(super) async fn watch(mut self, stop: CancellationToken, last_words: impl FnOnce()) {
        self.next().await;
        stop.cancel();
        tracing::info!("stopping; a second signal ends the server at once");
        // `timeout` and some service managers signal a process and its group: that is one wish, told twice.
        let same_wish = Instant::now() + SAME_WISH;
        self.next().await;
        while Instant::now() < same_wish {
            self.next().await;
        }
        tracing::warn!("ended by a second signal");
        last_words();
        std::process::exit(Exit::Interrupted as i32);
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
