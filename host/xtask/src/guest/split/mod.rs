//! Takes the memory out of the guest's component.
//!
//! `wit-component` makes a component whose main core module defines its memory and fills it. Here that memory
//! becomes an import: the component asks for a core module `image`, instantiates it first, and gives its memory
//! to the main module. What filled the memory becomes the first such image. Any later image (after the engine
//! was made, after a script was compiled) can then take its place without new code.

mod component;
mod main_module;
mod realloc;

use anyhow::{Context, Result, bail, ensure};
use wasm_encoder::{ConstExpr, DataSection, ExportKind, ExportSection, MemorySection, MemoryType};
use wasmparser::{Operator, Parser, Payload};

/// Name of the imported core module, of the instance that the main module imports, and of its memory.
const IMAGE: &str = "image";
const MEMORY: &str = "memory";

/// The two artifacts.
pub(crate) struct Split {
    /// The component without memory.
    pub(crate) code: Vec<u8>,
    /// The core module with the memory as the compiler laid it out.
    pub(crate) base: Vec<u8>,
}

/// Splits a component and checks what images rely on.
pub(crate) fn split(component: &[u8]) -> Result<Split> {
    let main = main_module(component)?;
    let layout = check_main_module(main)?;
    let base = base_image(main, layout.memory)?;

    let code = component::rewire(component, layout.allocator)?;

    let mut validator = wasmparser::Validator::new();
    validator.validate_all(&code).context("the split component is not valid")?;
    wasmparser::Validator::new().validate_all(&base).context("the base image is not valid")?;
    Ok(Split { code, base })
}

fn main_module(component: &[u8]) -> Result<&[u8]> {
    for payload in Parser::new(0).parse_all(component) {
        if let Payload::ModuleSection { unchecked_range, .. } = payload? {
            return Ok(&component[unchecked_range]);
        }
    }
    bail!("the component has no core module")
}

struct Layout {
    memory: wasmparser::MemoryType,
    /// The function that the host allocates with.
    allocator: u32,
}

/// An image is memory and nothing else, so nothing else may carry state from building to running: no mutable
/// global but the stack pointer (at rest it has its initial value), no passive data, no start function.
fn check_main_module(module: &[u8]) -> Result<Layout> {
    let mut memory = None;
    let mut allocator = None;
    let mut has_elements = false;
    let mut mutable_globals = 0;
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::MemorySection(section) => {
                ensure!(section.count() == 1, "the main module must have one memory");
                memory = section.into_iter().next().transpose()?;
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global?;
                    mutable_globals += u32::from(global.ty.mutable);
                }
            }
            Payload::DataSection(section) => {
                for data in section {
                    let active = matches!(data?.kind, wasmparser::DataKind::Active { memory_index: 0, .. });
                    ensure!(active, "the main module has passive data, which no image would hold");
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.name == "cabi_realloc" && export.kind == wasmparser::ExternalKind::Func {
                        allocator = Some(export.index);
                    }
                }
            }
            Payload::ElementSection(_) => has_elements = true,
            Payload::StartSection { .. } => bail!("the main module has a start function"),
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader()? {
                    if let Operator::TableSet { .. }
                    | Operator::TableGrow { .. }
                    | Operator::ElemDrop { .. } = operator?
                    {
                        bail!("the main module changes its table, which no image would hold");
                    }
                }
            }
            _ => {}
        }
    }
    ensure!(
        mutable_globals == 1,
        "the main module has {mutable_globals} mutable globals; only the stack pointer may be one"
    );
    ensure!(has_elements, "the main module has no function table");
    Ok(Layout {
        memory: memory.context("the main module has no memory")?,
        allocator: allocator.context("the main module has no allocator")?,
    })
}

fn base_image(main: &[u8], memory: wasmparser::MemoryType) -> Result<Vec<u8>> {
    let mut data = DataSection::new();
    for payload in Parser::new(0).parse_all(main) {
        let Payload::DataSection(section) = payload? else { continue };
        for segment in section {
            let segment = segment?;
            let wasmparser::DataKind::Active { offset_expr, .. } = segment.kind else { continue };
            let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? else {
                bail!("a data segment has an offset that is not constant");
            };
            data.active(0, &ConstExpr::i32_const(value), segment.data.iter().copied());
        }
    }
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: memory.initial, ..image_memory() });
    let mut exports = ExportSection::new();
    exports.export(MEMORY, ExportKind::Memory, 0);
    let mut module = wasm_encoder::Module::new();
    module.section(&memories).section(&exports).section(&data);
    Ok(module.finish())
}

/// The memory as the main module imports it: any size an image may have.
fn image_memory() -> MemoryType {
    MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None }
}
