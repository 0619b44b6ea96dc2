//! The component around the main module, wired anew.
//!
//! `wit-component` instantiates the main module before its imports can be lowered, since lowering needs the memory
//! and the allocator that the main module exports. It gets by with a module of stand-ins (the shim) and another
//! that fills them in afterwards (the fix-ups): two instances, and two dozen functions to look up, for each
//! invocation. Here the memory comes from the image, which is there first, and the allocator is reached through a
//! table of one entry that the main module fills in while it is instantiated. So the imports are lowered first, the
//! main module is given them as they are, and shim and fix-ups go.

use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, Component, ComponentAliasSection, ComponentExportKind,
    ComponentImportSection, ComponentSectionId, ComponentTypeRef, CoreTypeSection, EntityType, ExportKind,
    InstanceSection, ModuleArg, ModuleSection, ModuleType, RawSection,
    reencode::{self, Reencode, ReencodeComponent, component_utils},
};
use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ExternalKind, Instance, Parser, Payload,
};

use super::{
    IMAGE, MEMORY, image_memory,
    main_module::{self, MainModule},
    realloc::{self, REALLOC},
};

/// `wit-component` defines these modules, in this order. The allocator's module takes the place of the shim.
const MAIN_MODULE: u32 = 0;
const SHIM_MODULE: u32 = 1;
const FIXUPS_MODULE: u32 = 2;
const REALLOC_MODULE: u32 = SHIM_MODULE;
const IMAGE_MODULE: u32 = FIXUPS_MODULE;

/// In the old component the shim is the first core instance. In the new one the image comes before it, so that all
/// others move up by one, and the allocator takes its place.
const SHIM_INSTANCE: u32 = 0;
const IMAGE_INSTANCE: u32 = 0;
const REALLOC_INSTANCE: u32 = 1;

/// The allocator is the first core function of the new component.
const REALLOC_FUNCTION: u32 = 0;

/// Wires `component` anew. `allocator` is the main module's function.
pub(super) fn rewire(component: &[u8], allocator: u32) -> anyhow::Result<Vec<u8>> {
    let lowered = lowered_imports(component)?;
    let mut out = Component::new();
    let mut rewiring = Rewiring { lowered, allocator, modules: 0, has_image: false, shims: 0, functions: 0 };
    rewiring
        .parse_component(&mut out, Parser::new(0), component)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    anyhow::ensure!(rewiring.modules == 3, "the component has {} core modules, not 3", rewiring.modules);
    Ok(out.finish())
}

/// A function that the main module imports.
#[derive(Clone)]
struct Lowered {
    /// The component instance that exports it, and its name there.
    instance: u32,
    name: String,
    options: Box<[wasmparser::CanonicalOption]>,
}

/// What the shim stands in for, in its order, and checks that the component is of the expected form.
fn lowered_imports(component: &[u8]) -> anyhow::Result<Vec<Lowered>> {
    let (mut shims, mut functions, mut lowers) = (0, Vec::new(), Vec::new());
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentAliasSection(section) if depth == 0 => {
                for alias in section {
                    match alias? {
                        alias if is_shim(&alias, ExternalKind::Func) => {
                            anyhow::ensure!(functions.is_empty(), "a shim's function is used late");
                            shims += 1;
                        }
                        ComponentAlias::InstanceExport {
                            kind: ComponentExternalKind::Func,
                            instance_index,
                            name,
                        } => functions.push((instance_index, name.to_owned())),
                        _ => {}
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) if depth == 0 => {
                for function in section {
                    if let CanonicalFunction::Lower { func_index, options } = function? {
                        anyhow::ensure!(
                            func_index as usize == lowers.len(),
                            "imports are lowered out of order"
                        );
                        lowers.push(options);
                    }
                }
            }
            _ => {}
        }
    }
    anyhow::ensure!(
        lowers.len() == shims && functions.len() == shims,
        "the component lowers {} of {} imports through {shims} shims",
        lowers.len(),
        functions.len()
    );
    let lowered = functions.into_iter().zip(lowers);
    Ok(lowered.map(|((instance, name), options)| Lowered { instance, name, options }).collect())
}

