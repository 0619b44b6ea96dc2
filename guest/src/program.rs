//! A compiled script: its syntax tree, and which part of it handles which event.

use std::{collections::BTreeMap, rc::Rc};

use rhai::{AST, Position, ScriptFuncDef, Shared, Stmt};

/// Names of the functions that handle events. Only `on_request` has events so far.
const HANDLERS: [&str; 7] =
    ["on_request", "on_kv", "on_cron", "on_message", "on_publish", "on_email", "on_dead_letter"];

/// A script ready to run, libraries included.
pub(crate) struct Program {
    pub(crate) name: Rc<str>,
    pub(crate) ast: AST,
    pub(crate) entry: Entry,
    /// Source texts by name, for the lines in faults.
    pub(crate) sources: BTreeMap<Rc<str>, Rc<str>>,
}

/// What runs when an event comes.
pub(crate) enum Entry {
    /// The body itself; its last value is the answer.
    Body,
    /// Functions by event.
    Handlers(Vec<Handler>),
    /// Nothing: a library, or an empty script.
    Nothing,
}

/// A handler function.
pub(crate) struct Handler {
    pub(crate) name: &'static str,
    /// Whether it takes the event.
    pub(crate) takes_event: bool,
    pub(crate) position: Position,
}

/// A function with a handler's name that cannot be one.
pub(crate) struct BadHandler {
    pub(crate) message: String,
    pub(crate) position: Position,
}

impl Entry {
    /// Looks at a script's functions and statements.
    pub(crate) fn of(ast: &AST) -> Result<Self, BadHandler> {
        let mut handlers = Vec::new();
        for function in ast.iter_fn_def() {
            if let Some(handler) = Handler::of(function)? {
                handlers.push(handler);
            }
        }
        if !handlers.is_empty() {
            handlers.sort_by_key(|handler| handler.name);
            return Ok(Self::Handlers(handlers));
        }
        let has_functions = ast.iter_functions().next().is_some();
        let is_body = if has_functions {
            // What a library has at its top level makes no script of it.
            ast.statements().iter().any(|statement| !is_declaration(statement))
        } else {
            !ast.statements().is_empty()
        };
        Ok(if is_body { Self::Body } else { Self::Nothing })
    }

    /// Names of the handlers.
    pub(crate) fn handlers(&self) -> Vec<String> {
        match self {
            Self::Handlers(handlers) => handlers.iter().map(|handler| handler.name.to_owned()).collect(),
            Self::Body | Self::Nothing => Vec::new(),
        }
    }
}

impl Handler {
    fn of(function: &Shared<ScriptFuncDef>) -> Result<Option<Self>, BadHandler> {
        let known = HANDLERS.iter().find(|name| **name == function.name.as_str());
        let Some(name) = known else { return Ok(None) };
        let position = function.body.start_position();
        if function.this_type.is_some() || function.params.len() > 1 {
            let message = format!("{name} is a handler and takes one parameter: fn {name}(event)");
            return Err(BadHandler { message, position });
        }
        Ok(Some(Self { name, takes_event: function.params.len() == 1, position }))
    }
}

fn is_declaration(statement: &Stmt) -> bool {
    matches!(statement, Stmt::Var(..) | Stmt::Import(..) | Stmt::Export(..) | Stmt::Noop(..))
}
