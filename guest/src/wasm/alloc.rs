//! The allocator: lists of free blocks by size for what is small, `dlmalloc` for the rest.
//!
//! An interpreter allocates and frees small values all the time; taking a block from a list costs a fifth of
//! what `dlmalloc` does. Small blocks are carved from chunks that `dlmalloc` gives. A block stays in its size
//! class for good, so that the waste is bounded by the peak of each class; instances are short-lived, and
//! the sandbox bounds their memory.
//!
//! All state is in linear memory, so that it is captured in an image and found again by each instance.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    ptr,
};

use dlmalloc::Dlmalloc;

/// Sizes are multiples of this, which is also the alignment of every small block.
const STEP: usize = 16;
/// Blocks up to this size come from the lists.
const SMALL: usize = 512;
const CLASSES: usize = SMALL / STEP;
/// The unit in which the host copies and resets memory.
const OS_PAGE: usize = 4 << 10;
/// What is asked of `dlmalloc` at once for small blocks.
const CHUNK: usize = 16 << 10;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(UnsafeCell::new(State {
    free: [ptr::null_mut(); CLASSES],
    next: ptr::null_mut(),
    left: 0,
    large: Dlmalloc::new(),
}));

struct Allocator(UnsafeCell<State>);

// SAFETY: this target has no threads (the build has no `atomics` feature), so that no two accesses ever run at the
// same time.
unsafe impl Sync for Allocator {}

struct State {
    /// The first free block of each class; each free block begins with the address of the next.
    free: [*mut Block; CLASSES],
    /// The part of the newest chunk that was not given out yet.
    next: *mut u8,
    left: usize,
    large: Dlmalloc,
}

struct Block {
    next: *mut Block,
}

/// The class of a layout, or `None` if it is not small.
fn class(layout: Layout) -> Option<usize> {
    let is_small = layout.size() <= SMALL && layout.align() <= STEP;
    // A size of 0 is never asked for through `GlobalAlloc`; it would get the smallest class.
    is_small.then(|| layout.size().saturating_sub(1) / STEP)
}

impl State {
    /// A block of `class`, or null if there is no memory.
    ///
    /// # Safety
    ///
    /// `class` is below `CLASSES`, and every block on a list is free.
    unsafe fn small(&mut self, class: usize) -> *mut u8 {
        let block = self.free[class];
        if !block.is_null() {
            // SAFETY: a block on a list is free and starts with the link that `give_back` wrote.
            self.free[class] = unsafe { (*block).next };
            return block.cast();
        }
        let size = (class + 1) * STEP;
        if self.left < size && !self.refill() {
            return ptr::null_mut();
        }
        let block = self.next;
        // SAFETY: at least `size` bytes of the chunk are left after `next`.
        self.next = unsafe { block.add(size) };
        self.left -= size;
        block
    }

    /// Puts a small block on its list.
    ///
    /// # Safety
    ///
    /// `block` came from `small(class)` and is not used any more.
    unsafe fn give_back(&mut self, class: usize, block: *mut u8) {
        let block: *mut Block = block.cast();
        // SAFETY: every block has at least `STEP` bytes, aligned to `STEP`, and is free now.
        unsafe { block.write(Block { next: self.free[class] }) };
        self.free[class] = block;
    }

    /// Gets a new chunk; what is left of the last one goes to the list of its size.
    #[cold]
    fn refill(&mut self) -> bool {
        if self.left > 0 {
            let (rest, class) = (self.next, self.left / STEP - 1);
            // SAFETY: the rest of a chunk is a free, aligned block of `left` bytes: chunks and blocks are
            // multiples of `STEP`, and `left` is below `SMALL` here, so that it is of one class.
            unsafe { self.give_back(class, rest) };
            self.left = 0;
        }
        // SAFETY: the size is not 0 and the alignment is a power of two.
        let chunk = unsafe { self.large.malloc(CHUNK, STEP) };
        if chunk.is_null() {
            return false;
        }
        (self.next, self.left) = (chunk, CHUNK);
        true
    }
}

/// Makes everything allocated from now on come from one fresh chunk at the start of a page.
///
/// Called before the memory is captured: blocks that were freed while the engine was made lie scattered over its
/// pages, and an instance that took them would make a private copy of each such page, to be reset afterwards.
/// What they hold is given up for that.
pub(super) fn seal() {
    // SAFETY: there are no threads, and nothing in here allocates, so that this is the only borrow.
    let state = unsafe { &mut *ALLOCATOR.0.get() };
    state.free = [ptr::null_mut(); CLASSES];
    // SAFETY: the size is not 0 and the alignment is a power of two.
    let chunk = unsafe { state.large.malloc(CHUNK, OS_PAGE) };
    (state.next, state.left) = if chunk.is_null() { (chunk, 0) } else { (chunk, CHUNK) };
}

// SAFETY: small blocks are disjoint parts of chunks, each at least as large and as aligned as its class promises,
// and only on a list while they are free; everything else is dlmalloc's. The class follows from the layout
// alone, so that a block goes back to where it came from. Nothing here allocates or panics, so that the state
// is never borrowed twice.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: there are no threads, and the borrow ends before anything else can run.
        let state = unsafe { &mut *self.0.get() };
        match class(layout) {
            // SAFETY: `class` gives numbers below `CLASSES`.
            Some(class) => unsafe { state.small(class) },
            // SAFETY: the caller keeps `GlobalAlloc`'s contract, which is dlmalloc's.
            None => unsafe { state.large.malloc(layout.size(), layout.align()) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        let state = unsafe { &mut *self.0.get() };
        match class(layout) {
            // SAFETY: `block` was allocated with this layout, so that it came from this class.
            Some(class) => unsafe { state.give_back(class, block) },
            // SAFETY: as in `alloc`.
            None => unsafe { state.large.free(block, layout.size(), layout.align()) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: `GlobalAlloc` requires that `size`, rounded up to the alignment, does not overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(layout), class(wanted)) {
            (Some(old), Some(new)) if old == new => block,
            (None, None) => {
                // SAFETY: as in `alloc`; the block is dlmalloc's.
                let state = unsafe { &mut *self.0.get() };
                // SAFETY: as in `alloc`.
                unsafe { state.large.realloc(block, layout.size(), layout.align(), size) }
            }
            _ => {
                // SAFETY: the caller's contract covers both calls; the two blocks are disjoint, and the copied
                // length is within both.
                unsafe {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}
