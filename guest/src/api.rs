//! The script API: modules like `kv::`, and the few functions without one. Each function is registered with the
//! signature under which docs/SCRIPTING.md explains it; a test compares the two.

use std::{cell::Cell, rc::Rc};

use rhai::{
    Dynamic, Engine, FuncRegistration, Module, NativeCallContext, Position, RhaiFunc, RhaiNativeFunc, Variant,
};

use crate::{
    Host, HostError,
    fault::{name_of, plain_type},
    fetched,
    names::closest,
    raise::{Outcome, Raised, not_at_build, refused},
    request,
};

mod app;
mod arrays;
mod crypto;
mod email;
mod encoding;
mod env;
mod files;
mod http;
mod json;
mod kv;
mod log;
mod queue;
mod random;
mod regex;
mod responses;
mod secret;
mod time;
mod topic;

/// What functions of the API share.
pub(crate) struct Context {
    pub(crate) host: Rc<dyn Host>,
    /// A script is being compiled: nothing may come from outside, since it would be frozen into the image.
    pub(crate) building: Cell<bool>,
}

impl Context {
    /// The host, for a call by `function`.
    fn host(&self, function: &str) -> Outcome<&dyn Host> {
        if self.building.get() { Err(not_at_build(function)) } else { Ok(&*self.host) }
    }
}

/// What there is, for messages and for the test of the documentation.
#[derive(Default)]
pub(crate) struct Api {
    modules: Vec<(&'static str, Vec<&'static str>)>,
    globals: Vec<&'static str>,
}

impl Api {
    /// Signatures of a module's functions, as `name(parameters)`.
    pub(crate) fn module(&self, name: &str) -> Option<&[&'static str]> {
        self.modules.iter().find(|(module, _)| *module == name).map(|(_, signatures)| signatures.as_slice())
    }

    /// Names of the modules.
    pub(crate) fn module_names(&self) -> impl Iterator<Item = &'static str> {
        self.modules.iter().map(|(name, _)| *name)
    }

    /// Names of the functions without a module.
    pub(crate) fn global_names(&self) -> impl Iterator<Item = &'static str> {
        self.globals.iter().map(|signature| name_of(signature))
    }

    /// Signatures of the functions of this name without a module.
    pub(crate) fn globals_named(&self, name: &str) -> Vec<&'static str> {
        self.globals.iter().copied().filter(|signature| name_of(signature) == name).collect()
    }
}

/// Registers everything.
pub(crate) fn register(engine: &mut Engine, context: &Rc<Context>) -> Api {
    request::register(engine);
    fetched::register(engine);
    forbid_sleep(engine);
    arrays::register(engine);
    log::register_print(engine, context);
    let mut globals = Vec::new();
    responses::register(&mut Globals { engine, signatures: &mut globals });
    json::register_globals(&mut Globals { engine, signatures: &mut globals });
    arrays::register_globals(&mut Globals { engine, signatures: &mut globals });
    let modules = [
        app::module(context),
        encoding::base64_module(),
        crypto::crypto_module(),
        crypto::hash_module(),
        email::module(context),
        env::module(context),
        files::module(context),
        encoding::html_module(),
        http::module(context),
        json::module(),
        kv::module(context),
        log::module(context),
        queue::module(context),
        random::module(context),
        regex::module(),
        secret::module(context),
        time::module(context),
        topic::module(context),
        encoding::url_module(),
    ];
    let mut api = Api { modules: Vec::with_capacity(modules.len()), globals };
    for part in modules {
        engine.register_static_module(part.name, part.module.into());
        api.modules.push((part.name, part.signatures));
    }
    api
}

/// Rhai's own `sleep` would block the node. It is a function of a package that has much else, so that it cannot
/// be left out, only covered.
fn forbid_sleep(engine: &mut Engine) {
    let refuse = || -> Outcome<()> {
        Err(crate::raise::invalid("`sleep` does not exist here: nothing may wait idly"))
    };
    engine.register_fn("sleep", move |_: i64| refuse());
    engine.register_fn("sleep", move |_: f64| refuse());
}

/// A module while it is filled.
struct Part {
    name: &'static str,
    module: Module,
    signatures: Vec<&'static str>,
}

