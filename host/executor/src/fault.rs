//! From what stopped an instance to the fault that clients see. Each way to fail has its own code.

use picloud_core::{ErrorCode, Fault, HostError, Limits, SourcePosition};
use wasmtime::Trap;

use crate::bindings::picloud::runtime::types;

/// A reason to stop an instance that comes from a host function or a limiter. It cannot be caught by a script.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("the memory limit of {limit} bytes is reached")]
    OutOfMemory { limit: u64 },
    #[error("{0}")]
    HostCallBudget(String),
    /// A nested invocation met a limit that it shares with this one.
    #[error("{0}")]
    Nested(Fault),
}

/// The longest message that leaves the sandbox.
const MAX_MESSAGE_BYTES: usize = 8 << 10;

/// Why a call into the guest that ran under `limits` ended without an answer.
pub(crate) fn from_error(error: &wasmtime::Error, limits: &Limits) -> Fault {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::OutOfMemory { .. } => Fault::new(ErrorCode::OutOfMemory, stop.to_string()),
            Stop::HostCallBudget(_) => Fault::new(ErrorCode::HostCallBudget, stop.to_string()),
            Stop::Nested(fault) => fault.clone(),
        };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            Fault::new(ErrorCode::OutOfFuel, format!("the limit of {} units of fuel is reached", limits.fuel))
        }
        // The guest's own stack lies below its data: running out of it is an access below address 0.
        Some(Trap::StackOverflow | Trap::MemoryOutOfBounds) => {
            Fault::new(ErrorCode::StackOverflow, "calls or expressions are nested too deeply")
        }
        Some(trap) => Fault::new(ErrorCode::GuestPanic, format!("the interpreter stopped: {trap}")),
        // wasmtime keeps the type of this error to itself.
        None if error.root_cause().to_string().contains("allocated for hostcalls has been exhausted") => {
            Fault::new(ErrorCode::HostCallBudget, "one host call carries more bytes than are allowed in all")
        }
        None => {
            tracing::error!(error = ?error, "the sandbox failed");
            Fault::new(ErrorCode::Internal, "the sandbox failed; see the platform's log")
        }
    }
}

/// What the interpreter itself reports.
pub(crate) fn from_guest(fault: types::Fault) -> Fault {
    let code = fault.code.parse().unwrap_or(ErrorCode::ScriptError);
    let position = fault.position.map(|position| SourcePosition {
        script: position.script,
        line: position.line,
        column: position.column,
        source_line: cut(position.source_line, MAX_MESSAGE_BYTES),
    });
    Fault { code, message: cut(fault.message, MAX_MESSAGE_BYTES), position }
}

/// The wall-clock limit is reached.
pub(crate) fn deadline(limits: &Limits) -> Fault {
    Fault::new(ErrorCode::DeadlineExceeded, format!("the time limit of {} ms is reached", limits.wall_ms))
}

/// A failed host call as the script sees it.
pub(crate) fn to_guest(error: HostError) -> types::HostError {
    types::HostError { code: error.code.as_str().to_owned(), message: error.message }
}

/// Cuts text at a character's border.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(error: impl Into<wasmtime::Error>) -> ErrorCode {
        from_error(&error.into(), &Limits::default()).code
    }

    #[test]
    fn each_way_to_stop_has_its_own_code() {
        assert_eq!(code(Trap::OutOfFuel), ErrorCode::OutOfFuel);
        assert_eq!(code(Trap::StackOverflow), ErrorCode::StackOverflow);
        assert_eq!(code(Trap::MemoryOutOfBounds), ErrorCode::StackOverflow);
        assert_eq!(code(Trap::UnreachableCodeReached), ErrorCode::GuestPanic);
        assert_eq!(code(Stop::OutOfMemory { limit: 1 }), ErrorCode::OutOfMemory);
        assert_eq!(code(Stop::HostCallBudget("too many".into())), ErrorCode::HostCallBudget);
        assert_eq!(code(wasmtime::format_err!("anything else")), ErrorCode::Internal);
        let nested = Fault::new(ErrorCode::OutOfFuel, "in a nested call");
        assert_eq!(from_error(&Stop::Nested(nested.clone()).into(), &Limits::default()), nested);
    }

    #[test]
    fn a_limit_that_was_reached_is_told() {
        let limits = Limits { fuel: 1_234, wall_ms: 56, ..Limits::default() };
        assert!(from_error(&Trap::OutOfFuel.into(), &limits).message.contains("1234 units"));
        assert!(deadline(&limits).message.contains("56 ms"));
    }

    #[test]
    fn a_code_of_the_guest_that_is_not_known_is_a_script_error() {
        let fault =
            |code: &str| types::Fault { code: code.into(), message: "é".repeat(5_000), position: None };
        assert_eq!(from_guest(fault("stack_overflow")).code, ErrorCode::StackOverflow);
        let cut = from_guest(fault("made_up"));
        assert_eq!((cut.code, cut.message.len()), (ErrorCode::ScriptError, MAX_MESSAGE_BYTES));
    }
}
