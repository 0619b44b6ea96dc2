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

/// The value of `Content-Length`, as far as it has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Length {
    /// Nothing but blanks.
    #[default]
    Blank,
    /// A number.
    Number(u64),
    /// A number that 64 bits cannot hold.
    Beyond,
    /// No number.
    Other,
}

impl Length {
    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            *self = match (*self, byte) {
                (Self::Blank, b' ' | b'\t') => Self::Blank,
                (Self::Blank, b'0'..=b'9') => Self::Number(u64::from(byte - b'0')),
                (Self::Number(number), b'0'..=b'9') => {
                    let longer =
                        number.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(byte - b'0')));
                    longer.map_or(Self::Beyond, Self::Number)
                }
                (Self::Beyond, b'0'..=b'9') => Self::Beyond,
                // The line's end.
                (length, b'\r') => length,
                _ => Self::Other,
            };
        }
    }
}

/// Scans one head, in whatever pieces it comes.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    start: [u8; START],
    len: usize,
    /// How much of the line has been seen.
    seen: usize,
    length: Length,
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
            if is_header(&self.start[..self.len], CONTENT_LENGTH) {
                self.length
                    .feed(&line[(CONTENT_LENGTH.len() + 1).saturating_sub(self.seen).min(line.len())..]);
            }
            self.seen += line.len();
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
        (self.len, self.seen) = (0, 0);
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

    /// Whether its body is announced by a number of more than 64 bits, which the parser does not take for a number.
    pub(crate) fn has_a_length_beyond_64_bits(&self) -> bool {
        self.has_only_a_large_body() && !self.is_ambiguous() && self.length == Length::Beyond
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
    fn a_length_beyond_64_bits_is_told_from_what_is_no_number() {
        let scanned = |value: &str, piece: usize| {
            let head = format!("POST / HTTP/1.1\r\na: b\r\nContent-Length:{value}\r\nc: 9\r\n\r\n");
            scan(&head, piece).has_a_length_beyond_64_bits()
        };
        for piece in [1, 2, 7, 1000] {
            for beyond in [format!(" {}0", u64::MAX), "9".repeat(100), "\t18446744073709551616".to_owned()] {
                assert!(scanned(&beyond, piece), "{beyond} by {piece}");
            }
            for other in
                [" 1", "", &u64::MAX.to_string(), "-1", "99999999999999999999x", "1 99999999999999999999"]
            {
                assert!(!scanned(other, piece), "{other} by {piece}");
            }
        }
        let twice = format!("POST / HTTP/1.1\r\n{0}{0}\r\n", "content-length: 99999999999999999999\r\n");
        assert!(!scan(&twice, 7).has_a_length_beyond_64_bits());
    }

    #[test]
    fn the_preface_of_http_2_is_told() {
        for piece in [1, 5, 100] {
            assert!(scan("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", piece).is_http2());
        }
    }
}
