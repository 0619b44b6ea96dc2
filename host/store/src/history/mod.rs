//! The history: executions, their logs, and the daily partitions that hold both.

mod partitions;
mod read;
mod write;

pub use read::{Execution, ExecutionFilter, LogPosition, OutcomeFilter, StoredLogLine};
pub use write::HistoryBatch;