impl Part {
    fn new(name: &'static str) -> Self {
        Self { name, module: Module::new(), signatures: Vec::new() }
    }

    /// Adds a function under `signature`, `name(parameters)`.
    fn add<A: 'static, const N: usize, const X: bool, R, F>(&mut self, signature: &'static str, function: F)
    where
        R: Variant + Clone,
        F: RhaiNativeFunc<A, N, X, R, true> + 'static,
    {
        let registration = FuncRegistration::new(name_of(signature)).in_internal_namespace();
        let function = with_position(function.into_rhai_function(true, true));
        registration.set_into_module_raw(&mut self.module, F::param_types(), function);
        if self.signatures.last() != Some(&signature) {
            self.signatures.push(signature);
        }
    }
}

/// Gives the errors of a function the position of the call: Rhai does so for functions without a module only.
fn with_position(function: RhaiFunc) -> RhaiFunc {
    let (RhaiFunc::Pure { func, has_context, .. } | RhaiFunc::Method { func, has_context, .. }) = function
    else {
        return function;
    };
    let positioned = move |context: Option<NativeCallContext<'_>>, arguments: &mut [&mut Dynamic]| {
        let position = context.as_ref().map_or(Position::NONE, NativeCallContext::call_position);
        func(context.filter(|_| has_context), arguments).map_err(|mut error| {
            if error.position().is_none() {
                error.set_position(position);
            }
            error
        })
    };
    RhaiFunc::Pure { func: Rc::new(positioned), has_context: true, is_pure: true, is_volatile: true }
}

/// Functions without a module while they are added.
struct Globals<'a> {
    engine: &'a mut Engine,
    signatures: &'a mut Vec<&'static str>,
}

impl Globals<'_> {
    /// Adds a function under `signature`, `name(parameters)`.
    fn add<A: 'static, const N: usize, const X: bool, R, F>(&mut self, signature: &'static str, function: F)
    where
        R: Variant + Clone,
        F: RhaiNativeFunc<A, N, X, R, true> + 'static,
    {
        self.engine.register_fn(name_of(signature), function);
        if self.signatures.last() != Some(&signature) {
            self.signatures.push(signature);
        }
    }
}

/// A refused host call as a raised error.
fn from_host<T>(result: Result<T, HostError>) -> Outcome<T> {
    result.map_err(refused)
}

/// The bytes of a string or a blob.
fn bytes_of(value: &Dynamic, function: &str) -> Outcome<Vec<u8>> {
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(text.as_bytes().to_vec());
    }
    if let Ok(blob) = value.as_blob_ref() {
        return Ok(blob.to_vec());
    }
    Err(wrong_type(function, "a string or a blob", value))
}

fn wrong_type(function: &str, expected: &str, found: &Dynamic) -> Raised {
    crate::raise::invalid(format!("{function} needs {expected}, not {}", plain_type(found.type_name())))
}

fn unknown_option(function: &str, name: &str, known: &[&str]) -> Raised {
    crate::raise::invalid(match closest(name, known.iter().copied()) {
        Some(meant) => format!("{function} has no option `{name}`; is `{meant}` meant?"),
        None => format!("{function} has no option `{name}`; it has {}", known.join(", ")),
    })
}

