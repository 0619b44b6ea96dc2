//! What a script uses, read from its syntax tree: which secrets it may have, and the report at its deployment.
//!
//! A use is known by name where the name is text in the call, or a constant of the top level that is text; else it is
//! any. Secrets can also be declared: `const SECRETS = ["name"]` at the top level.

mod host;

use std::collections::{BTreeMap, BTreeSet};

use rhai::{AST, ASTFlags, ASTNode, Dynamic, Expr, FnCallExpr, Stmt};

/// The constant that declares secrets.
const DECLARATION: &str = "SECRETS";

/// A kind of thing that scripts use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UseKind {
    /// Collections of key-value data.
    Kv,
    /// Secrets.
    Secrets,
    /// Plain variables.
    Env,
    /// Scripts that it calls.
    Scripts,
    /// Hosts that it calls over HTTP.
    Hosts,
    /// Files of the app.
    Files,
    /// Queues that it sends to.
    Queues,
    /// Topics that it publishes on.
    Topics,
    /// E-mail; it has no names.
    Email,
}

/// What is used of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// The names that stand in the source.
    pub names: BTreeSet<String>,
    /// Whether there are uses whose name is made only while the script runs.
    pub any: bool,
}

/// What a script and its libraries use, by kind.
pub type Uses = BTreeMap<UseKind, Used>;

/// Adds what one script or library uses.
pub(crate) fn collect(ast: &AST, uses: &mut Uses) {
    let constants = text_constants(ast);
    let certain = without_shadowed(ast, &constants);
    for statement in ast.statements() {
        if let Some(declared) = declaration(statement) {
            let secrets = uses.entry(UseKind::Secrets).or_default();
            secrets.names.extend(declared);
        }
    }
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        let Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) = path.last()
        else {
            return true;
        };
        if is_of(call, "email") {
            uses.entry(UseKind::Email).or_default().any = true;
        }
        if is_of(call, "http") {
            let hosts = uses.entry(UseKind::Hosts).or_default();
            match call.args.first().map(|argument| host::of(argument, &certain)) {
                Some(Some(host)) => {
                    hosts.names.insert(host);
                }
                Some(None) => hosts.any = true,
                None => {}
            }
        }
        if let Some(kind) = kind_of(call) {
            let used = uses.entry(kind).or_default();
            match call.args.first() {
                Some(argument) => {
                    used.any |= name_of(argument, &certain).is_none();
                    used.names.extend(name_of(argument, &constants));
                }
                // `files::list()` is of all of them.
                None if kind == UseKind::Files => used.any = true,
                // It lacks its argument and fails whenever it is called.
                None => {}
            }
        }
        true
    });
}

/// What a call uses, if its first argument is a name.
fn kind_of(call: &FnCallExpr) -> Option<UseKind> {
    let [module] = call.namespace.path.as_slice() else { return None };
    match (module.as_str(), call.name.as_str()) {
        ("kv", _) => Some(UseKind::Kv),
        ("secret", "get") => Some(UseKind::Secrets),
        ("env", "get") => Some(UseKind::Env),
        ("app", "invoke") => Some(UseKind::Scripts),
        ("files", _) => Some(UseKind::Files),
        ("queue", _) => Some(UseKind::Queues),
        ("topic", _) => Some(UseKind::Topics),
        _ => None,
    }
}

/// Whether a call is of a function of this module.
fn is_of(call: &FnCallExpr, name: &str) -> bool {
    matches!(call.namespace.path.as_slice(), [module] if module.as_str() == name)
}

fn name_of(argument: &Expr, constants: &BTreeMap<String, String>) -> Option<String> {
    match argument {
        Expr::StringConstant(text, _) => Some(text.to_string()),
        Expr::Variable(variable, ..) if variable.2.is_empty() => constants.get(variable.1.as_str()).cloned(),
        _ => None,
    }
}

/// Constants of the top level that are text.
fn text_constants(ast: &AST) -> BTreeMap<String, String> {
    let constants = ast.statements().iter().filter_map(|statement| {
        let (name, value) = constant(statement)?;
        let Expr::StringConstant(text, _) = value else { return None };
        Some((name.to_owned(), text.to_string()))
    });
    constants.collect()
}

