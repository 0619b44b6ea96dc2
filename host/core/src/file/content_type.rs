//! Media types of files.

use crate::ContentType;

/// The longest type, in bytes.
const MAX_BYTES: usize = 255;

/// Types by the extension of a file's name, in lower case and in order.
const TYPES: &[(&str, &str)] = &[
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("m4a", "audio/mp4"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("ndjson", "application/x-ndjson"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("rss", "application/rss+xml"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("toml", "application/toml"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
];

/// The type that the name of a file tells; `application/octet-stream` where it tells none.
pub fn content_type_of(path: &str) -> ContentType {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    let found = TYPES.binary_search_by(|(known, _)| (*known).cmp(&extension));
    let text = found.map_or("application/octet-stream", |at| TYPES[at].1);
    ContentType::known(text)
}

/// `type/subtype` of RFC 9110, and parameters of visible characters: nothing that could end a header.
pub(crate) fn check_type(text: &str) -> Result<(), String> {
    let allowed = "allowed is type/subtype, as in text/plain; charset=utf-8, in at most 255 bytes of ASCII";
    let is_token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let has_form = essence.split_once('/').is_some_and(|(kind, sub)| is_token(kind) && is_token(sub));
    // A comma would make a list of it, in which each reader takes another one.
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',');
    if has_form && is_plain && text.len() <= MAX_BYTES {
        Ok(())
    } else {
        Err(format!("{text:?} is not one; {allowed}"))
    }
}

impl ContentType {
    /// A type of the table.
    fn known(text: &'static str) -> Self {
        Self::new(text).unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// The type without its parameters, in lower case.
    pub fn essence(&self) -> String {
        self.as_str().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Whether it is a page that a browser runs scripts of.
    pub fn is_page(&self) -> bool {
        matches!(self.essence().as_str(), "text/html" | "application/xhtml+xml" | "image/svg+xml")
            || self.essence().ends_with("/xml")
            || self.essence().ends_with("+xml")
    }

    /// Whether such contents become much smaller when they are compressed.
    pub fn is_compressible(&self) -> bool {
        let essence = self.essence();
        essence.starts_with("text/")
            || essence.ends_with("+json")
            || essence.ends_with("+xml")
            || matches!(
                essence.as_str(),
                "application/json"
                    | "application/javascript"
                    | "application/xml"
                    | "application/wasm"
                    | "application/toml"
                    | "application/yaml"
                    | "application/x-ndjson"
                    | "application/x-tar"
                    | "font/otf"
                    | "font/ttf"
                    | "image/bmp"
                    | "image/vnd.microsoft.icon"
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_all_of_it_are_types() {
        assert!(TYPES.is_sorted_by(|a, b| a.0 < b.0));
        for (extension, text) in TYPES {
            assert_eq!(content_type_of(&format!("x/y.{extension}")).as_str(), *text);
        }
    }

    #[test]
    fn names_tell_types() {
        assert_eq!(content_type_of("A.HTML").as_str(), "text/html; charset=utf-8");
        assert_eq!(content_type_of("a.tar.gz").as_str(), "application/gzip");
        for unknown in ["a", "html", "a.html/b", "a.", "a.xyz"] {
            assert_eq!(content_type_of(unknown).as_str(), "application/octet-stream", "{unknown}");
        }
    }

    #[test]
    fn a_type_cannot_end_its_header_or_be_a_list() {
        for good in ["text/html", "text/plain; charset=utf-8", "image/svg+xml", "a/b;c=\"d e\""] {
            assert!(ContentType::new(good).is_ok(), "{good}");
        }
        let long = format!("a/{}", "b".repeat(254));
        for bad in [
            "",
            "text",
            "text/",
            "/html",
            "text/html\r\nset-cookie: a=b",
            "text/html\n",
            "text/é",
            "a/b\0",
            "text/plain, text/html",
            "te xt/html",
            " text/html",
            &long,
        ] {
            assert!(ContentType::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn pages_and_texts_are_known() {
        let of = |text: &str| ContentType::new(text).unwrap();
        assert!(of("Text/HTML ;x=y").is_page() && of("image/svg+xml").is_page() && of("text/xml").is_page());
        assert!(!of("text/plain").is_page());
        assert!(of("text/css").is_compressible() && of("application/json; a=b").is_compressible());
        assert!(!of("image/png").is_compressible() && !of("application/zip").is_compressible());
    }
}
