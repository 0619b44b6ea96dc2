//! Takes the memory out of the guest's component.
//!
//! `wit-component` makes a component whose main core module defines its memory and fills it. Here that memory
//! becomes an import: the component asks for a core module `image`, instantiates it first, and gives its memory
//! to the main module. What filled the memory becomes the first such image. Any later image (after the engine
//! was made, after a script was compiled) can then take its place without new code.

use anyhow::{Context, Result, bail, ensure};
use wasm_encoder::{
    Component, ComponentImportSection, ComponentTypeRef, ConstExpr, CoreTypeSection, DataSection, EntityType,
    ExportKind, ExportSection, ImportSection, InstanceSection, MemorySection, MemoryType, ModuleArg,
    ModuleSection, ModuleType, SectionId,
    reencode::{self, Reencode, ReencodeComponent},
};
use wasmparser::{Operator, Parser, Payload};

/// Name of the imported core module, of the instance that the main module imports, and of its memory.
const IMAGE: &str = "image";
const MEMORY: &str = "memory";

/// `wit-component` places the module it was given first.
const MAIN_MODULE: u32 = 0;

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

    let mut code = Component::new();
    let mut splitter = ComponentSplitter { modules: 0, image_module: None };
    splitter
        .parse_component(&mut code, Parser::new(0), component)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    ensure!(splitter.image_module.is_some(), "the component has no core instance");
    let code = code.finish();

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
}

/// An image is memory and nothing else, so nothing else may carry state from building to running: no mutable
/// global but the stack pointer (at rest it has its initial value), no passive data, no start function.
fn check_main_module(module: &[u8]) -> Result<Layout> {
    let mut memory = None;
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
    Ok(Layout { memory: memory.context("the main module has no memory")? })
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

/// Copies a component; before its first core instance it adds the import of the image and its instance, which
/// becomes core instance 0 and moves all others up by one.
struct ComponentSplitter {
    modules: u32,
    image_module: Option<u32>,
}

impl ComponentSplitter {
    fn add_image(&mut self, component: &mut Component) {
        let mut module_type = ModuleType::new();
        module_type.export(MEMORY, EntityType::Memory(image_memory()));
        let mut types = CoreTypeSection::new();
        types.ty().module(&module_type);
        let mut imports = ComponentImportSection::new();
        imports.import(IMAGE, ComponentTypeRef::Module(0));
        let mut instances = InstanceSection::new();
        instances.instantiate::<_, &str>(self.modules, []);
        component.section(&types).section(&imports).section(&instances);
        self.image_module = Some(self.modules);
    }
}

impl Reencode for ComponentSplitter {
    type Error = SplitError;
}

impl ReencodeComponent for ComponentSplitter {
    fn instance_index(&mut self, index: u32) -> u32 {
        index + 1
    }

    fn parse_component_payload(
        &mut self,
        component: &mut Component,
        payload: Payload<'_>,
        whole: &[u8],
    ) -> Result<(), reencode::Error<SplitError>> {
        match &payload {
            Payload::InstanceSection(_) if self.image_module.is_none() => self.add_image(component),
            Payload::CoreTypeSection(_) => return Err(reencode::Error::UserError(SplitError::CoreType)),
            Payload::ModuleSection { .. } if self.image_module.is_some() => {
                return Err(reencode::Error::UserError(SplitError::LateModule));
            }
            _ => {}
        }
        reencode::component_utils::parse_component_payload(self, component, payload, whole)
    }

    fn parse_component_submodule(
        &mut self,
        component: &mut Component,
        parser: Parser,
        module: &[u8],
    ) -> Result<(), reencode::Error<SplitError>> {
        let index = self.modules;
        self.modules += 1;
        if index != MAIN_MODULE {
            return reencode::component_utils::parse_component_submodule(self, component, parser, module);
        }
        let mut out = wasm_encoder::Module::new();
        MainModule { imported: false }
            .parse_core_module(&mut out, Parser::new(0), module)
            .map_err(|error| reencode::Error::UserError(SplitError::Main(error.to_string())))?;
        component.section(&ModuleSection(&out));
        Ok(())
    }

    fn parse_instance(
        &mut self,
        instances: &mut InstanceSection,
        instance: wasmparser::Instance<'_>,
    ) -> Result<(), reencode::Error<SplitError>> {
        let wasmparser::Instance::Instantiate { module_index: MAIN_MODULE, args } = instance else {
            return reencode::component_utils::parse_instance(self, instances, instance);
        };
        let image = (IMAGE, ModuleArg::Instance(0));
        let own = args.iter().map(|arg| (arg.name, ModuleArg::Instance(self.instance_index(arg.index))));
        let args: Vec<_> = own.chain([image]).collect();
        instances.instantiate(MAIN_MODULE, args);
        Ok(())
    }
}

/// Why a component cannot be split.
#[derive(Debug)]
enum SplitError {
    CoreType,
    LateModule,
    Main(String),
}

impl std::fmt::Display for SplitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CoreType => f.write_str("the component already has core types"),
            Self::LateModule => f.write_str("a core module follows the first core instance"),
            Self::Main(error) => write!(f, "main module: {error}"),
        }
    }
}

impl std::error::Error for SplitError {}

/// Copies the main module: its memory is imported, its data left out. Memory 0 stays memory 0.
struct MainModule {
    imported: bool,
}

impl Reencode for MainModule {
    type Error = std::convert::Infallible;

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        self.imported = true;
        imports.import(IMAGE, MEMORY, image_memory());
        reencode::utils::parse_import_section(self, imports, section)
    }

    fn parse_memory_section(
        &mut self,
        _: &mut MemorySection,
        _: wasmparser::MemorySectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        Ok(())
    }

    fn parse_data_section(
        &mut self,
        _: &mut DataSection,
        _: wasmparser::DataSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        Ok(())
    }

    fn data_count(&mut self, _: u32) -> Result<u32, reencode::Error> {
        Ok(0)
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut wasm_encoder::Module,
        _: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), reencode::Error> {
        // A module without imports gets its import section where one would stand.
        if before == Some(SectionId::Function) && !self.imported {
            self.imported = true;
            let mut imports = ImportSection::new();
            imports.import(IMAGE, MEMORY, image_memory());
            module.section(&imports);
        }
        Ok(())
    }
}
