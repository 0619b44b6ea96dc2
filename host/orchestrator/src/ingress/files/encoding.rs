//! Which compression a client prefers.

use http::{HeaderMap, header::ACCEPT_ENCODING};
use picloud_files::Compression;

/// The most entries that are looked at: no honest client has as many.
const MOST_ENTRIES: usize = 32;

/// The best compression that the client accepts, if it accepts one.
pub(super) fn preferred(headers: &HeaderMap) -> Option<Compression> {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let (mut brotli, mut gzip, mut any) = (None, None, None);
    for entry in values.flat_map(|value| value.split(',')).take(MOST_ENTRIES) {
        let mut parts = entry.split(';');
        let name = parts.next().unwrap_or_default().trim();
        let weight = parts.find_map(|part| part.trim().strip_prefix("q=")).map_or(Some(1.0), weight);
        let Some(weight) = weight else { continue };
        match name.to_ascii_lowercase().as_str() {
            "br" => brotli = Some(weight),
            "gzip" | "x-gzip" => gzip = Some(weight),
            "*" => any = Some(weight),
            _ => {}
        }
    }
    let of = |named: Option<f32>| named.or(any).unwrap_or(0.0);
    let (brotli, gzip) = (of(brotli), of(gzip));
    if brotli > 0.0 && brotli >= gzip {
        Some(Compression::Brotli)
    } else if gzip > 0.0 {
        Some(Compression::Gzip)
    } else {
        None
    }
}

fn weight(text: &str) -> Option<f32> {
    text.trim().parse().ok().filter(|weight| (0.0..=1.0).contains(weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses() {
        let cases = [
            ("", None),
            ("identity", None),
            ("gzip", Some(Compression::Gzip)),
            ("gzip, deflate, br, zstd", Some(Compression::Brotli)),
            ("GZIP;q=1.0, br;q=0.5", Some(Compression::Gzip)),
            ("br;q=0, gzip", Some(Compression::Gzip)),
            ("br;q=0, gzip;q=0", None),
            ("*", Some(Compression::Brotli)),
            ("*;q=0", None),
            ("br;q=nan, gzip;q=7", None),
            ("gzip;q=", None),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(preferred(&headers), expected, "{value}");
        }
        assert_eq!(preferred(&HeaderMap::new()), None);
    }
}
