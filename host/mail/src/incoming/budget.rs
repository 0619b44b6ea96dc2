//! How much of a mail fits into its event.

use std::collections::BTreeSet;

/// Bytes of JSON that are left, and the names of what was cut for want of them.
pub(super) struct Budget {
    left: usize,
    truncated: BTreeSet<&'static str>,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { left: bytes, truncated: BTreeSet::new() }
    }

    /// As much of `text` as there is room for, with what cannot be stored replaced.
    pub(super) fn take(&mut self, name: &'static str, text: &str) -> String {
        let mut taken = String::new();
        for character in text.chars() {
            let cost = cost(character);
            if cost > self.left {
                self.truncated.insert(name);
                break;
            }
            self.left -= cost;
            taken.push(storable(character));
        }
        taken
    }

    /// Room for something whole, or a note that there is none.
    pub(super) fn room(&mut self, name: &'static str, bytes: usize) -> bool {
        let has_room = bytes <= self.left;
        if has_room {
            self.left -= bytes;
        } else {
            self.truncated.insert(name);
        }
        has_room
    }

    /// Sets up to so many bytes aside, to be released later.
    pub(super) fn reserve(&mut self, bytes: usize) -> usize {
        let reserved = bytes.min(self.left);
        self.left -= reserved;
        reserved
    }

    /// Makes bytes that were set aside usable.
    pub(super) fn release(&mut self, reserved: usize) {
        self.left += reserved;
    }

    /// Notes that something was left out.
    pub(super) fn cut(&mut self, name: &'static str) {
        self.truncated.insert(name);
    }

    /// The names of what was cut or left out.
    pub(super) fn truncated(self) -> Vec<&'static str> {
        self.truncated.into_iter().collect()
    }
}

/// `text` with what cannot be stored replaced.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(storable).collect()
}

fn storable(character: char) -> char {
    if character == '\0' { char::REPLACEMENT_CHARACTER } else { character }
}

/// Bytes in JSON.
fn cost(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_fits_as_json() {
        let mut budget = Budget::new(20);
        let taken = budget.take("text", "a\"\u{1}é\0\n1234567890");
        assert_eq!(taken, "a\"\u{1}é\u{fffd}\n1");
        assert!(serde_json::to_string(&taken).unwrap().len() <= 20 + 2);
        assert!(!budget.room("attachments", 1_000));
        assert_eq!(budget.truncated(), ["attachments", "text"]);
    }
}
