//! Names for users that are made when they sign in for the first time.

use picloud_core::PrincipalName;

/// The longest name that is made, so that there is room for a number behind it.
const LONGEST: usize = 60;

/// How many numbers are tried behind the name.
const NUMBERS: std::ops::RangeInclusive<u32> = 2..=20;

/// Names for whoever has this address, the best one first: what is before the `@`, the whole of it, and the first with
/// numbers.
pub(super) fn names_for(email: &str) -> Vec<PrincipalName> {
    let local = email.split('@').next().unwrap_or_default();
    let short = allowed(local);
    let numbered = NUMBERS.map(|number| format!("{short}-{number}"));
    let texts = [short.clone(), allowed(email)].into_iter().chain(numbered);
    texts.filter_map(|text| PrincipalName::new(text).ok()).collect()
}

fn allowed(text: &str) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '_' | '.' | '@' | '-') => c,
        _ => '-',
    };
    text.chars().take(LONGEST).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_the_address() {
        let names = |email: &str| -> Vec<String> {
            names_for(email).iter().take(3).map(ToString::to_string).collect()
        };
        assert_eq!(names("ada@example.org"), ["ada", "ada@example.org", "ada-2"]);
        assert_eq!(names("ada+x'y@example.org"), ["ada-x-y", "ada-x-y@example.org", "ada-x-y-2"]);
        let id = "0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b";
        assert_eq!(names(&format!("{id}@e.org"))[0], format!("{id}@e.org"), "a name is no id");
        assert!(names_for(&format!("{}@example.org", "x".repeat(200))).len() > 2);
    }
}
