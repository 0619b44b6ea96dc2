//! What happens when the interpreter itself fails.

use std::{arch::wasm32, panic};

use super::bindings::picloud::runtime::logging;

/// More pages than a 32-bit memory can have.
const IMPOSSIBLE_PAGES: usize = 1 << 16;

/// Logs a panic before it ends the instance. A panic since a collection wants more than the address space is
/// shown to the sandbox as what it is: a wish for memory that is refused.
pub(super) fn install() {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("no message");
        if message == "capacity overflow" {
            wasm32::memory_grow(0, IMPOSSIBLE_PAGES);
        }
        logging::log(logging::Level::Error, &format!("the interpreter failed: {message}"));
    }));
}
