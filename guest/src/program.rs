//! A compiled script: its syntax tree, and which part of it handles which event.

use std::{collections::BTreeMap, rc::Rc};

use rhai::{AST, Position, ScriptFuncDef, Shared, Stmt};

use crate::names::closest;

/// Names of the functions that handle events. Only `on_request` has events so far.
const HANDLERS: [&str; 7] =
    ["on_request", "on_kv", "on_cron", "on_message", "on_publish", "on_email", "on_dead_letter"];

/// How a script whose body handles events is reported beside those that have handlers.
const BODY: &str = "body";

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
            Self::Body => vec![BODY.to_owned()],
            Self::Nothing => Vec::new(),
        }
    }
}

impl Program {
    /// What the author probably did not mean: functions that look like handlers and are none, and a script that has
    /// nothing in it.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<_> =
            self.ast.iter_functions().filter_map(|function| self.misspelt(function.name)).collect();
        warnings.sort();
        if self.ast.statements().is_empty() && self.ast.iter_functions().next().is_none() {
            warnings.push("the script is empty: there is nothing in it to call".into());
        }
        warnings
    }

    fn misspelt(&self, function: &str) -> Option<String> {
        if !function.starts_with("on") || HANDLERS.contains(&function) {
            return None;
        }
        if let Some(meant) = closest(function, HANDLERS) {
            return Some(format!("no event calls `{function}`; is `{meant}` meant?"));
        }
        // Beside a handler, `on_error` and its like are the script's own business.
        let is_suspect = function.starts_with("on_") && matches!(self.entry, Entry::Nothing);
        is_suspect.then(|| format!("no event calls `{function}`; handlers are {}", HANDLERS.join(", ")))
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

#[cfg(test)]
mod tests {
    use rhai::Engine;

    use super::*;

    fn program(source: &str) -> Program {
        let ast = Engine::new().compile(source).unwrap();
        let entry = Entry::of(&ast).map_err(|bad| bad.message).unwrap();
        Program { name: "s".into(), ast, entry, sources: BTreeMap::new() }
    }

    #[test]
    fn what_handles_events_is_named() {
        let handlers = |source| program(source).entry.handlers();
        assert_eq!(handlers("fn on_request(req) { 1 }"), ["on_request"]);
        assert_eq!(handlers("1 + 1"), ["body"]);
        assert_eq!(handlers("fn area(a) { a * a }"), [""; 0]);
        assert_eq!(handlers(""), [""; 0]);
    }

    #[test]
    fn what_looks_like_a_handler_and_is_none_is_warned_of() {
        let warnings = |source| program(source).warnings();
        assert_eq!(
            warnings("fn on_reqest(req) { 1 }"),
            ["no event calls `on_reqest`; is `on_request` meant?"]
        );
        assert!(warnings("fn on_http(req) { 1 }")[0].contains("handlers are on_request, on_kv"));
        assert_eq!(warnings("fn on_error(e) { 1 } fn on_request(req) { 1 }"), [""; 0]);
        assert_eq!(warnings("fn area(a) { a * a }"), [""; 0]);
        assert!(warnings("// nothing")[0].contains("empty"));
    }
}
