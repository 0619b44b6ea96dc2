//! The history: executions, their logs, and the daily partitions that hold both.

mod logs;
mod partitions;
mod read;
mod write;

pub use logs::{LogContent, LogEntry, LogPosition};
pub use read::{Execution, ExecutionFilter, HandledEvent, OutcomeFilter};
pub use write::HistoryBatch;
