//! A look at the raw head of an HTTP/1 request, for what the parser tidies away.
//!
//! hyper follows RFC 9112 in taking `Transfer-Encoding` over `Content-Length` and dropping the latter, and in
//! joining equal `Content-Length` lines. A proxy in front may see it differently, which is how requests are
//! smuggled, so that this server refuses both. The parsed request no longer shows it.

const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";
const CONTENT_LENGTH: &[u8] = b"content-length";
/// The parser's own bound.
const MAX_HEADERS: u32 = 100;
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// As much of a line's beginning as tells the headers above, their colon included.
const START: usize = TRANSFER_ENCODING.len() + 1;

/// Scans one head, in whatever pieces it comes.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    start: [u8; START],
    len: usize,
    lines: u32,
    lengths: u32,
    encodings: u32,
    is_preface: bool,
    is_done: bool,
}

impl HeadScan {
    /// Takes the next bytes of the connection. What follows the head is not looked at.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !self.is_done && !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let line = &bytes[..end.unwrap_or(bytes.len())];
            let room = (START - self.len).min(line.len());
            self.start[self.len..self.len + room].copy_from_slice(&line[..room]);
            self.len += room;
            let Some(end) = end else { return };
            self.end_of_line();
            bytes = &bytes[end + 1..];
        }
    }

    fn end_of_line(&mut self) {
        let line = &self.start[..self.len];
        if matches!(line, b"" | b"\r") {
            // Empty lines before the request line are allowed and skipped.
            self.is_done = self.lines > 0;
        } else {
            if is_header(line, CONTENT_LENGTH) {
                self.lengths += 1;
            } else if is_header(line, TRANSFER_ENCODING) {
                self.encodings += 1;
            } else if self.lines == 0 {
                self.is_preface = line.starts_with(PREFACE);
            }
            self.lines += 1;
        }
        self.len = 0;
    }

    /// Whether different readers of this head could disagree about where its body ends.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.lengths > 1 || self.encodings > 1 || (self.lengths > 0 && self.encodings > 0)
    }

    /// Whether the head is whole, within the bounds of a head, and says how long its body is: whatever the parser
    /// finds too large in it is that length.
    pub(crate) fn has_only_a_large_body(&self) -> bool {
        self.is_done && self.lengths > 0 && self.lines <= 1 + MAX_HEADERS
    }

    /// Whether the whole head has been seen.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether this is the preface of an HTTP/2 connection rather than a head.
    pub(crate) fn is_http2(&self) -> bool {
        self.is_preface
    }
}

fn is_header(line: &[u8], name: &[u8]) -> bool {
    line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(head: &str, piece: usize) -> HeadScan {
        let mut scan = HeadScan::default();
        head.as_bytes().chunks(piece).for_each(|piece| scan.feed(piece));
        scan
    }

    #[test]
    fn ambiguous_framing_is_seen_in_whatever_pieces_it_comes() {
        let cases = [
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", false),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("POST / HTTP/1.1\nTRANSFER-ENCODING: chunked\nx: y\ncontent-length: 1\n\n", true),
            ("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", true),
            ("POST / HTTP/1.1\r\ncontent-lengthy: 1\r\ncontent-length: 1\r\n\r\n", false),
            ("\r\nPOST / HTTP/1.1\r\ncontent-length: 9\r\n\r\ncontent-length: 1\r\n", false),
        ];
        for (head, is_ambiguous) in cases {
            for piece in [1, 2, 7, 1000] {
                assert_eq!(scan(head, piece).is_ambiguous(), is_ambiguous, "{head:?} by {piece}");
                assert!(!scan(head, piece).is_http2());
            }
        }
    }

    #[test]
    fn a_whole_head_with_a_length_is_not_too_large_itself() {
        let fields = |count: usize| "a: b\r\n".repeat(count);
        let head = |fields: &str| format!("POST / HTTP/1.1\r\nContent-Length: 9\r\n{fields}\r\n");
        assert!(scan(&head(&fields(99)), 7).has_only_a_large_body());
        assert!(!scan(&head(&fields(100)), 7).has_only_a_large_body());
        assert!(!scan(&format!("GET / HTTP/1.1\r\n{}\r\n", fields(9)), 7).has_only_a_large_body());
        assert!(!scan("POST / HTTP/1.1\r\nContent-Length: 9\r\n", 7).has_only_a_large_body());
    }

    #[test]
    fn the_preface_of_http_2_is_told() {
        for piece in [1, 5, 100] {
            assert!(scan("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", piece).is_http2());
        }
    }
}
