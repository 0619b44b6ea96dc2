//! The allocator's stand-in: lets imports be lowered before the module that allocates is there.

use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, Module, RefType, TableSection,
    TableType, TypeSection, ValType,
};

/// Name of the function, and of the instance that the main module imports.
pub(super) const REALLOC: &str = "realloc";

/// Name of the table that the main module puts its allocator into.
pub(super) const TABLE: &str = "table";

/// The table of one function.
pub(super) fn table() -> TableType {
    TableType { element_type: RefType::FUNCREF, minimum: 1, maximum: Some(1), table64: false, shared: false }
}

/// A module whose function `realloc` calls the only entry of its table.
pub(super) fn module() -> Module {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32; 4], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut tables = TableSection::new();
    tables.table(table());
    let mut exports = ExportSection::new();
    exports.export(REALLOC, ExportKind::Func, 0).export(TABLE, ExportKind::Table, 0);
    let mut function = Function::new([]);
    let mut code = function.instructions();
    for parameter in 0..4 {
        code.local_get(parameter);
    }
    code.i32_const(0).call_indirect(0, 0).end();
    let mut codes = CodeSection::new();
    codes.function(&function);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&tables).section(&exports).section(&codes);
    module
}
