//! Limits of the interpreter itself. Fuel, memory and time are the sandbox's.
//!
//! Rhai's own size limits of strings, arrays and maps stay off on purpose: with any of them set, Rhai walks the
//! whole value after each change, which makes `list.push(x)` in a loop quadratic. The memory limit of the
//! sandbox ends what grows too large, with the same error code.

/// How deep script functions may call each other, closures included.
pub(crate) const CALL_LEVELS: usize = 64;

/// How deep expressions and blocks may nest; a chain of operators counts one level each. The parser recurses as
/// deep, so that the sandbox's stack of 1 MiB bounds it.
pub(crate) const EXPRESSION_DEPTH: usize = 128;

/// How deep arrays and maps may nest in JSON, both ways. The limit of `serde_json`.
pub(crate) const JSON_DEPTH: usize = 127;

/// How deep the body of an event may nest, so that what is put around it can be read as well.
pub(crate) const EVENT_DEPTH: usize = 100;

/// How many libraries may go into one script, and how deep they may import each other.
pub(crate) const MAX_LIBRARIES: usize = 64;
pub(crate) const LIBRARY_DEPTH: usize = 16;

/// How many secrets a script may declare: as many as an app may have.
pub(crate) const MAX_SECRETS: usize = 100;

/// How many characters of a source line, and bytes of a message, go into a fault.
pub(crate) const SOURCE_LINE_CHARS: usize = 200;
pub(crate) const MESSAGE_BYTES: usize = 4 << 10;
