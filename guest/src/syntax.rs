//! Where the language differs from Rhai's own.

use std::cell::Cell;

use rhai::{Engine, Token};

/// Removes `eval`, and lets functions of modules have names that are words of the language: `log::debug`.
pub(crate) fn install(engine: &mut Engine) {
    engine.disable_symbol("eval");
    let after_colons = Cell::new(false);
    #[expect(
        deprecated,
        reason = "Rhai marks what it may still change as deprecated; the version is pinned"
    )]
    engine.on_parse_token(move |token, _, _| {
        let in_module = after_colons.replace(token == Token::DoubleColon);
        match token {
            Token::Reserved(word) if in_module && word.as_str() == "debug" => Token::Identifier(word),
            other => other,
        }
    });
}
