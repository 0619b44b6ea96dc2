//! Numbers as people write and read them: sizes with KiB, MiB and GiB, times with ms, s, min and h.

/// Units of sizes, in bytes, the largest first.
const SIZES: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Units of times, in milliseconds, the largest first.
const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];

/// A number of bytes, or of KiB, MiB or GiB.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

/// A number of milliseconds, or with ms, s, min or h.
pub(crate) fn parse_millis(text: &str) -> Option<u64> {
    parse(text, &TIMES)
}

/// A whole number; `_` may separate its digits.
pub(crate) fn parse_count(text: &str) -> Option<u64> {
    parse(text, &[])
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[number.len()..].trim();
    let unit = if unit.is_empty() {
        Some(1)
    } else {
        units.iter().find(|(name, _)| *name == unit).map(|(_, unit)| *unit)
    };
    let digits: String = number.chars().filter(|c| *c != '_').collect();
    digits.parse::<u64>().ok()?.checked_mul(unit?)
}

/// A size: exact where it is a whole number of its unit, else with one decimal.
pub(crate) fn show_bytes(bytes: u64) -> String {
    match SIZES.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) if bytes.is_multiple_of(*unit) => format!("{} {name}", show_count(bytes / unit)),
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// A size with the largest unit that shows it exactly.
pub(crate) fn exact_bytes(bytes: u64) -> String {
    exact(bytes, &SIZES, "")
}

/// A time with the largest unit that shows it exactly.
pub(crate) fn exact_millis(millis: u64) -> String {
    exact(millis, &TIMES, " ms")
}

fn exact(number: u64, units: &[(&str, u64)], base: &str) -> String {
    match units.iter().find(|(_, unit)| number >= *unit && number.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{} {name}", number / unit),
        None => format!("{number}{base}"),
    }
}

/// A time of an invocation.
pub(crate) fn show_millis(millis: f64) -> String {
    if millis < 1000.0 { format!("{millis:.2} ms") } else { format!("{:.2} s", millis / 1000.0) }
}

/// A whole number with its thousands apart: `12,628`.
pub(crate) fn show_count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_their_units() {
        assert_eq!(parse_bytes("8MiB"), Some(8 << 20));
        assert_eq!(parse_bytes(" 2 GiB "), Some(2 << 30));
        assert_eq!(parse_bytes("1_024"), Some(1024));
        assert_eq!(parse_millis("2s"), Some(2000));
        assert_eq!(parse_millis("1h"), Some(3_600_000));
        assert_eq!(parse_millis("250 ms"), Some(250));
        assert_eq!(parse_count("50_000_000"), Some(50_000_000));
        for bad in ["", "MiB", "-1", "1.5MiB", "1MB", "1 s", "18446744073709551615GiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
        assert_eq!(parse_count("8MiB"), None);
    }

    #[test]
    fn numbers_are_shown_to_be_read() {
        let shown = [0, 1023, 1 << 10, 1 << 20, (1 << 20) * 3 / 2, 1 << 40].map(show_bytes);
        assert_eq!(shown, ["0 bytes", "1023 bytes", "1 KiB", "1 MiB", "1.5 MiB", "1,024 GiB"]);
        assert_eq!([0.254, 999.0, 1500.0].map(show_millis), ["0.25 ms", "999.00 ms", "1.50 s"]);
        assert_eq!(
            [0, 999, 1000, 12_628, 500_000_000].map(show_count),
            ["0", "999", "1,000", "12,628", "500,000,000"]
        );
    }
}
