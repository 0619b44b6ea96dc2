//! Makes a script's top-level constants visible in its functions.
//!
//! Rhai evaluates `const` at the top level for each run and keeps the values for `global::NAME`, while a bare
//! `NAME` in a function is an error. People expect the bare name to work, as it does in most languages. Rhai
//! asks a resolver before it searches for a variable; ours answers only for names that the parser found in no
//! enclosing scope (index 0), so that parameters and local variables always win. It is installed only for
//! scripts that have both constants and functions, since it costs a little for each variable that is read.

use rhai::{AST, ASTFlags, Dynamic, Engine, EvalContext, Stmt, locked_read};

use crate::raise::Outcome;

/// Whether functions of this script could use a constant.
pub(crate) fn has_constants_for_functions(ast: &AST) -> bool {
    let is_constant =
        |statement: &Stmt| matches!(statement, Stmt::Var(_, flags, _) if flags.contains(ASTFlags::CONSTANT));
    ast.iter_functions().next().is_some() && ast.statements().iter().any(is_constant)
}

/// Makes constants visible from now on.
pub(crate) fn make_visible(engine: &mut Engine) {
    #[expect(
        deprecated,
        reason = "Rhai marks what it may still change as deprecated; the version is pinned"
    )]
    engine.on_var(resolve);
}

#[expect(clippy::needless_pass_by_value, reason = "Rhai passes the context by value")]
#[expect(clippy::unnecessary_wraps, reason = "the signature is Rhai's")]
fn resolve(
    name: &str,
    index: usize,
    context: EvalContext<'_, '_, '_, '_, '_, '_>,
) -> Outcome<Option<Dynamic>> {
    if index > 0 {
        return Ok(None);
    }
    let Some(constants) = &context.global_runtime_state().constants else { return Ok(None) };
    Ok(locked_read(constants).and_then(|constants| constants.get(name).cloned()))
}