/// The text of an option; `()` is none.
fn optional_text(function: &str, option: &str, value: &Dynamic) -> Outcome<Option<String>> {
    if value.is_unit() {
        return Ok(None);
    }
    match value.as_immutable_string_ref() {
        Ok(text) => Ok(Some(text.to_string())),
        Err(_) => Err(wrong_type(&format!("{function}: {option}"), "a string", value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PROPERTIES;

    const GUIDE: &str = include_str!("../../docs/SCRIPTING.md");

    /// No test here calls it.
    struct NoHost;

    impl Host for NoHost {
        fn now(&self) -> i64 {
            0
        }

        fn random(&self, len: usize) -> Vec<u8> {
            vec![0; len]
        }

        fn log(&self, _: crate::LogLevel, _: &str) {}

        fn kv_get(&self, _: &str, _: &str) -> Result<Option<String>, HostError> {
            Ok(None)
        }

        fn kv_set(&self, _: &str, _: &str, _: &str, _: Option<u64>) -> Result<(), HostError> {
            Ok(())
        }

        fn kv_delete(&self, _: &str, _: &str) -> Result<(), HostError> {
            Ok(())
        }

        fn kv_list(
            &self,
            _: &str,
            _: &str,
            _: Option<&str>,
            _: u32,
        ) -> Result<Vec<crate::KvEntry>, HostError> {
            Ok(Vec::new())
        }

        fn file_stat(&self, _: &str) -> Result<Option<crate::FileInfo>, HostError> {
            Ok(None)
        }

        fn file_read(&self, _: &str) -> Result<Vec<u8>, HostError> {
            Ok(Vec::new())
        }

        fn file_write(&self, _: &str, _: &[u8], _: Option<&str>) -> Result<(), HostError> {
            Ok(())
        }

        fn file_delete(&self, _: &str) -> Result<(), HostError> {
            Ok(())
        }

        fn file_list(&self, _: &str, _: Option<&str>, _: u32) -> Result<Vec<crate::FileInfo>, HostError> {
            Ok(Vec::new())
        }

        fn secret(&self, _: &str) -> Result<String, HostError> {
            Ok("secret".into())
        }

        fn variable(&self, _: &str) -> Result<Option<String>, HostError> {
            Ok(None)
        }

        fn http(&self, _: crate::OutgoingRequest) -> Result<crate::IncomingAnswer, HostError> {
            Ok(crate::IncomingAnswer::default())
        }

        fn send(&self, _: &str, _: &str, _: &crate::MessageOptions) -> Result<String, HostError> {
            Ok("id".into())
        }

        fn publish(&self, _: &str, _: &str) -> Result<String, HostError> {
            Ok("id".into())
        }

        fn mail(&self, _: crate::OutgoingMail) -> Result<String, HostError> {
            Ok("id".into())
        }

        fn invoke(&self, _: &str, _: &str) -> Result<String, HostError> {
            Ok("null".into())
        }

        fn library(&self, _: &str) -> Result<Option<String>, HostError> {
            Ok(None)
        }
    }

    fn all_signatures() -> Vec<String> {
        let context = Rc::new(Context { host: Rc::new(NoHost), building: Cell::new(false) });
        let api = register(&mut Engine::new(), &context);
        let of_modules = api.modules.iter().flat_map(|(module, signatures)| {
            signatures.iter().map(move |signature| format!("{module}::{signature}"))
        });
        of_modules.chain(api.globals.iter().map(|signature| (*signature).to_owned())).collect()
    }

    #[test]
    fn the_guide_has_every_function() {
        let missing: Vec<_> = all_signatures()
            .into_iter()
            .filter(|signature| !GUIDE.contains(&format!("`{signature}`")))
            .collect();
        assert!(missing.is_empty(), "docs/SCRIPTING.md lacks {missing:#?}");
    }

    #[test]
    fn the_guide_has_no_function_that_is_not_there() {
        let known = all_signatures();
        let modules = [
            "app", "base64", "crypto", "email", "env", "files", "hash", "html", "http", "json", "kv", "log",
            "queue", "random", "regex", "secret", "time", "topic", "url",
        ];
        // The first cell of a table row is a function of the API.
        let rows = GUIDE.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let unknown: Vec<_> = rows
            .filter(|cell| modules.iter().any(|module| cell.starts_with(&format!("{module}::"))))
            .filter(|cell| !known.iter().any(|signature| signature == cell))
            .collect();
        assert!(unknown.is_empty(), "docs/SCRIPTING.md has {unknown:#?}");
    }

    #[test]
    fn the_guide_has_every_property_of_a_request_and_of_an_answer() {
        let of_requests = PROPERTIES.iter().map(|(name, _)| format!("req.{name}"));
        let of_answers = fetched::PROPERTIES.iter().map(|(name, _)| format!("answer.{name}"));
        let missing: Vec<_> = of_requests
            .chain(of_answers)
            .filter(|property| !GUIDE.contains(&format!("| `{property}`")))
            .collect();
        assert!(missing.is_empty(), "docs/SCRIPTING.md lacks {missing:?}");
    }
}
