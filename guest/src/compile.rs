//! Compiles a script with the libraries that it imports. No import is resolved after that.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use rhai::{
    AST, ASTNode, Engine, EvalAltResult, Expr, Module, ModuleResolver, Position, Scope, Shared, Stmt,
};

use crate::{
    Fault, Host,
    api::Api,
    constants, fault,
    fault::Place,
    limits::{LIBRARY_DEPTH, MAX_LIBRARIES, MAX_SECRETS},
    names::script_name_problem,
    program::{Entry, Program},
    raise::Raised,
    uses::{self, UseKind, Uses},
};

/// The libraries of a script by name, shared with the engine that runs it.
#[derive(Clone, Default)]
pub(crate) struct Libraries(Rc<RefCell<BTreeMap<Rc<str>, Shared<Module>>>>);

/// A script that compiled.
pub(crate) struct Compiled {
    pub(crate) program: Program,
    /// Whether functions of the script or a library use constants.
    pub(crate) uses_constants: bool,
    /// What the script and its libraries use.
    pub(crate) uses: Uses,
}

impl ModuleResolver for Libraries {
    fn resolve(
        &self,
        _: &Engine,
        _: Option<&str>,
        path: &str,
        at: Position,
    ) -> Result<Shared<Module>, Raised> {
        match self.0.borrow().get(path) {
            Some(module) => Ok(module.clone()),
            None => Err(EvalAltResult::ErrorModuleNotFound(path.to_owned(), at).into()),
        }
    }
}

impl Libraries {
    /// Names of all libraries, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.borrow().keys().map(|name| name.as_ref().to_owned()).collect()
    }
}

/// Compiles the script `name` and everything it imports.
pub(crate) fn compile(
    engine: &Engine,
    api: &Api,
    host: &dyn Host,
    libraries: &Libraries,
    name: &str,
    source: &str,
) -> Result<Compiled, Fault> {
    let mut compiler = Compiler {
        engine,
        api,
        host,
        libraries,
        sources: BTreeMap::new(),
        open: Vec::new(),
        uses_constants: false,
        uses: Uses::new(),
    };
    let name: Rc<str> = name.into();
    let ast = compiler.parse(&name, source)?;
    compiler.import_all(&name, &ast)?;
    let entry = Entry::of(&ast, source).map_err(|bad| compiler.fault_at(&name, bad.position, bad.message))?;
    let declared = compiler.uses.get(&UseKind::Secrets).map_or(0, |used| used.names.len());
    if declared > MAX_SECRETS {
        let message =
            format!("a script may declare {MAX_SECRETS} secrets, libraries included; it has {declared}");
        return Err(compiler.fault_at(&name, Position::NONE, message));
    }
    let program = Program { name, ast, entry, sources: compiler.sources };
    Ok(Compiled { program, uses_constants: compiler.uses_constants, uses: compiler.uses })
}

struct Compiler<'a> {
    engine: &'a Engine,
    api: &'a Api,
    host: &'a dyn Host,
    libraries: &'a Libraries,
    sources: BTreeMap<Rc<str>, Rc<str>>,
    /// The scripts whose imports are being resolved, outermost first.
    open: Vec<Rc<str>>,
    uses_constants: bool,
    uses: Uses,
}

impl Compiler<'_> {
    fn parse(&mut self, name: &Rc<str>, source: &str) -> Result<AST, Fault> {
        // Some editors begin a file with this mark of its encoding.
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        self.sources.insert(name.clone(), source.into());
        let mut ast = self.engine.compile_with_scope(&Scope::new(), source).map_err(|error| {
            self.fault_at(name, error.position(), fault::describe_parse_error(&error, source))
        })?;
        ast.set_source(name.as_ref());
        self.uses_constants |= constants::has_constants_for_functions(&ast);
        uses::collect(&ast, &mut self.uses);
        Ok(ast)
    }

    fn import_all(&mut self, name: &Rc<str>, ast: &AST) -> Result<(), Fault> {
        self.open.push(name.clone());
        for import in imports(ast) {
            let Some(path) = import.path else {
                let message = "import takes the name of a script as plain text: import \"name\" as alias";
                return Err(self.fault_at(name, import.position, message.into()));
            };
            self.import(name, &path, import.position)?;
        }
        self.open.pop();
        Ok(())
    }

    fn import(&mut self, importer: &Rc<str>, path: &str, position: Position) -> Result<(), Fault> {
        let wrong = |this: &Self, message: String| Err(this.fault_at(importer, position, message));
        if let Some(problem) = script_name_problem(path) {
            return wrong(self, format!("cannot import {path:?}: a script's name {problem}"));
        }
        if self.open.iter().any(|open| open.as_ref() == path) {
            return wrong(self, format!("`{path}` imports itself: {} -> {path}", self.open.join(" -> ")));
        }
        if self.libraries.0.borrow().contains_key(path) {
            return Ok(());
        }
        if self.libraries.0.borrow().len() >= MAX_LIBRARIES {
            return wrong(self, format!("a script may import at most {MAX_LIBRARIES} libraries"));
        }
        if self.open.len() > LIBRARY_DEPTH {
            return wrong(self, format!("imports nest more than {LIBRARY_DEPTH} deep"));
        }
        let source = match self.host.library(path) {
            Ok(Some(source)) => source,
            Ok(None) => return wrong(self, format!("this app has no script `{path}` to import")),
            Err(error) => {
                let position = self.place(importer, position);
                return Err(Fault { code: error.code, message: error.message, position });
            }
        };
        let name: Rc<str> = path.into();
        let ast = self.parse(&name, &source)?;
        self.import_all(&name, &ast)?;
        let module = self.evaluate(&name, &ast)?;
        self.libraries.0.borrow_mut().insert(name, module);
        Ok(())
    }

    /// Runs the top level of a library, which gives its functions and exported constants.
    fn evaluate(&self, name: &Rc<str>, ast: &AST) -> Result<Shared<Module>, Fault> {
        match Module::eval_ast_as_new(Scope::new(), ast, self.engine) {
            Ok(module) => Ok(module.into()),
            Err(error) => {
                let place = Place { script: name, sources: &self.sources, fallback: Position::NONE };
                Err(fault::from_error(&error, &place, self.api))
            }
        }
    }

    fn fault_at(&self, name: &Rc<str>, position: Position, message: String) -> Fault {
        Fault { code: "compile_error".into(), message, position: self.place(name, position) }
    }

    fn place(&self, name: &Rc<str>, position: Position) -> Option<crate::SourcePosition> {
        Place { script: name, sources: &self.sources, fallback: Position::NONE }.locate(name, position)
    }
}

/// An `import` statement.
struct Import {
    /// What it names; `None` where that is not plain text.
    path: Option<String>,
    position: Position,
}

fn imports(ast: &AST) -> Vec<Import> {
    let mut found = Vec::new();
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let Some(ASTNode::Stmt(Stmt::Import(import, position))) = path.last() {
            let path = match &import.0 {
                Expr::StringConstant(text, _) => Some(text.to_string()),
                _ => None,
            };
            found.push(Import { path, position: *position });
        }
        true
    });
    found
}
