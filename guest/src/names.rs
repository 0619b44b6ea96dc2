//! Names of scripts: the same rule as `ScriptName` of the host, which this crate does not depend on.

/// Says what is wrong with a script's name; `None` where nothing is.
pub(crate) fn script_name_problem(name: &str) -> Option<&'static str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/');
    if name.is_empty() || name.len() > 64 {
        Some("must have 1 to 64 characters")
    } else if !name.chars().all(is_allowed) {
        Some("may have only a-z, A-Z, 0-9, _, - and / between folders")
    } else if name.split('/').any(str::is_empty) {
        Some("must not start or end with / or have an empty folder")
    } else {
        None
    }
}

/// The name among `known` that was probably meant: two edits away at most, or one from a short name, where two
/// make another word of it.
pub(crate) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = if name.len() < 6 { 1 } else { 2 };
    // A name of kilobytes is no misspelling of anything.
    let candidates = known.into_iter().filter(|k| name.len() <= 64 && k.len().abs_diff(name.len()) <= most);
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, by Wagner and Fischer's method with one row. Two neighbours that changed places are one
/// edit if nothing else differs.
fn distance(a: &str, b: &str) -> usize {
    if is_swap(a.as_bytes(), b.as_bytes()) {
        return 1;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn is_swap(a: &[u8], b: &[u8]) -> bool {
    let Some(first) = a.iter().zip(b).position(|(x, y)| x != y) else { return false };
    match (&a[first..], &b[first..]) {
        ([a1, a2, a_rest @ ..], [b1, b2, b_rest @ ..]) => a1 == b2 && a2 == b1 && a_rest == b_rest,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_names_cannot_leave_their_app() {
        for good in ["hello", "api/users", "A_b-3"] {
            assert_eq!(script_name_problem(good), None, "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a//b", "..", "../a", "a.rhai", "a b", "a\\b", "\0"] {
            assert!(script_name_problem(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn misspellings_are_recognised() {
        assert_eq!(closest("gett", ["set", "get", "list"]), Some("get"));
        assert_eq!(closest("stringfy", ["parse", "stringify"]), Some("stringify"));
        assert_eq!(closest("pasre", ["parse", "stringify"]), Some("parse"));
        assert_eq!(closest("reidrect", ["redirect"]), Some("redirect"));
        assert_eq!(closest("delete", ["get", "set"]), None);
    }

    #[test]
    fn a_short_word_is_not_taken_for_another() {
        assert_eq!(closest("join", ["json"]), None);
        assert_eq!(closest("trim", ["time"]), None);
    }
}
