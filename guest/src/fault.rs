//! From Rhai's errors to faults: a code, plain words, and the place in the script.

use std::{collections::BTreeMap, rc::Rc};

use rhai::{Dynamic, EvalAltResult as Error, LexError, ParseError, ParseErrorType, Position};

use crate::{
    Fault, SourcePosition,
    api::Api,
    json,
    limits::{EXPRESSION_DEPTH, MESSAGE_BYTES, SOURCE_LINE_CHARS},
    raise::{self, Origin},
};

mod languages;
mod words;

pub(crate) use words::{name_of, plain_type};

/// Where a failure is looked up.
pub(crate) struct Place<'a> {
    /// The script that was called.
    pub(crate) script: &'a Rc<str>,
    /// Source texts by script.
    pub(crate) sources: &'a BTreeMap<Rc<str>, Rc<str>>,
    /// Where in the script it is if Rhai does not say.
    pub(crate) fallback: Position,
}

impl Place<'_> {
    /// The place with the text of its line.
    pub(crate) fn locate(&self, script: &str, position: Position) -> Option<SourcePosition> {
        let line = position.line()?;
        let text =
            self.sources.get(script).and_then(|source| source.lines().nth(line - 1)).unwrap_or_default();
        Some(SourcePosition {
            script: script.to_owned(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(position.position().unwrap_or(0)).unwrap_or(u32::MAX),
            source_line: text.chars().take(SOURCE_LINE_CHARS).collect(),
        })
    }
}

/// The fault that an uncaught error is.
pub(crate) fn from_error(error: &Error, place: &Place<'_>, api: &Api) -> Fault {
    let (inner, script, position) = innermost(error, place.script);
    let (code, message) = explain(inner, api);
    let position = match place.locate(&script, position) {
        Some(position) => Some(position),
        None => place.locate(place.script, place.fallback),
    };
    Fault { code, message: cut(message), position }
}

/// The error at the bottom of a chain of calls, the script it happened in, and where.
fn innermost<'e>(error: &'e Error, script: &str) -> (&'e Error, String, Position) {
    let (mut error, mut script, mut position) = (error, script.to_owned(), error.position());
    loop {
        let inner = match error {
            Error::ErrorInFunctionCall(_, source, inner, _) => {
                if !inner.position().is_none() && !source.is_empty() {
                    script.clone_from(source);
                }
                inner
            }
            Error::ErrorInModule(_, inner, _) => inner,
            _ => return (error, script, position),
        };
        if !inner.position().is_none() {
            position = inner.position();
        }
        error = inner;
    }
}

/// The code of an error, and what it means.
fn explain(error: &Error, api: &Api) -> (String, String) {
    let code = match error {
        Error::ErrorRuntime(thrown, _) => return explain_thrown(thrown),
        Error::ErrorStackOverflow(_) => "stack_overflow",
        Error::ErrorDataTooLarge(..) => "out_of_memory",
        Error::ErrorParsing(..) => "compile_error",
        _ => "script_error",
    };
    (code.into(), words::describe(error, api))
}

fn explain_thrown(thrown: &Dynamic) -> (String, String) {
    match raise::origin(thrown) {
        Origin::Host { code, message } => (code, message),
        Origin::Api { message } => ("script_error".into(), message),
        Origin::Script => ("script_error".into(), describe_thrown(thrown)),
    }
}

/// A thrown value for people: text as it is, anything else as JSON where it can be.
fn describe_thrown(thrown: &Dynamic) -> String {
    if thrown.is_unit() {
        return "the script threw an error without a value".into();
    }
    if let Ok(text) = thrown.as_immutable_string_ref() {
        return text.chars().take(MESSAGE_BYTES).collect();
    }
    json::stringify(thrown).unwrap_or_else(|_| thrown.to_string())
}

/// What is wrong with a script's text, `source`.
pub(crate) fn describe_parse_error(error: &ParseError, source: &str) -> String {
    let ParseError(kind, at) = error;
    let message = match &**kind {
        ParseErrorType::ExprTooDeep => {
            format!("expressions nest more than {EXPRESSION_DEPTH} deep here; use variables for parts of it")
        }
        ParseErrorType::Reserved(word) if matches!(word.as_str(), "print" | "debug" | "type_of") => {
            format!(
                "`{word}` is built in: it is called with parentheses, as in `{word}(x)`, and cannot be defined anew"
            )
        }
        ParseErrorType::Reserved(word) if matches!(word.as_str(), "call" | "curry") => {
            format!("`{word}` is built in and cannot be defined anew")
        }
        ParseErrorType::UnknownOperator(symbol)
        | ParseErrorType::BadInput(LexError::ImproperSymbol(symbol, _))
            if let Some(instead) = languages::instead_of(symbol) =>
        {
            format!("there is no operator `{symbol}`: {instead}")
        }
        ParseErrorType::UnknownOperator(symbol) => format!("there is no operator `{symbol}`"),
        ParseErrorType::Reserved(word) => match languages::instead_of(word) {
            Some(instead) => languages::no_word(word, instead),
            None => format!("`{word}` is a reserved word and cannot be a name"),
        },
        ParseErrorType::BadInput(LexError::MalformedChar(text)) => {
            format!("'{text}' is not one character; text is written in double quotes: \"{text}\"")
        }
        ParseErrorType::BadInput(LexError::UnexpectedInput(word)) if word == "try" => {
            "`try` is a statement and has no value: assign to a variable inside of it".into()
        }
        ParseErrorType::BadInput(LexError::ImproperSymbol(symbol, _)) if symbol == "eval" => {
            "`eval` does not exist here".into()
        }
        ParseErrorType::BadInput(LexError::ImproperSymbol(symbol, hint)) if !hint.is_empty() => {
            format!("`{symbol}`: {hint}")
        }
        other => languages::instead_of_syntax(source, *at).unwrap_or_else(|| other.to_string()),
    };
    cut(message)
}

/// Cuts a message to what a fault may carry.
fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES {
        let mut end = MESSAGE_BYTES;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}