fn is_shim(alias: &ComponentAlias<'_>, wanted: ExternalKind) -> bool {
    matches!(alias, ComponentAlias::CoreInstanceExport { kind, instance_index: SHIM_INSTANCE, .. } if *kind == wanted)
}

struct Rewiring {
    lowered: Vec<Lowered>,
    allocator: u32,
    /// How many were met so far: of the core modules, of the shim's functions, of the imports' functions.
    modules: u32,
    shims: usize,
    functions: usize,
    has_image: bool,
}

type Result<T = ()> = std::result::Result<T, reencode::Error<RewireError>>;

impl Rewiring {
    /// Before the first core instance: the image and the allocator, with what they export.
    fn begin(&mut self, component: &mut Component) {
        let mut module_type = ModuleType::new();
        module_type.export(MEMORY, EntityType::Memory(image_memory()));
        let mut types = CoreTypeSection::new();
        types.ty().module(&module_type);
        let mut imports = ComponentImportSection::new();
        imports.import(IMAGE, ComponentTypeRef::Module(0));
        let mut instances = InstanceSection::new();
        instances.instantiate::<_, &str>(IMAGE_MODULE, []).instantiate::<_, &str>(REALLOC_MODULE, []);
        let mut aliases = ComponentAliasSection::new();
        aliases
            .alias(Alias::CoreInstanceExport {
                instance: IMAGE_INSTANCE,
                kind: ExportKind::Memory,
                name: MEMORY,
            })
            .alias(Alias::CoreInstanceExport {
                instance: REALLOC_INSTANCE,
                kind: ExportKind::Func,
                name: REALLOC,
            });
        component.section(&types).section(&imports).section(&instances).section(&aliases);
        self.has_image = true;
    }

    fn instances(
        &mut self,
        component: &mut Component,
        section: wasmparser::InstanceSectionReader<'_>,
    ) -> Result {
        if !self.has_image {
            self.begin(component);
        }
        let mut instances = InstanceSection::new();
        for instance in section {
            match instance? {
                Instance::Instantiate { module_index: SHIM_MODULE | FIXUPS_MODULE, .. } => {}
                // What the fix-ups are given.
                Instance::FromExports(exports)
                    if exports.iter().any(|export| export.kind == ExternalKind::Table) => {}
                Instance::Instantiate { module_index: MAIN_MODULE, args } => {
                    let own = args.iter().map(|arg| (arg.name, self.instance_index(arg.index)));
                    let all = own.chain([(IMAGE, IMAGE_INSTANCE), (REALLOC, REALLOC_INSTANCE)]);
                    let args: Vec<_> =
                        all.map(|(name, instance)| (name, ModuleArg::Instance(instance))).collect();
                    instances.instantiate(MAIN_MODULE, args);
                }
                other => component_utils::parse_instance(self, &mut instances, other)?,
            }
        }
        if !instances.is_empty() {
            component.section(&instances);
        }
        Ok(())
    }

    fn aliases(
        &mut self,
        component: &mut Component,
        section: wasmparser::ComponentAliasSectionReader<'_>,
    ) -> Result {
        for alias in section {
            match alias? {
                alias if is_shim(&alias, ExternalKind::Func) => self.lower_next(component)?,
                alias if is_shim(&alias, ExternalKind::Table) => {}
                ComponentAlias::CoreInstanceExport { kind: ExternalKind::Memory, .. } => {}
                // They were aliased where they were lowered.
                ComponentAlias::InstanceExport { kind: ComponentExternalKind::Func, .. }
                    if self.functions < self.lowered.len() =>
                {
                    self.functions += 1;
                }
                other => {
                    let mut aliases = ComponentAliasSection::new();
                    aliases.alias(component_utils::component_alias(self, other)?);
                    component.section(&aliases);
                }
            }
        }
        Ok(())
    }

