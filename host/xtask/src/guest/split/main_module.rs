//! The main module, without memory and data of its own.

use wasm_encoder::{
    ConstExpr, DataSection, ElementSection, Elements, ImportSection, MemorySection, SectionId,
    reencode::{self, Reencode},
};
use wasmparser::Parser;

use super::{
    IMAGE, MEMORY, image_memory,
    realloc::{self, REALLOC, TABLE},
};

/// Why the module cannot be copied.
pub(super) type Error = reencode::Error<std::convert::Infallible>;

/// Copies the main module. Memory 0 stays memory 0; the allocator's table becomes table 0, and its own move up.
pub(super) struct MainModule {
    imported: bool,
    /// The function that the host allocates with.
    allocator: u32,
}

impl MainModule {
    /// The module that imports its memory and fills in the allocator's table.
    pub(super) fn rewrite(module: &[u8], allocator: u32) -> Result<wasm_encoder::Module, Error> {
        let mut out = wasm_encoder::Module::new();
        Self { imported: false, allocator }.parse_core_module(&mut out, Parser::new(0), module)?;
        Ok(out)
    }

    fn add_imports(&mut self, imports: &mut ImportSection) {
        self.imported = true;
        imports.import(IMAGE, MEMORY, image_memory());
        imports.import(REALLOC, TABLE, realloc::table());
    }
}

impl Reencode for MainModule {
    type Error = std::convert::Infallible;

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        self.add_imports(imports);
        reencode::utils::parse_import_section(self, imports, section)
    }

    fn table_index(&mut self, table: u32) -> Result<u32, Error> {
        Ok(table + 1)
    }

    fn parse_element_section(
        &mut self,
        elements: &mut ElementSection,
        section: wasmparser::ElementSectionReader<'_>,
    ) -> Result<(), Error> {
        let allocator = [self.allocator];
        elements.active(None, &ConstExpr::i32_const(0), Elements::Functions(allocator.as_slice().into()));
        reencode::utils::parse_element_section(self, elements, section)
    }

    fn parse_memory_section(
        &mut self,
        _: &mut MemorySection,
        _: wasmparser::MemorySectionReader<'_>,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn parse_data_section(
        &mut self,
        _: &mut DataSection,
        _: wasmparser::DataSectionReader<'_>,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn data_count(&mut self, _: u32) -> Result<u32, Error> {
        Ok(0)
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut wasm_encoder::Module,
        _: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), Error> {
        // A module without imports gets its import section where one would stand.
        if before == Some(SectionId::Function) && !self.imported {
            let mut imports = ImportSection::new();
            self.add_imports(&mut imports);
            module.section(&imports);
        }
        Ok(())
    }
}
