//! Which name may be meant where there is none of the one that was given.

/// The least likeness of a name to be proposed (Jaro-Winkler, 0 to 1).
const LIKE: f64 = 0.85;

/// The candidate whose `key` is most like `name`, if one is like enough.
pub(crate) fn nearest<T>(
    name: &str,
    candidates: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> &str,
) -> Option<T> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, key(&candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_like_name_is_proposed() {
        let near = |name: &str| nearest(name, ["demo", "hello", "users"], |candidate| candidate);
        assert_eq!(near("helo"), Some("hello"));
        assert_eq!(near("demos"), Some("demo"));
        assert_eq!(near("xyz"), None);
    }
}
