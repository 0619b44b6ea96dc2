//! The interpreter: made once, given one script, then asked to handle events.

use std::{cell::Cell, rc::Rc};

use rhai::{CallFnOptions, Dynamic, Engine, OptimizationLevel, Position, Scope};

use crate::{
    Answer, Event, Fault, Host, answer,
    api::{self, Api, Context},
    compile::{self, Libraries},
    constants,
    fault::{self, Place},
    json,
    limits::{CALL_LEVELS, EXPRESSION_DEPTH},
    program::{BODY_EVENT, Entry, HANDLERS, Handler, Program},
    raise::Outcome,
    request::Request,
    syntax,
    uses::Uses,
};

/// Seeds of Rhai's hashes: fixed, so that fuel is the same on every machine and in every build.
const HASHING_SEED: [u64; 4] = [0x9e37_79b9, 0x7f4a_7c15, 0xf39c_c060, 0x5ced_c834];

/// A Rhai engine with the script API, and the script it was given.
pub struct Interpreter {
    engine: Engine,
    api: Api,
    context: Rc<Context>,
    libraries: Libraries,
    program: Option<Program>,
}

/// A script that compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The handlers that it defines, sorted; `body` where its body is the handler; empty where nothing is, as in
    /// a library.
    pub handlers: Vec<String>,
    /// Every library that it imports, directly or not, sorted.
    pub imports: Vec<String>,
    /// What its author probably did not mean, in plain words.
    pub warnings: Vec<String>,
    /// What it and its libraries use.
    pub uses: Uses,
}

impl Interpreter {
    /// Makes the engine with its whole API.
    pub fn new(host: Rc<dyn Host>) -> Self {
        // It can be set once a process; later interpreters find the same seed.
        let _ = rhai::config::hashing::set_hashing_seed(Some(HASHING_SEED));
        let context = Rc::new(Context { host, building: Cell::new(false) });
        let libraries = Libraries::default();
        let mut engine = Engine::new();
        engine
            .set_optimization_level(OptimizationLevel::Simple)
            .set_max_call_levels(CALL_LEVELS)
            .set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH)
            .set_module_resolver(libraries.clone());
        syntax::install(&mut engine);
        let api = api::register(&mut engine, &context);
        Self { engine, api, context, libraries, program: None }
    }

    /// Compiles a script and its imports. An interpreter takes one script in its life.
    pub fn build(&mut self, name: &str, source: &str) -> Result<Built, Fault> {
        self.context.building.set(true);
        let host = self.context.host.clone();
        let compiled = compile::compile(&self.engine, &self.api, &*host, &self.libraries, name, source);
        self.context.building.set(false);
        let compiled = compiled?;
        if compiled.uses_constants {
            constants::make_visible(&mut self.engine);
        }
        let (handlers, warnings) = (compiled.program.entry.handlers(), compiled.program.warnings());
        self.program = Some(compiled.program);
        Ok(Built { handlers, imports: self.libraries.names(), warnings, uses: compiled.uses })
    }

    /// Handles one event with the script that was built.
    pub fn handle(&self, event: Event) -> Result<Answer, Fault> {
        let Some(program) = &self.program else {
            return Err(Fault {
                code: "no_handler".into(),
                message: "no script is loaded".into(),
                position: None,
            });
        };
        let result = match &program.entry {
            Entry::Body { reads_event } => self.run_body(program, event, *reads_event),
            Entry::Handlers(handlers) => {
                match handlers.iter().find(|handler| handler.name == event.handler()) {
                    Some(handler) => self.call_handler(program, handler, event),
                    None => return Err(no_handler(program, &event)),
                }
            }
            Entry::Nothing => return Err(no_handler(program, &event)),
        };
        result.map_err(|failure| self.fault(program, &failure))
    }

    fn run_body(&self, program: &Program, event: Event, reads_event: bool) -> Result<Answer, Failure> {
        let statements = program.ast.statements();
        let line_of_first = statements.first().and_then(|statement| statement.position().line());
        let body = Span {
            whole: line_of_first.map_or(Position::NONE, |line| Position::new(line as u16, 0)),
            answer: statements.last().map_or(Position::NONE, rhai::Stmt::position),
        };
        let mut scope = Scope::new();
        let kind = Kind::of(&event);
        if reads_event && !matches!(event, Event::Http(_)) {
            let value = event_value(&event).map_err(|error| Failure { error, at: body.whole })?;
            scope.push_dynamic(BODY_EVENT, value);
        }
        scope.push("req", Request::new(event));
        let result = self.engine.eval_ast_with_scope::<Dynamic>(&mut scope, &program.ast);
        finish(kind, result, &body)
    }

    fn call_handler(&self, program: &Program, handler: &Handler, event: Event) -> Result<Answer, Failure> {
        let kind = Kind::of(&event);
        let options = CallFnOptions::new().eval_ast(!program.ast.statements().is_empty());
        let (engine, scope, ast) = (&self.engine, &mut Scope::new(), &program.ast);
        let result = if handler.takes_event {
            let argument =
                argument(event, handler).map_err(|error| Failure { error, at: handler.position })?;
            engine.call_fn_with_options::<Dynamic>(options, scope, ast, handler.name, (argument,))
        } else {
            engine.call_fn_with_options::<Dynamic>(options, scope, ast, handler.name, ())
        };
        finish(kind, result, &Span { whole: handler.position, answer: handler.position })
    }

    fn fault(&self, program: &Program, failure: &Failure) -> Fault {
        let place = Place { script: &program.name, sources: &program.sources, fallback: failure.at };
        fault::from_error(&failure.error, &place, &self.api)
    }
}

