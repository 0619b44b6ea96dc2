//! What a request makes depend on what the client has: `If-None-Match`, `If-Modified-Since`, `Range`, `If-Range`.

use http::{
    HeaderMap, HeaderValue,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE},
};
use picloud_core::FileHash;
use picloud_files::Compression;
use time::OffsetDateTime;

/// A strong entity tag: the content's hash, and how it is compressed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tag(String);

impl Tag {
    pub(super) fn of(hash: &FileHash, compression: Option<Compression>) -> Self {
        match compression {
            None => Self(format!("\"{hash}\"")),
            Some(compression) => Self(format!("\"{hash}-{}\"", compression.as_str())),
        }
    }

    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("\"\""))
    }
}

/// The file as it is.
pub(super) struct Conditions<'a> {
    pub(super) tag: &'a Tag,
    pub(super) modified: OffsetDateTime,
    pub(super) size: u64,
}

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it.
    Whole,
    /// The bytes from `from` to before `to`.
    Part { from: u64, to: u64 },
    /// Nothing: the client has it.
    Nothing,
    /// A part that is not in the file.
    Outside,
}

impl Conditions<'_> {
    /// What the headers of a GET or HEAD ask for.
    pub(super) fn check(&self, headers: &HeaderMap) -> Asked {
        if self.is_known(headers) {
            return Asked::Nothing;
        }
        match headers.get(RANGE) {
            Some(range) if self.may_be_a_part(headers) => self.part(range),
            _ => Asked::Whole,
        }
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let mut tags = headers.get_all(IF_NONE_MATCH).iter().peekable();
        if tags.peek().is_some() {
            // Weakly compared, as RFC 9110 has it. The date does not count then.
            return tags.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
                |tag| {
                    let tag = tag.trim();
                    tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.tag.0
                },
            );
        }
        let since = headers.get(IF_MODIFIED_SINCE).and_then(date);
        since.is_some_and(|since| self.modified.unix_timestamp() <= since)
    }

    /// Whether `If-Range` is met: its tag is this, or its date exactly when the file was written.
    fn may_be_a_part(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(IF_RANGE) else { return true };
        value == self.tag.0.as_str() || date(value) == Some(self.modified.unix_timestamp())
    }

    /// One range of bytes. Several, and what is no range, are answered with the whole, as any server may.
    fn part(&self, range: &HeaderValue) -> Asked {
        let spec = range.to_str().ok().and_then(|text| text.trim().strip_prefix("bytes="));
        let Some((first, last)) =
            spec.filter(|spec| !spec.contains(',')).and_then(|spec| spec.split_once('-'))
        else {
            return Asked::Whole;
        };
        match (number(first), number(last)) {
            (Some(Number::At(from)), Some(last)) => {
                let end = match last {
                    Number::At(last) if last < from => return Asked::Whole,
                    Number::At(last) => last.saturating_add(1).min(self.size),
                    Number::None => self.size,
                };
                if from < self.size { Asked::Part { from, to: end } } else { Asked::Outside }
            }
            (Some(Number::None), Some(Number::At(suffix))) => {
                let from = self.size.saturating_sub(suffix);
                if from < self.size { Asked::Part { from, to: self.size } } else { Asked::Outside }
            }
            _ => Asked::Whole,
        }
    }
}

enum Number {
    At(u64),
    None,
}

/// A number of a range, which may be left out. One that is larger than any file is as large as a number can be.
fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Number::None);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Number::At(text.parse().unwrap_or(u64::MAX)))
}

/// Seconds since the Unix epoch of a date of HTTP.
fn date(value: &HeaderValue) -> Option<i64> {
    let time = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    let seconds = time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(seconds).ok()
}

