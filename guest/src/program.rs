//! A compiled script: its syntax tree, and which part of it handles which event.

use std::{collections::BTreeMap, rc::Rc};

use rhai::{AST, Position, ScriptFuncDef, Shared, Stmt};

use crate::names::closest;

/// A function that handles events.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    /// How its parameter is called in texts.
    pub(crate) parameter: &'static str,
    /// What it handles, in plain words.
    pub(crate) handles: &'static str,
}

/// The functions that handle events.
pub(crate) const HANDLERS: [Known; 7] = [
    Known { name: "on_request", parameter: "req", handles: "an HTTP request or a direct call" },
    Known { name: "on_kv", parameter: "event", handles: "a change of a kv entry" },
    Known { name: "on_cron", parameter: "event", handles: "a time of a schedule" },
    Known { name: "on_message", parameter: "msg", handles: "a message of a queue" },
    Known { name: "on_publish", parameter: "event", handles: "a publication on a topic" },
    Known { name: "on_email", parameter: "mail", handles: "an e-mail" },
    Known { name: "on_dead_letter", parameter: "letter", handles: "an event that was given up" },
];

/// The variable of a body that has what is no request.
pub(crate) const BODY_EVENT: &str = "event";

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
    Body {
        /// Whether it may read the variable `event`.
        reads_event: bool,
    },
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
    /// Whether it may read what it takes.
    pub(crate) reads_event: bool,
    pub(crate) position: Position,
}

/// A function with a handler's name that cannot be one.
pub(crate) struct BadHandler {
    pub(crate) message: String,
    pub(crate) position: Position,
}

impl Entry {
    /// Looks at a script's functions and statements, and at its text.
    pub(crate) fn of(ast: &AST, source: &str) -> Result<Self, BadHandler> {
        let mut handlers = Vec::new();
        for function in ast.iter_fn_def() {
            if let Some(handler) = Handler::of(function, source)? {
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
        Ok(if is_body { Self::Body { reads_event: source.contains(BODY_EVENT) } } else { Self::Nothing })
    }

    /// Names of the handlers.
    pub(crate) fn handlers(&self) -> Vec<String> {
        match self {
            Self::Handlers(handlers) => handlers.iter().map(|handler| handler.name.to_owned()).collect(),
            Self::Body { .. } => vec![BODY.to_owned()],
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
        let names = HANDLERS.map(|handler| handler.name);
        if !function.starts_with("on") || names.contains(&function) {
            return None;
        }
        if let Some(meant) = closest(function, names).or_else(|| named_otherwise(function)) {
            return Some(format!("no event calls `{function}`; is `{meant}` meant?"));
        }
        // Beside a handler, `on_error` and its like are the script's own business.
        let is_suspect = function.starts_with("on_") && matches!(self.entry, Entry::Nothing);
        is_suspect.then(|| format!("no event calls `{function}`; handlers are {}", names.join(", ")))
    }
}

impl Handler {
    fn of(function: &Shared<ScriptFuncDef>, source: &str) -> Result<Option<Self>, BadHandler> {
        let known = HANDLERS.iter().find(|known| known.name == function.name.as_str());
        let Some(Known { name, parameter, .. }) = known else { return Ok(None) };
        let position = function.body.start_position();
        if function.this_type.is_some() || function.params.len() > 1 {
            let message = format!("{name} is a handler and takes one parameter: fn {name}({parameter})");
            return Err(BadHandler { message, position });
        }
        let parameter = function.params.first();
        // What stands nowhere but in the head of the function is not read: nothing names a variable but its own text.
        let reads_event = parameter.is_some_and(|parameter| source.matches(parameter.as_str()).count() != 1);
        Ok(Some(Self { name, takes_event: parameter.is_some(), reads_event, position }))
    }
}

/// The handler that a name of other platforms stands for.
fn named_otherwise(function: &str) -> Option<&'static str> {
    match function {
        "on_queue" | "on_job" | "on_task" => Some("on_message"),
        "on_topic" | "on_pubsub" | "on_event" => Some("on_publish"),
        "on_schedule" | "on_scheduled" | "on_timer" => Some("on_cron"),
        _ => None,
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
        let entry = Entry::of(&ast, source).map_err(|bad| bad.message).unwrap();
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
    fn an_event_that_nothing_names_is_not_read() {
        let reads = |source| match program(source).entry {
            Entry::Body { reads_event } => reads_event,
            Entry::Handlers(handlers) => handlers[0].reads_event,
            Entry::Nothing => panic!("{source}: there is a handler"),
        };
        for source in [
            "fn on_message(msg) { 1 }",
            "fn on_message() { 1 }",
            "1 + 1",
            "fn on_kv(_event) { let x = 1; x }",
        ] {
            assert!(!reads(source), "{source}");
        }
        for source in [
            "fn on_message(msg) { msg.body }",
            "fn on_message(m) { let f = || m; f.call() }",
            "fn on_message(msg) { `${msg}` }",
            "fn on_message(x) { let x = x; 1 }",
            "event",
            "let f = || event.id; f.call()",
        ] {
            assert!(reads(source), "{source}");
        }
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
        assert!(
            warnings("fn on_queue(msg) { 1 } fn on_request() { 1 }")[0].contains("is `on_message` meant?")
        );
        assert_eq!(warnings("fn area(a) { a * a }"), [""; 0]);
        assert!(warnings("// nothing")[0].contains("empty"));
    }
}
