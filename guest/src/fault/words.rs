//! Rhai's run-time errors in plain words.

use rhai::EvalAltResult as Error;

use super::languages::{instead_of, instead_of_function, instead_of_module};
use crate::{api::Api, names::closest};

/// What an error means, and where possible what was probably meant.
pub(super) fn describe(error: &Error, api: &Api) -> String {
    match error {
        Error::ErrorVariableNotFound(name, _) => variable_not_found(name, api),
        Error::ErrorFunctionNotFound(signature, _) => function_not_found(signature, api),
        Error::ErrorModuleNotFound(name, _) => module_not_found(name, api),
        Error::ErrorMismatchDataType(expected, actual, _) if !expected.is_empty() && !actual.is_empty() => {
            format!("{} is needed here, not {}", plain_type(expected), plain_type(actual))
        }
        Error::ErrorMismatchOutputType(_, actual, _) => {
            format!("{} is not expected here", plain_type(actual))
        }
        Error::ErrorArrayBounds(len, index, _) => format!("there is no item {index}: the array has {len}"),
        Error::ErrorStringBounds(len, index, _) => {
            format!("there is no character {index}: the string has {len}")
        }
        Error::ErrorIndexingType(name, _) => format!("this cannot be indexed: {}", plain_type(name)),
        Error::ErrorFor(_) => "this is nothing that `for` can go through".into(),
        Error::ErrorUnboundThis(_) => {
            "`this` has no value here: the function was not called as a method".into()
        }
        Error::ErrorAssignmentToConstant(name, _) => format!("`{name}` is a constant and cannot be changed"),
        Error::ErrorDataRace(..) => {
            "a function that is called on a value uses the same value again; copy it to another variable first".into()
        }
        Error::ErrorStackOverflow(_) => "functions call each other too deeply".into(),
        Error::ErrorDotExpr(text, _) => property_not_found(text),
        other => without_position(other),
    }
}

fn variable_not_found(name: &str, api: &Api) -> String {
    if name == "event" {
        return "there is no `event` here: a request is `req`, and a handler has its event under the name of its \
                parameter"
            .into();
    }
    if let Some(first) = api.module(name).and_then(|signatures| signatures.first()) {
        let function = name_of(first);
        return format!(
            "`{name}` is a module: its functions are called with `::`, as in `{name}::{function}`"
        );
    }
    if let Some(instead) = instead_of(name) {
        return format!("there is no `{name}` here: {instead}");
    }
    format!(
        "there is no variable `{name}` here; a function sees its parameters and the script's top-level \
         constants, but not its top-level variables"
    )
}

/// `signature` is as Rhai writes it: `module::name (type, type)`. Its `sort` has a sentence there instead.
fn function_not_found(signature: &str, api: &Api) -> String {
    if signature.ends_with("cannot be sorted") {
        return signature.to_owned();
    }
    let (path, types) = signature.split_once(" (").unwrap_or((signature, ")"));
    let types: Vec<_> = types
        .strip_suffix(')')
        .unwrap_or(types)
        .split(", ")
        .filter(|name| !name.is_empty())
        .map(plain_type)
        .collect();
    let given = if types.is_empty() { "nothing".to_owned() } else { types.join(", ") };
    let Some((module, function)) = path.rsplit_once("::") else {
        if let Some(property) = path.strip_prefix("get$") {
            return no_property(property, types.first().copied());
        }
        if let Some(instead) = instead_of_function(path) {
            return format!("there is no function `{path}` for ({given}): {instead}");
        }
        let known = api.globals_named(path);
        return match (known.is_empty(), closest(path, api.global_names())) {
            (false, _) => format!("`{path}` does not take ({given}); there is {}", known.join(", ")),
            (true, Some(meant)) => {
                format!("there is no function `{path}` for ({given}); is `{meant}` meant?")
            }
            (true, None) => format!("there is no function `{path}` for ({given})"),
        };
    };
    let Some(signatures) = api.module(module) else {
        return format!("`{module}` has no function `{function}` for ({given})");
    };
    let same: Vec<_> = signatures
        .iter()
        .filter(|signature| name_of(signature) == function)
        .map(|s| format!("{module}::{s}"))
        .collect();
    if !same.is_empty() {
        return format!("`{path}` does not take ({given}); there is {}", same.join(", "));
    }
    let names: Vec<_> = signatures.iter().map(|signature| name_of(signature)).collect();
    match closest(function, names.iter().copied()) {
        Some(meant) => format!("there is no `{path}`; is `{module}::{meant}` meant?"),
        None => format!("there is no `{path}`; `{module}` has {}", unique(names).join(", ")),
    }
}

/// Rhai's sentence names the property between `'`, and the type at its end. Any other is left as it is.
fn property_not_found(text: &str) -> String {
    let mut parts = text.split('\'');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("Unknown property "), Some(property), Some(_), Some(of)) => {
            no_property(property, Some(plain_type(of)))
        }
        _ => text.to_owned(),
    }
}

fn no_property(property: &str, of: Option<&str>) -> String {
    let of = match of {
        Some("nothing") => " of `()`, the empty value".to_owned(),
        Some(of) => format!(" of a value of the type {of}"),
        None => " here".to_owned(),
    };
    let hint = match property {
        "length" | "size" | "count" => "; its length is `.len`",
        _ => "",
    };
    format!("there is no property `{property}`{of}{hint}")
}

fn module_not_found(name: &str, api: &Api) -> String {
    if let Some(meant) = closest(name, api.module_names()) {
        return format!("there is no module `{name}`; is `{meant}` meant?");
    }
    if let Some(instead) = instead_of_module(name) {
        return format!("there is no module `{name}`: {instead}");
    }
    let known: Vec<_> = api.module_names().collect();
    format!("there is no module `{name}`; there are {} and what the script imports", known.join(", "))
}

/// The name in `name(parameters)`.
pub(crate) fn name_of(signature: &str) -> &str {
    signature.split('(').next().unwrap_or(signature)
}

fn unique(mut names: Vec<&str>) -> Vec<&str> {
    names.dedup();
    names
}

/// Names of types as docs/SCRIPTING.md has them.
pub(crate) fn plain_type(name: &str) -> &str {
    match name {
        "&str | ImmutableString | String" | "&str" | "ImmutableString" => "string",
        "i64" => "int",
        "f64" => "float",
        "()" => "nothing",
        "Fn" => "function",
        other => other,
    }
}

/// Rhai's own text, without the position, which a fault has in a field of its own.
fn without_position(error: &Error) -> String {
    let mut text = error.to_string();
    let position = error.position();
    if !position.is_none() {
        let suffix = format!(" ({position})");
        if text.ends_with(&suffix) {
            text.truncate(text.len() - suffix.len());
        }
    }
    text
}
