//! What the path of a file may be.

use unicode_normalization::is_nfc;

/// The longest path, in bytes of UTF-8.
const MAX_BYTES: usize = 512;
/// The longest part between two slashes, in bytes.
const MAX_SEGMENT_BYTES: usize = 255;

/// What the messages say is allowed.
const ALLOWED: &str = "allowed are segments of 1 to 255 bytes between /, 512 bytes in all, in Unicode NFC, without \\ and control \
     characters, and none of them . or ..";

/// Checks a path: relative, normalised, with nothing in it that a file system or a URL could take for more.
pub(crate) fn check_path(text: &str) -> Result<(), String> {
    problem_of(text).map_or(Ok(()), |problem| Err(format!("{problem}; {ALLOWED}")))
}

/// Checks a folder: a path with one slash at its end.
pub(crate) fn check_folder(text: &str) -> Result<(), String> {
    match text.strip_suffix('/') {
        Some(path) => check_path(path),
        None => Err("must end with /, as in static/".into()),
    }
}

fn problem_of(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("must not be empty".into());
    }
    if text.len() > MAX_BYTES {
        return Some(format!("is {} bytes long", text.len()));
    }
    if text.starts_with('/') {
        return Some("must not start with /".into());
    }
    if let Some(c) = text.chars().find(|c| c.is_control() || *c == '\\' || is_invisible_order(*c)) {
        return Some(format!("contains {c:?}"));
    }
    for segment in text.split('/') {
        match segment {
            "" => return Some("has an empty segment".into()),
            "." | ".." => return Some(format!("has the segment {segment}")),
            _ if segment.len() > MAX_SEGMENT_BYTES => {
                return Some(format!("has a segment of {} bytes", segment.len()));
            }
            _ => {}
        }
    }
    (!is_nfc(text)).then(|| "is not in NFC: a letter and its accent must be one character".into())
}

/// Characters that turn the order in which a name is shown, so that `gpj.exe` reads as another name.
const fn is_invisible_order(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::{FileFolder, FilePath};

    #[test]
    fn plain_paths_are_kept_as_they_are() {
        for good in
            ["a", "a/b.txt", "static/index.html", "é/ß", "a b", "...", "..a", ".hidden", "a:b", "%2e%2e"]
        {
            assert_eq!(FilePath::new(good).unwrap().as_str(), good);
        }
        assert_ne!(FilePath::new("A"), FilePath::new("a"), "case makes another file");
        assert!(FilePath::new(format!("{}/{}", "a".repeat(255), "b".repeat(255))).is_ok());
        assert_eq!(FileFolder::new("static/").unwrap().as_str(), "static/");
    }

    #[test]
    fn nothing_leads_out_and_the_error_says_what_is_allowed() {
        let long_segment = "a".repeat(256);
        let long = "abc/".repeat(128) + "a";
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "..",
            "../a",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "a/./b",
            "a\\b",
            "..\\c",
            "a\0",
            "a\nb",
            "a\u{7f}",
            "e\u{301}",
            "a\u{202e}b",
            &long_segment,
            &long,
        ] {
            let error = FilePath::new(bad).expect_err(bad).to_string();
            assert!(error.contains("allowed are segments of 1 to 255 bytes"), "{error}");
        }
        for bad in ["static", "/", "", "../", "static//", "/static/"] {
            assert!(FileFolder::new(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_no_way_out(text in any::<String>()) {
            if let Ok(path) = FilePath::new(text.clone()) {
                prop_assert_eq!(path.as_str(), text.as_str());
                let parts = std::path::Path::new(&text).components();
                for part in parts {
                    prop_assert!(matches!(part, std::path::Component::Normal(_)));
                }
                prop_assert!(!text.contains("//") && !text.ends_with('/'));
            }
        }
    }
}