/// A time as HTTP writes it; `None` where it cannot.
pub(super) fn http_date(time: OffsetDateTime) -> Option<HeaderValue> {
    let seconds = u64::try_from(time.unix_timestamp()).ok()?;
    // The year 9999 is the last that the form has room for.
    if time.year() > 9999 {
        return None;
    }
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    HeaderValue::from_str(&httpdate::fmt_http_date(time)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 100;

    fn check(given: &[(&'static str, &str)]) -> Asked {
        let tag = Tag::of(&FileHash::of(b"x"), None);
        let modified = OffsetDateTime::from_unix_timestamp(1_000_000_000).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Conditions { tag: &tag, modified, size: SIZE }.check(&headers)
    }

    fn range(value: &str) -> Asked {
        check(&[("range", value)])
    }

    #[test]
    fn one_range_is_a_part_of_the_file() {
        let part = |from, to| Asked::Part { from, to };
        let cases = [
            ("bytes=0-9", part(0, 10)),
            ("bytes=90-", part(90, 100)),
            ("bytes=90-1000", part(90, 100)),
            ("bytes=-10", part(90, 100)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=99-99", part(99, 100)),
            ("bytes=0-18446744073709551615", part(0, 100)),
            ("bytes=0-99999999999999999999999999", part(0, 100)),
            ("bytes=100-", Asked::Outside),
            ("bytes=99999999999999999999999999-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=9-1", Asked::Whole),
            ("bytes=0-1,2-3", Asked::Whole),
            ("bytes=", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("lines=0-1", Asked::Whole),
        ];
        for (value, expected) in cases {
            assert_eq!(range(value), expected, "{value}");
        }
        let many = format!("bytes={}", vec!["0-0"; 10_000].join(","));
        assert_eq!(range(&many), Asked::Whole);
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let tag = Tag::of(&FileHash::of(b"x"), None).0;
        let other = Tag::of(&FileHash::of(b"x"), Some(Compression::Gzip)).0;
        assert_eq!(check(&[("if-none-match", &tag)]), Asked::Nothing);
        assert_eq!(check(&[("if-none-match", &format!("\"a\", W/{tag}"))]), Asked::Nothing);
        assert_eq!(check(&[("if-none-match", "*")]), Asked::Nothing);
        assert_eq!(check(&[("if-none-match", &other)]), Asked::Whole);
        let (then, before) = ("Sun, 09 Sep 2001 01:46:40 GMT", "Sun, 09 Sep 2001 01:46:39 GMT");
        assert_eq!(check(&[("if-modified-since", then)]), Asked::Nothing);
        assert_eq!(check(&[("if-modified-since", before)]), Asked::Whole);
        assert_eq!(check(&[("if-none-match", "\"a\""), ("if-modified-since", then)]), Asked::Whole);
        assert_eq!(check(&[("if-modified-since", "yesterday")]), Asked::Whole);
        let part = Asked::Part { from: 1, to: 2 };
        assert_eq!(check(&[("range", "bytes=1-1"), ("if-range", &tag)]), part);
        assert_eq!(check(&[("range", "bytes=1-1"), ("if-range", then)]), part);
        assert_eq!(check(&[("range", "bytes=1-1"), ("if-range", &other)]), Asked::Whole);
        assert_eq!(check(&[("range", "bytes=1-1"), ("if-range", &format!("W/{tag}"))]), Asked::Whole);
        assert_eq!(check(&[("range", "bytes=1-1"), ("if-range", before)]), Asked::Whole);
    }

    #[test]
    fn dates_are_those_of_http() {
        let time = OffsetDateTime::from_unix_timestamp(1_000_000_000).unwrap();
        assert_eq!(http_date(time).unwrap(), "Sun, 09 Sep 2001 01:46:40 GMT");
        assert_eq!(http_date(OffsetDateTime::from_unix_timestamp(-1).unwrap()), None);
    }

    proptest! {
        #[test]
        fn no_range_reaches_outside(value in "bytes=[0-9]{0,22}-[0-9]{0,22}|[ -~]{0,40}") {
            if let Asked::Part { from, to } = range(&value) {
                prop_assert!(from < to && to <= SIZE);
            }
        }
    }
}
