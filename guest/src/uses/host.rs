//! Which host a call is for, as far as the source tells: the beginning of its URL is often text, also where the rest of
//! it is made while the script runs.

use std::collections::BTreeMap;

use rhai::Expr;

/// How deep expressions are looked into.
const DEPTH: usize = 32;

/// The host, with its port where that is named, of the URL that is the argument of an `http` function, or of the map
/// that has it.
pub(super) fn of(argument: &Expr, constants: &BTreeMap<String, String>) -> Option<String> {
    let start = match argument {
        Expr::Map(map, _) => {
            let (_, url) = map.0.iter().find(|(name, _)| name.as_str() == "url")?;
            start_of(url, constants, DEPTH)
        }
        Expr::DynamicConstant(value, _) if value.is_map() => {
            let map = value.as_map_ref().ok()?;
            let url = map.get("url")?.as_immutable_string_ref().ok()?.to_string();
            Start { text: url, is_whole: true }
        }
        argument => start_of(argument, constants, DEPTH),
    };
    start.host()
}

/// The text that a value begins with, as far as it is known.
struct Start {
    text: String,
    is_whole: bool,
}

impl Start {
    fn unknown() -> Self {
        Self { text: String::new(), is_whole: false }
    }

    /// The host of the URL, if all of it is in the text.
    fn host(&self) -> Option<String> {
        // Only what every reader of URLs reads alike: `http:host`, `http:\\host` and the like are calls to a host too.
        let text = self.text.to_ascii_lowercase();
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let end = rest.find(['/', '?', '#', '\\']);
        if end.is_none() && !self.is_whole {
            return None;
        }
        let authority = &rest[..end.unwrap_or(rest.len())];
        // A user in it could be a secret, and is refused when it is called.
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        (!authority.is_empty() && authority.chars().all(is_plain)).then(|| authority.to_lowercase())
    }
}

fn start_of(expression: &Expr, constants: &BTreeMap<String, String>, depth: usize) -> Start {
    let Some(depth) = depth.checked_sub(1) else { return Start::unknown() };
    match expression {
        Expr::StringConstant(text, _) => Start { text: text.to_string(), is_whole: true },
        Expr::Variable(variable, ..) if variable.2.is_empty() => match constants.get(variable.1.as_str()) {
            Some(text) => Start { text: text.clone(), is_whole: true },
            None => Start::unknown(),
        },
        Expr::InterpolatedString(parts, _) => joined(parts.iter(), constants, depth),
        Expr::FnCall(call, _) if call.name == "+" && call.args.len() == 2 => {
            joined(call.args.iter(), constants, depth)
        }
        _ => Start::unknown(),
    }
}

fn joined<'a>(
    parts: impl Iterator<Item = &'a Expr>,
    constants: &BTreeMap<String, String>,
    depth: usize,
) -> Start {
    let mut whole = Start { text: String::new(), is_whole: true };
    for part in parts {
        let part = start_of(part, constants, depth);
        whole.text.push_str(&part.text);
        if !part.is_whole {
            whole.is_whole = false;
            break;
        }
    }
    whole
}
