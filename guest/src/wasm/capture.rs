//! Hands this instance's memory to the host, which makes an image of it.

use std::{arch::wasm32, ptr::addr_of, slice};

use super::bindings::picloud::runtime::images;

unsafe extern "C" {
    /// Where the linker ends the stack and data begin: the stack comes first in memory, so that running out of
    /// it traps instead of overwriting data. Only its address means something.
    static __stack_high: u8;
}

const PAGE_BYTES: usize = 64 << 10;

/// Calls `images.capture` with everything above the stack.
pub(super) fn capture() {
    super::alloc::seal();
    let start = addr_of!(__stack_high);
    let offset = start as usize;
    let end = wasm32::memory_size(0) * PAGE_BYTES;
    // SAFETY: `start..end` is linear memory that exists: the linker's data and the heap, up to the memory's size,
    // which never shrinks. Any byte of linear memory is initialised (wasm starts with zeros), so that reading
    // it as `u8` is sound. Nothing writes to it while the slice lives: this target has one thread, the host only
    // copies from the slice during the call, and lowering a `&[u8]` argument passes its address and length
    // without allocating. The borrow ends with the call.
    let memory = unsafe { slice::from_raw_parts(start, end - offset) };
    images::capture(u32::try_from(offset).unwrap_or(u32::MAX), memory);
}
