//! Words and forms of other languages, and what takes their place here.

use rhai::Position;

/// What takes the place of a word, a name or an operator. `None` for what means nothing in particular.
pub(super) fn instead_of(word: &str) -> Option<&'static str> {
    Some(match word {
        "null" | "nil" | "undefined" | "None" | "NULL" | "none" => "the empty value is `()`",
        "True" | "False" | "TRUE" | "FALSE" => "they are written `true` and `false`",
        "console" => "`print(text)` and `log::info(text)` write to the log",
        "JSON" => "use `json::parse` and `json::stringify`",
        "Math" => "numbers have methods, as in `x.floor()`",
        "Object" => "maps have methods, as in `map.keys()`",
        "Date" => "`time::now()` has the time",
        "var" => "variables begin with `let`",
        "match" | "case" => "use `switch value { 1 => \"one\", _ => \"other\" }`",
        "new" => "maps are written `#{ name: value }` and arrays `[1, 2]`",
        "await" | "async" => "leave it out, every call waits for its result",
        "#" => "comments begin with `//`, maps with `#{`",
        "++" => "write `x += 1`",
        "--" => "write `x -= 1`",
        "===" => "write `==`, which never takes text for a number",
        "!==" => "write `!=`, which never takes text for a number",
        ":=" => "write `let x = 1` for a new variable, `x = 1` for one that is there",
        "..." => "arrays and maps are put together with `+`",
        "?" => "write `if a { b } else { c }`, which has a value",
        "use" | "package" => "write `import \"name\" as alias`",
        "module" | "exports" => "all functions of a script can be imported, but those that are `private`",
        _ => return None,
    })
}

/// What takes the place of a function or method.
pub(super) fn instead_of_function(name: &str) -> Option<&'static str> {
    Some(match name {
        "fetch" | "axios" | "curl" | "XMLHttpRequest" => "write `http::get(url)` or `http::post(url, body)`",
        "str" | "String" | "toString" | "tostring" | "to_str" => "write `x.to_string()`",
        "int" | "parseInt" | "Number" => "write `parse_int(text)`, or `x.to_int()` for a number",
        "parseFloat" => "write `parse_float(text)`, or `x.to_float()` for a number",
        "toUpperCase" | "to_uppercase" | "upper" => "write `text.to_upper()`",
        "toLowerCase" | "to_lowercase" | "lower" => "write `text.to_lower()`",
        "length" | "size" => "write `x.len()`",
        "append" => "`list.push(item)` adds an item, `list.append(array)` all of an array",
        "unshift" => "write `list.insert(0, item)`",
        "includes" | "has" => "write `x.contains(y)`",
        "hasOwnProperty" | "has_key" => "write `map.contains(\"name\")`",
        "indexOf" | "findIndex" => "write `x.index_of(y)`",
        "startsWith" | "startswith" => "write `text.starts_with(start)`",
        "endsWith" | "endswith" => "write `text.ends_with(end)`",
        "substring" | "substr" => "write `text.sub_string(start, len)`",
        "slice" => "write `list.extract(start, len)` or `text.sub_string(start, len)`",
        "charAt" => "write `text[index]`",
        "strip" => "write `text.trim()`, which changes the text in its place",
        "replaceAll" => "write `text.replace(old, new)`, which changes the text in its place",
        "forEach" => "write `list.for_each(|| print(this))`, or `for item in list { ... }`",
        "every" => "write `list.all(|x| x > 1)`",
        "println" | "printf" | "puts" | "echo" => "write `print(text)`",
        "require" => "write `import \"name\" as alias`",
        "setTimeout" => {
            "nothing may wait idly; `queue::send(queue, body, #{ delay: 5 })` has something done later"
        }
        "setInterval" => "nothing may wait idly; what is done again and again is a trigger with a schedule",
        "sendMail" | "sendEmail" | "send_mail" | "send_email" => {
            "write `email::send(#{ to: address, subject: subject, text: text })`"
        }
        "publish" | "emit" => "write `topic::publish(topic, body)`",
        "enqueue" => "write `queue::send(queue, body)`",
        "typeof" => "write `type_of(x)`",
        "not" => "write `!x`",
        _ => return None,
    })
}

/// What takes the place of a module.
pub(super) fn instead_of_module(name: &str) -> Option<&'static str> {
    Some(match name {
        "pubsub" | "events" | "event" | "bus" => "write `topic::publish(topic, body)`",
        "jobs" | "tasks" | "sqs" | "bull" => "write `queue::send(queue, body)`",
        "smtp" | "mailer" | "nodemailer" => {
            "write `email::send(#{ to: address, subject: subject, text: text })`"
        }
        "cron" | "schedule" | "scheduler" => {
            "a schedule is a trigger of the app, and calls `fn on_cron(event)`"
        }
        _ => return None,
    })
}

