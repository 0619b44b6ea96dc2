//! `picloud:runtime/logging`.

use picloud_core::LogLevel;

use crate::{
    bindings::picloud::runtime::logging::{Host, Level},
    state::{State, Work},
};

impl Host for State {
    /// Logging has a budget of its own and is not counted as a host call. While an image is built there is
    /// nobody to log for.
    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        if let Work::Run(run) = &self.work {
            run.shared.log(level, message);
        }
        Ok(())
    }
}