/// What went wrong, and the part of the script it belongs to if nothing better is known.
struct Failure {
    error: crate::raise::Raised,
    at: Position,
}

/// The places to show where Rhai knows none.
struct Span {
    /// Where the code that runs begins.
    whole: Position,
    /// Where the answer comes from.
    answer: Position,
}

/// What form the answer has.
#[derive(Clone, Copy)]
enum Kind {
    Http,
    Value,
}

impl Kind {
    const fn of(event: &Event) -> Self {
        match event {
            Event::Http(_) => Self::Http,
            Event::Invoke(_) | Event::Trigger { .. } => Self::Value,
        }
    }
}

fn finish(kind: Kind, result: Outcome<Dynamic>, span: &Span) -> Result<Answer, Failure> {
    let value = result.map_err(|error| Failure { error, at: span.whole })?;
    let answer = match kind {
        Kind::Http => answer::response(value).map(Answer::Http),
        Kind::Value => answer::value(&value).map(Answer::Value),
    };
    answer.map_err(|error| Failure { error, at: span.answer })
}

/// What a handler gets.
fn argument(event: Event, handler: &Handler) -> Outcome<Dynamic> {
    match event {
        Event::Http(_) | Event::Invoke(_) => Ok(Dynamic::from(Request::new(event))),
        Event::Trigger { .. } if handler.reads_event => event_value(&event),
        Event::Trigger { .. } => Ok(Dynamic::UNIT),
    }
}

/// What came as JSON text.
fn event_value(event: &Event) -> Outcome<Dynamic> {
    let parsed = match event {
        Event::Http(_) => Ok(Dynamic::UNIT),
        Event::Invoke(text) => json::parse(text),
        Event::Trigger { event, .. } => json::parse_tagged(event),
    };
    parsed.map_err(|problem| crate::raise::invalid(format!("the event is not JSON: {problem}")))
}

fn no_handler(program: &Program, event: &Event) -> Fault {
    let handler = event.handler();
    let known = HANDLERS.iter().find(|known| known.name == handler);
    let (parameter, what) = known.map_or(("event", "it"), |known| (known.parameter, known.handles));
    let message = match &program.entry {
        Entry::Handlers(handlers) => {
            let names: Vec<_> = handlers.iter().map(|handler| handler.name).collect();
            format!(
                "`{}` has no {handler}, which would handle {what}; it has {}",
                program.name,
                names.join(", ")
            )
        }
        Entry::Body { .. } | Entry::Nothing => {
            let names: Vec<_> = program.ast.iter_functions().map(|function| function.name).collect();
            let has =
                if names.is_empty() { "is empty".into() } else { format!("only has {}", names.join(", ")) };
            format!("`{}` {has}: a handler for {what} is `fn {handler}({parameter})`", program.name)
        }
    };
    Fault { code: "no_handler".into(), message, position: None }
}
