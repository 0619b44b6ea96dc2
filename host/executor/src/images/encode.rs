//! From a captured memory to a core module that has nothing but that memory.

use wasm_encoder::{ConstExpr, DataSection, ExportKind, ExportSection, MemorySection, MemoryType, Module};

use crate::state::Captured;

/// The unit of what is kept: pages of zeros are left out, the kernel makes them.
const PAGE: usize = 4096;
const WASM_PAGE: usize = 64 << 10;

/// Two runs of non-zero pages with this many zero pages or fewer between them become one segment: a segment
/// header costs about as much.
const JOIN_PAGES: usize = 1;

/// The image of a captured memory, as WebAssembly. What lies below the capture's offset is the dead stack: it
/// is all zeros in the image.
pub(crate) fn encode(captured: &Captured) -> Vec<u8> {
    let offset = captured.offset as usize;
    let total = offset + captured.memory.len();
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: total.div_ceil(WASM_PAGE) as u64,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    let mut data = DataSection::new();
    for run in runs(&captured.memory, offset) {
        // Addresses of wasm32 fit into 32 bits; the constant has them as the same bits, signed.
        let address = (run.start as u32).cast_signed();
        let bytes = &captured.memory[run.start - offset..run.end - offset];
        data.active(0, &ConstExpr::i32_const(address), bytes.iter().copied());
    }
    let mut module = Module::new();
    module.section(&memories).section(&exports).section(&data);
    module.finish()
}

/// Address ranges of `memory`, which begins at `offset`, that hold more than zeros, cut at page borders.
fn runs(memory: &[u8], offset: usize) -> Vec<std::ops::Range<usize>> {
    let end = offset + memory.len();
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    let mut start = offset;
    while start < end {
        let next = ((start / PAGE + 1) * PAGE).min(end);
        if memory[start - offset..next - offset].iter().any(|byte| *byte != 0) {
            match runs.last_mut() {
                Some(last) if start - last.end <= JOIN_PAGES * PAGE => last.end = next,
                _ => runs.push(start..next),
            }
        }
        start = next;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_pages_are_left_out() {
        let mut memory = vec![0; 10 * PAGE];
        memory[0] = 1;
        memory[2 * PAGE] = 1;
        memory[9 * PAGE + 5] = 1;
        assert_eq!(runs(&memory, 0), [0..3 * PAGE, 9 * PAGE..10 * PAGE]);
    }

    #[test]
    fn an_offset_within_a_page_is_kept() {
        let mut memory = vec![0; 2 * PAGE];
        memory[0] = 1;
        memory[2 * PAGE - 1] = 1;
        assert_eq!(runs(&memory, 100).first(), Some(&(100..2 * PAGE + 100)));
        assert!(runs(&[], 100).is_empty());
    }

    #[test]
    fn an_image_has_the_size_of_its_memory() {
        let captured = Captured { offset: 1024, memory: vec![7; 2 * WASM_PAGE - 1024] };
        let wasm = encode(&captured);
        let module = wasmtime::Module::new(&wasmtime::Engine::default(), &wasm).unwrap();
        let memory = module.exports().next().unwrap().ty();
        assert_eq!(memory.memory().unwrap().minimum(), 2);
    }
}
