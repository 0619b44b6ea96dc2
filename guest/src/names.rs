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

/// The name among `known` that was probably meant: at most two edits away, or a third of a short name.
pub(crate) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = if name.len() < 4 { 1 } else { 2 };
    // A name of kilobytes is no misspelling of anything.
    let candidates = known.into_iter().filter(|k| name.len() <= 64 && k.len().abs_diff(name.len()) <= most);
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, by Wagner and Fischer's method with one row.
fn distance(a: &str, b: &str) -> usize {
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
        assert_eq!(closest("delete", ["get", "set"]), None);
    }
}