/// What was probably meant where the parser of `source` stopped at `at`, if that has a form of another language.
pub(super) fn instead_of_syntax(source: &str, at: Position) -> Option<String> {
    let (before, rest) = split_at(source, at)?;
    if let Some(instead) = between_values(word_at_start(rest)) {
        return Some(no_word(word_at_start(rest), instead));
    }
    let word = word_before(before);
    if let Some(instead) = before_a_value(word) {
        return Some(no_word(word, instead));
    }
    if rest.starts_with(':')
        && let Some(key) = key_of_map(before)
    {
        return Some(format!("a map begins with `#{{`, as in `#{{ {key}: 1 }}`"));
    }
    let line = before.rsplit('\n').next().unwrap_or_default().trim_start();
    let instead = match (word_at_start(line), rest.chars().next()?) {
        ("if" | "else" | "for" | "while", ':') => "a block stands in braces, as in `if a { b } else { c }`",
        ("let" | "const" | "fn", ':') => "variables and parameters are written without a type",
        ("fn", '-') => "a function does not say the type of what it gives",
        ("for", _) if line.ends_with('(') => "write `for item in list { ... }` or `for i in 0..10 { ... }`",
        (_, '=') if rest.starts_with("=>") => "a function without a name is written `|x| x + 1`",
        _ => return None,
    };
    Some(instead.to_owned())
}

/// A message about a word.
pub(super) fn no_word(word: &str, instead: &str) -> String {
    format!("`{word}` is no word of the language: {instead}")
}

/// Words that stand between two values, or behind one.
fn between_values(word: &str) -> Option<&'static str> {
    Some(match word {
        "and" => "write `a && b`",
        "or" => "write `a || b`",
        "is" => "write `a == b`",
        "then" | "do" => "a block stands in braces, as in `if a { b }`",
        "of" => "write `for item in list { ... }`",
        "from" => "write `import \"name\" as alias`",
        "except" | "rescue" | "finally" => "write `try { ... } catch (error) { ... }`",
        _ => return None,
    })
}

/// Words behind which a value, a name or a block follows.
fn before_a_value(word: &str) -> Option<&'static str> {
    Some(match word {
        "function" | "def" | "func" | "fun" => {
            "functions are written `fn name(x) { ... }`, and without a name `|x| x + 1`"
        }
        "lambda" => "a function without a name is written `|x| x + 1`",
        "not" => "write `!x`",
        "elif" | "elsif" | "elseif" => "write `else if`",
        "foreach" => "write `for item in list { ... }`",
        "unless" => "write `if !x { ... }`",
        "echo" | "puts" | "println" => "write `print(text)`",
        "raise" => "write `throw value`",
        "finally" => "write `try { ... } catch (error) { ... }`",
        "class" | "struct" | "interface" | "enum" => "use maps, as in `#{ name: value }`",
        "pub" => "functions can be imported unless they are `private`",
        "mut" => "leave it out, what `let` makes can be changed",
        "delete" | "del" => "write `map.remove(\"name\")`",
        "typeof" => "write `type_of(x)`",
        "from" => "write `import \"name\" as alias`",
        "int" | "float" | "string" => "variables begin with `let`, and have no type",
        _ => return None,
    })
}

/// The source before a position, and from there on. Positions count characters from 1.
fn split_at(source: &str, at: Position) -> Option<(&str, &str)> {
    let (line, column) = (at.line()?, at.position()?);
    let mut start = 0;
    for _ in 1..line {
        start += source[start..].find('\n')? + 1;
    }
    let (offset, _) = source[start..].char_indices().nth(column.checked_sub(1)?)?;
    Some(source.split_at(start + offset))
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_at_start(text: &str) -> &str {
    text.split(|c| !is_of_word(c)).next().unwrap_or_default()
}

fn word_at_end(text: &str) -> &str {
    text.rsplit(|c| !is_of_word(c)).next().unwrap_or_default()
}

/// The last word of a text, in its last line. What stands in parentheses behind the word does not count, as in
/// `foreach (x in list)`.
fn word_before(text: &str) -> &str {
    let line = text.rsplit('\n').next().unwrap_or_default().trim_end();
    let Some(inner) = line.strip_suffix(')') else { return word_at_end(line) };
    let mut open = 1;
    let start = inner.char_indices().rev().find(|(_, c)| {
        match c {
            ')' => open += 1,
            '(' => open -= 1,
            _ => {}
        }
        open == 0
    });
    start.map_or("", |(index, _)| word_at_end(inner[..index].trim_end()))
}

/// The key before a colon, where it is the first in its braces: `{ key` or `{ "key"`.
fn key_of_map(before: &str) -> Option<&str> {
    let before = before.trim_end();
    let key_len = match before.strip_suffix('"') {
        Some(inner) => before.len() - inner.rfind('"')?,
        None => word_at_end(before).len(),
    };
    let (start, key) = before.split_at(before.len() - key_len);
    (!key.is_empty() && start.trim_end().ends_with('{')).then_some(key)
}