    /// Lowers the next import where the shim's function stood in for it.
    fn lower_next(&mut self, component: &mut Component) -> Result {
        let index = self.shims;
        self.shims += 1;
        let Lowered { instance, name, options } = self.lowered[index].clone();
        let mut aliases = ComponentAliasSection::new();
        aliases.alias(Alias::InstanceExport { instance, kind: ComponentExportKind::Func, name: &name });
        let mut functions = CanonicalFunctionSection::new();
        let options = options.iter().map(|option| match option {
            wasmparser::CanonicalOption::Realloc(_) => Ok(CanonicalOption::Realloc(REALLOC_FUNCTION)),
            other => component_utils::canonical_option(self, *other),
        });
        functions.lower(index as u32, options.collect::<Result<Vec<_>>>()?);
        component.section(&aliases).section(&functions);
        Ok(())
    }

    fn canonicals(
        &mut self,
        component: &mut Component,
        section: wasmparser::ComponentCanonicalSectionReader<'_>,
    ) -> Result {
        let mut functions = CanonicalFunctionSection::new();
        for function in section {
            match function? {
                CanonicalFunction::Lower { .. } => {}
                other => component_utils::parse_component_canonical(self, &mut functions, other)?,
            }
        }
        if !functions.is_empty() {
            component.section(&functions);
        }
        Ok(())
    }
}

impl Reencode for Rewiring {
    type Error = RewireError;

    /// Core functions of the old component are: the shims, the main module's allocator, the lowered imports, the
    /// main module's exports. Of the new one: the allocator's module, the lowered imports, the main module's
    /// allocator, its exports.
    fn function_index(&mut self, old: u32) -> Result<u32> {
        let imports = self.lowered.len() as u32;
        match old {
            _ if old < imports => Ok(old + 1),
            _ if old == imports => Ok(imports + 1),
            _ if old > 2 * imports => Ok(old - imports + 1),
            _ => Err(reencode::Error::UserError(RewireError::LateImport)),
        }
    }
}

impl ReencodeComponent for Rewiring {
    fn instance_index(&mut self, index: u32) -> u32 {
        index + 1
    }

    fn parse_component_payload(
        &mut self,
        component: &mut Component,
        payload: Payload<'_>,
        whole: &[u8],
    ) -> Result {
        match payload {
            Payload::InstanceSection(section) => self.instances(component, section),
            Payload::ComponentAliasSection(section) => self.aliases(component, section),
            Payload::ComponentCanonicalSection(section) => self.canonicals(component, section),
            Payload::CoreTypeSection(_) => Err(reencode::Error::UserError(RewireError::CoreType)),
            // Names and producers: the names would be those of the old indices.
            Payload::CustomSection(_) => Ok(()),
            other => component_utils::parse_component_payload(self, component, other, whole),
        }
    }

    fn parse_component_submodule(&mut self, component: &mut Component, _: Parser, module: &[u8]) -> Result {
        if self.has_image {
            return Err(reencode::Error::UserError(RewireError::LateModule));
        }
        let index = self.modules;
        self.modules += 1;
        match index {
            MAIN_MODULE => {
                let rewritten = MainModule::rewrite(module, self.allocator).map_err(RewireError::Main);
                component.section(&ModuleSection(&rewritten.map_err(reencode::Error::UserError)?));
            }
            SHIM_MODULE => {
                component.section(&ModuleSection(&realloc::module()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Components within have no core instances, and what they use of the outer one keeps its place.
    fn parse_component_subcomponent(
        &mut self,
        component: &mut Component,
        _: Parser,
        subcomponent: &[u8],
        _: &[u8],
    ) -> Result {
        component.section(&RawSection { id: ComponentSectionId::Component.into(), data: subcomponent });
        Ok(())
    }
}

/// Why a component cannot be wired anew.
#[derive(Debug, thiserror::Error)]
enum RewireError {
    #[error("the component already has core types")]
    CoreType,
    #[error("a core module follows the first core instance")]
    LateModule,
    #[error("an import is used that was lowered after the main module")]
    LateImport,
    #[error("main module: {0}")]
    Main(main_module::Error),
}
