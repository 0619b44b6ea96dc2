//! Compressed forms of contents.

use std::io::{self, Write};

use bytes::Bytes;

/// A way to compress that clients understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// `br`.
    Brotli,
    /// `gzip`.
    Gzip,
}

/// Beyond this the last per cent costs many times the work.
const BROTLI_QUALITY: u32 = 6;
const BROTLI_WINDOW: u32 = 20;
const BUFFER: usize = 4096;

impl Compression {
    /// The name that `content-encoding` has for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Gzip => ".gz",
        }
    }

    pub(crate) fn compress(self, content: &[u8]) -> io::Result<Bytes> {
        let packed = Vec::with_capacity(content.len() / 3);
        let packed = match self {
            Self::Brotli => {
                let mut writer = brotli::CompressorWriter::new(packed, BUFFER, BROTLI_QUALITY, BROTLI_WINDOW);
                writer.write_all(content)?;
                writer.into_inner()
            }
            Self::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(packed, flate2::Compression::new(6));
                writer.write_all(content)?;
                writer.finish()?
            }
        };
        Ok(packed.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_compressed_comes_back() {
        let text = "a line of text that repeats\n".repeat(1_000);
        let packed = Compression::Gzip.compress(text.as_bytes()).unwrap();
        assert!(packed.len() < text.len() / 10);
        let mut back = String::new();
        flate2::read::GzDecoder::new(&*packed).read_to_string(&mut back).unwrap();
        assert_eq!(back, text);
        let packed = Compression::Brotli.compress(text.as_bytes()).unwrap();
        assert!(packed.len() < text.len() / 10);
        let mut back = String::new();
        brotli::Decompressor::new(&*packed, BUFFER).read_to_string(&mut back).unwrap();
        assert_eq!(back, text);
        assert!(!Compression::Brotli.compress(b"").unwrap().is_empty());
    }
}