/// The constants whose names nothing else in the script has: another variable or a parameter of the same name may be
/// meant where the name stands.
fn without_shadowed(ast: &AST, constants: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut certain = constants.clone();
    for function in ast.iter_functions() {
        for parameter in function.params {
            certain.remove(parameter);
        }
    }
    let mut defined = BTreeSet::new();
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        match path.last() {
            Some(ASTNode::Stmt(Stmt::Var(variable, ..))) if !defined.insert(variable.0.name.clone()) => {
                certain.remove(variable.0.as_str());
            }
            Some(ASTNode::Stmt(Stmt::For(parts, _))) => {
                for name in [Some(&parts.0), parts.1.as_ref()].into_iter().flatten() {
                    certain.remove(name.as_str());
                }
            }
            Some(ASTNode::Stmt(Stmt::TryCatch(parts, _))) => {
                if let Expr::Variable(caught, ..) = &parts.expr {
                    certain.remove(caught.1.as_str());
                }
            }
            _ => {}
        }
        true
    });
    certain
}

/// The names that a statement declares as secrets, if it is such a declaration.
fn declaration(statement: &Stmt) -> Option<Vec<String>> {
    let (_, value) = constant(statement).filter(|(name, _)| *name == DECLARATION)?;
    let value = value.get_literal_value(None)?;
    let text = |value: &Dynamic| value.as_immutable_string_ref().ok().map(|text| text.to_string());
    match value.as_array_ref() {
        Ok(names) => Some(names.iter().filter_map(text).collect()),
        Err(_) => text(&value).map(|name| vec![name]),
    }
}

