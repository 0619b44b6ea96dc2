//! Keys by id, the newest last, and their text form: a line a key, `ID HEXADECIMAL`.

use std::fmt::Write as _;

use picloud_core::SecretKeyId;
use zeroize::Zeroizing;

/// A key in clear.
pub(crate) type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

const KEY_BYTES: usize = 32;

const HEADING: &str = "\
# Keys that PiCloud's secrets are encrypted with; the last one is in use. Whoever has them and the database can read
# every secret. Without them no secret can be read: keep a copy, apart from those of the database.
";

/// The keys of a file; never empty where it was read or written.
#[derive(Default)]
pub(crate) struct KeyRing(Vec<(SecretKeyId, KeyBytes)>);

impl KeyRing {
    /// The key of this id.
    pub(crate) fn get(&self, id: &SecretKeyId) -> Option<&KeyBytes> {
        self.0.iter().find(|(known, _)| known == id).map(|(_, key)| key)
    }

    /// The key that is in use.
    pub(crate) fn newest(&self) -> (&SecretKeyId, &KeyBytes) {
        let (id, key) = self.0.last().unwrap_or_else(|| unreachable!("a ring has at least one key"));
        (id, key)
    }

    /// The ids, the newest last.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &SecretKeyId> {
        self.0.iter().map(|(id, _)| id)
    }

    /// Adds a key of the operating system's randomness, which is the newest from now on.
    pub(crate) fn add_new(&mut self) -> Result<SecretKeyId, getrandom::Error> {
        let (mut id, mut key) = ([0; 8], KeyBytes::default());
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut *key)?;
        let id = SecretKeyId::from_random(id);
        self.0.push((id.clone(), key));
        Ok(id)
    }

    /// Keeps only those keys.
    pub(crate) fn retain(&mut self, keep: impl Fn(&SecretKeyId) -> bool) {
        self.0.retain(|(id, _)| keep(id));
    }

    /// Reads the text form; the error is a line's number and what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut ring = Self::default();
        let lines = (1..).zip(text.lines().map(str::trim));
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let (id, key) = line.split_once(' ').ok_or((number, "a line is the id of a key and the key"))?;
            let id: SecretKeyId = id.parse().map_err(|problem| (number, problem))?;
            let key = from_hex(key.trim()).ok_or((number, "a key is 64 hexadecimal digits"))?;
            if ring.get(&id).is_some() {
                return Err((number, "the id of this key is that of another one"));
            }
            ring.0.push((id, key));
        }
        if ring.0.is_empty() {
            return Err((text.lines().count().max(1), "the file has no key"));
        }
        Ok(ring)
    }

    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let line_bytes = SecretKeyId::from_random([0; 8]).as_str().len() + 2 * KEY_BYTES + 2;
        // Text that grows would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(HEADING.len() + self.0.len() * line_bytes));
        text.push_str(HEADING);
        for (id, key) in &self.0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "{id} ");
            for byte in key.iter() {
                let _ = write!(text, "{byte:02x}");
            }
            text.push('\n');
        }
        text
    }
}

fn from_hex(text: &str) -> Option<KeyBytes> {
    let digits = text.as_bytes();
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut key = KeyBytes::default();
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(key)
}
