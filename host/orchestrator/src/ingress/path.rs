//! The path of a request, decoded segment by segment.

use std::borrow::Cow;

use picloud_core::ErrorCode;
use picloud_edge::Problem;

/// A decoded path. `//` and a trailing slash make empty segments, which are as good as any other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path<'a> {
    /// What stands between the slashes. An encoded slash stays inside its segment.
    pub(super) segments: Vec<Cow<'a, str>>,
}

impl<'a> Path<'a> {
    /// Decodes `raw`, which starts with a slash.
    ///
    /// Refused are malformed percent-encoding, what is not UTF-8 when decoded, U+0000, and `.` and `..`, which
    /// a client resolves before it sends them unless it means to confuse.
    pub(super) fn parse(raw: &'a str) -> Result<Self, Problem> {
        let raw = raw.strip_prefix('/').ok_or_else(|| wrong("the path must start with /"))?;
        let mut segments = Vec::with_capacity(8);
        for segment in raw.split('/') {
            let segment = decode(segment)?;
            if matches!(&*segment, "." | "..") {
                return Err(wrong("the path has a segment that is . or .."));
            }
            segments.push(segment);
        }
        Ok(Self { segments })
    }

    /// The whole path, decoded, starting with a slash.
    pub(super) fn text(&self) -> String {
        let length = self.segments.iter().map(|segment| segment.len() + 1).sum();
        let mut text = String::with_capacity(length);
        for segment in &self.segments {
            text.push('/');
            text.push_str(segment);
        }
        text
    }
}

fn decode(segment: &str) -> Result<Cow<'_, str>, Problem> {
    if !segment.contains(['%', '\0']) {
        return Ok(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let digits = rest.next().and_then(hex).zip(rest.next().and_then(hex));
            let (high, low) =
                digits.ok_or_else(|| wrong("the path has a % without two hexadecimal digits"))?;
            high << 4 | low
        } else {
            byte
        };
        if byte == 0 {
            return Err(wrong("the path contains U+0000"));
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| wrong("the path is not UTF-8 when it is decoded"))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn wrong(detail: &'static str) -> Problem {
    Problem::new(ErrorCode::BadRequest).detail(detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments(raw: &str) -> Result<Vec<String>, String> {
        let path = Path::parse(raw).map_err(|problem| problem.text().to_owned())?;
        Ok(path.segments.into_iter().map(Cow::into_owned).collect())
    }

    #[test]
    fn segments_are_decoded_once_and_on_their_own() {
        let cases: [(&str, &[&str]); 7] = [
            ("/", &[""]),
            ("/a/b", &["a", "b"]),
            ("//a/", &["", "a", ""]),
            ("/a%2Fb/c", &["a/b", "c"]),
            ("/%252f", &["%2f"]),
            ("/%C3%A9", &["é"]),
            ("/a+b", &["a+b"]),
        ];
        for (raw, expected) in cases {
            assert_eq!(segments(raw).unwrap(), expected, "{raw}");
        }
        assert_eq!(Path::parse("/a%2Fb/c").unwrap().text(), "/a/b/c");
    }

    #[test]
    fn what_is_not_a_path_is_refused() {
        for raw in [
            "",
            "*",
            "a",
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/%00",
            "/%ff",
            "/a/../b",
            "/%2e%2E/a",
            "/.",
            "/a/%2e",
        ] {
            assert!(segments(raw).is_err(), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_being_encoded(text in "[^\0]{1,20}") {
            prop_assume!(text != "." && text != "..");
            let encoded = text.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02x}"));
            prop_assert_eq!(segments(&format!("/{encoded}")).unwrap(), [text]);
        }

        #[test]
        fn no_input_panics(raw in any::<String>()) {
            let _ = segments(&raw);
        }
    }
}