fn constant(statement: &Stmt) -> Option<(&str, &Expr)> {
    match statement {
        Stmt::Var(variable, flags, _) if flags.contains(ASTFlags::CONSTANT) => {
            Some((variable.0.as_str(), &variable.1))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rhai::{Engine, OptimizationLevel, Scope};

    use super::*;

    fn uses(source: &str) -> Uses {
        let mut engine = Engine::new();
        engine.set_optimization_level(OptimizationLevel::Simple);
        let ast = engine.compile_with_scope(&Scope::new(), source).unwrap();
        let mut uses = Uses::new();
        collect(&ast, &mut uses);
        uses
    }

    fn secrets(source: &str) -> (Vec<String>, bool) {
        let used = uses(source).remove(&UseKind::Secrets).unwrap_or_default();
        (used.names.into_iter().collect(), used.any)
    }

    #[test]
    fn names_are_found_wherever_a_call_may_stand() {
        for source in [
            "secret::get(\"a\")",
            "secret::get(`a`);",
            "fn on_request(req) { if req.path == \"/\" { secret::get(\"a\") } else { 1 } }",
            "let f = |x| x + secret::get(\"a\"); f.call(1)",
            "`${secret::get(\"a\")}`",
            "#{ key: [secret::get(\"a\")] }",
            "for i in 0..3 { print(secret::get(\"a\")); }",
            "try { secret::get(\"a\"); } catch (e) { throw e }",
            "switch secret::get(\"a\") { 1 => 2, _ => 3 }",
            "let x = 1; switch x { 1 => secret::get(\"a\"), _ => 3 }",
            "while secret::get(\"a\") == \"\" {}",
            "return secret::get(\"a\");",
            "let x = (); x ?? secret::get(\"a\")",
            "hash::hmac(secret::get(\"a\"), \"x\").len()",
            "secret::get(\"a\").len",
            "const NAME = \"a\"; secret::get(NAME)",
            "const NAME = \"a\"; fn on_request(req) { secret::get(NAME) }",
            "const SECRETS = [\"a\"]; fn on_request(req) { 1 }",
            "const SECRETS = \"a\"; 1",
        ] {
            assert_eq!(secrets(source), (vec!["a".to_owned()], false), "{source}");
        }
    }

    #[test]
    fn a_name_that_is_made_is_any() {
        for source in
            ["secret::get(\"a\" + req.path)", "fn f(x) { secret::get(x) }", "let n = \"a\"; secret::get(n)"]
        {
            assert!(secrets(source).1, "{source}");
        }
        let both = "const SECRETS = [\"a\", \"b\", 7]; fn on_request(req) { secret::get(req.query.which) }";
        assert_eq!(secrets(both), (vec!["a".into(), "b".into()], true));
    }

    #[test]
    fn a_name_that_may_stand_for_something_else_is_any() {
        for source in [
            "const S = \"a\"; fn on_request(req) { let S = \"b\"; kv::get(S, 1) }",
            "const S = \"a\"; fn f(S) { kv::get(S, 1) } fn on_request(req) { f(\"b\") }",
            "const S = \"a\"; let f = |S| kv::get(S, 1); f.call(\"b\")",
            "const S = \"a\"; fn on_request(req) { for S in [\"b\"] { kv::get(S, 1); } }",
            "const S = \"a\"; fn on_request(req) { for (x, S) in [\"b\"] { kv::get(S, 1); } }",
            "const S = \"a\"; fn on_request(req) { try { throw \"b\"; } catch (S) { kv::get(S, 1) } }",
            "const S = \"a\"; const S = \"b\"; fn on_request(req) { kv::get(S, 1) }",
        ] {
            let used = &uses(source)[&UseKind::Kv];
            assert!(used.any && !used.names.is_empty(), "{source}: {used:?}");
        }
        let plain =
            &uses("const S = \"a\"; const T = \"b\"; fn on_request(req) { kv::get(S, T) }")[&UseKind::Kv];
        assert_eq!((plain.any, plain.names.len()), (false, 1));
    }

    #[test]
    fn what_only_looks_like_a_use_is_none() {
        for source in [
            "// secret::get(\"a\")\n1",
            "\"secret::get(\\\"a\\\")\"",
            "fn get(x) { x } get(\"a\")",
            "1",
            "secret::get()",
        ] {
            assert_eq!(secrets(source).0, [""; 0], "{source}");
        }
    }

    #[test]
    fn every_kind_is_noted() {
        let all = uses(
            "kv::set(\"visits\", \"k\", 1); kv::incr(req.path, \"k\"); env::get(\"REGION\"); app::invoke(\"other\", 1)",
        );
        let used = |kind: UseKind| {
            let used = &all[&kind];
            (used.names.iter().map(String::as_str).collect::<Vec<_>>(), used.any)
        };
        assert_eq!(used(UseKind::Kv), (vec!["visits"], true));
        assert_eq!(used(UseKind::Env), (vec!["REGION"], false));
        assert_eq!(used(UseKind::Scripts), (vec!["other"], false));
        assert!(!all.contains_key(&UseKind::Secrets));
        let all = uses("files::write(\"a/b.txt\", 1); files::read(\"c\")");
        assert_eq!(
            all[&UseKind::Files],
            Used { names: ["a/b.txt", "c"].map(String::from).into(), any: false }
        );
        for source in ["files::list()", "files::list(#{ prefix: \"a\" })", "files::read(req.path)"] {
            assert!(uses(source)[&UseKind::Files].any, "{source}");
        }
    }

    #[test]
    fn what_is_sent_is_noted() {
        let all = uses(
            "const Q = \"jobs\"; queue::send(Q, 1); queue::send(\"mails\", 1, #{}); topic::publish(req.path, 1);",
        );
        assert_eq!(
            all[&UseKind::Queues],
            Used { names: ["jobs", "mails"].map(String::from).into(), any: false }
        );
        assert_eq!(all[&UseKind::Topics], Used { names: BTreeSet::new(), any: true });
        assert!(!all.contains_key(&UseKind::Email));
        let mail = uses("fn on_request(req) { email::send(#{ to: \"a@example.org\" }) }");
        assert_eq!(mail[&UseKind::Email], Used { names: BTreeSet::new(), any: true });
    }

    #[test]
    fn hosts_are_known_where_their_text_is() {
        for source in [
            "http::get(\"https://API.example.com/users\")",
            "http::get(\"https://api.example.com\")",
            "fn on_request(req) { http::get(`https://api.example.com/users/${req.params.id}`) }",
            "fn f(id) { http::delete(\"https://api.example.com/\" + id + \"/x\") }",
            "const API = \"https://api.example.com\"; fn f(id) { http::post(API + \"/x/\" + id, #{}) }",
            "const API = \"https://api.example.com\"; fn f(id) { http::put(`${API}/x/${id}`, 1) }",
            "fn f(id) { http::request(#{ method: \"PUT\", url: `https://api.example.com?id=${id}` }) }",
            "http::request(#{ url: \"https://api.example.com/\" })",
        ] {
            let used = uses(source).remove(&UseKind::Hosts).unwrap_or_default();
            assert_eq!(used.names.into_iter().collect::<Vec<_>>(), ["api.example.com"], "{source}");
            assert!(!used.any, "{source}");
        }
        let with_port = uses("http::get(\"http://192.168.1.20:8080/\")").remove(&UseKind::Hosts).unwrap();
        assert!(with_port.names.contains("192.168.1.20:8080"));
    }

    #[test]
    fn a_host_that_is_made_is_any() {
        for source in [
            "fn f(url) { http::get(url) }",
            "fn f(name) { http::get(`https://${name}.example.com/`) }",
            "fn f(name) { http::get(\"https://api.example.com\" + name) }",
            "fn f(options) { http::request(options) }",
            "fn f(x) { http::request(#{ url: x }) }",
            "http::get(\"no url\")",
            "http::get(\"https://user:password@api.example.com/\")",
        ] {
            let used = uses(source).remove(&UseKind::Hosts).unwrap_or_default();
            assert!(used.any && used.names.is_empty(), "{source}: {used:?}");
        }
        assert!(!uses("fn get(x) { x } get(\"https://a.example/\")").contains_key(&UseKind::Hosts));
    }
}
