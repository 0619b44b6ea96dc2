//! Masks secrets in text that people will read: logs and errors.
//!
//! An invocation's mask knows the values that it was given, in the forms in which scripts write them ([`forms`]). The
//! search takes time in proportion to the text, whatever the values are: the first bytes of all forms are one automaton
//! of Aho and Corasick, and a form that is longer is looked for only in a text that has its beginning.

mod forms;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, OnceLock},
};

use aho_corasick::{AhoCorasick, MatchKind};
use zeroize::Zeroizing;

use crate::{Fault, LogLine, Logs, SecretName, SecretValue};

/// Shorter values are not masked: they would be found in text that has nothing to do with them.
const LEAST_BYTES: usize = 8;

/// How much of each form is in the automaton, which would be of megabytes otherwise.
const HEAD_BYTES: usize = 64;

/// In a text that was cut, the beginning of a value may be all that is left of it: from this length on it is masked.
const LEAST_CUT_BYTES: usize = 4;

/// Messages and source lines of this length may have been cut by the interpreter (guest/src/limits.rs).
const CUT_MESSAGE_BYTES: usize = 4 << 10;
const CUT_SOURCE_LINE_CHARS: usize = 200;

/// Masks the secrets that one invocation was given; nothing, if it was given none.
#[derive(Clone, Default)]
pub struct SecretMask(Option<Arc<Masker>>);

struct Masker {
    patterns: Vec<Pattern>,
    /// Built when the first text is masked: most runs log nothing and do not fail, and building it takes longer than they do.
    search: OnceLock<Search>,
}

/// What finds patterns in a text.
struct Search {
    /// `None`: it would be too large, which takes billions of states. Then each pattern is looked for by itself.
    heads: Option<AhoCorasick>,
    /// The patterns that begin with each head.
    by_head: Vec<Vec<usize>>,
}

struct Pattern {
    bytes: Zeroizing<Vec<u8>>,
    mark: Arc<str>,
}

/// A part of a text that is to be replaced.
#[derive(Clone)]
struct Span {
    start: usize,
    end: usize,
    mark: Arc<str>,
}

impl fmt::Debug for SecretMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretMask(..)")
    }
}

impl SecretMask {
    /// A mask for these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a SecretName, &'a SecretValue)>) -> Self {
        let mut patterns = Vec::new();
        for (name, value) in secrets {
            if value.expose().len() < LEAST_BYTES {
                continue;
            }
            let mark: Arc<str> = format!("[secret {name}]").into();
            for bytes in forms::of(value.expose()) {
                patterns.push(Pattern { bytes, mark: Arc::clone(&mark) });
            }
        }
        if patterns.is_empty() {
            return Self(None);
        }
        Self(Some(Arc::new(Masker { patterns, search: OnceLock::new() })))
    }

    /// `text` with every secret in it as `[secret NAME]`.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let spans = self.0.as_ref().map(|masker| masker.find(text.as_bytes())).unwrap_or_default();
        replaced(text, &spans)
    }

    /// Masks what a fault says and the line that it shows.
    pub fn fault(&self, fault: &mut Fault) {
        let Some(masker) = &self.0 else { return };
        let cut = fault.message.len() >= CUT_MESSAGE_BYTES;
        masker.mask(&mut fault.message, cut);
        if let Some(position) = &mut fault.position {
            let cut = position.source_line.chars().count() >= CUT_SOURCE_LINE_CHARS;
            masker.mask(&mut position.source_line, cut);
        }
    }

    /// Masks what was logged, also where a value begins in one line and ends in another, and holds the lines to
    /// `limit` bytes, of which each line takes `line_bytes` beside its text.
    pub fn logs(&self, logs: &mut Logs, limit: u64, line_bytes: u64) {
        let Some(masker) = &self.0 else { return };
        let joined: Zeroizing<String> =
            Zeroizing::new(logs.lines.iter().map(|line| &*line.message).collect());
        let mut spans = masker.find(joined.as_bytes());
        if logs.truncated {
            spans.extend(masker.cut_end(joined.as_bytes()));
            spans = merged(spans);
        }
        if spans.is_empty() {
            return;
        }
        let mut start = 0;
        for line in &mut logs.lines {
            let end = start + line.message.len();
            line.message = within(&joined, start..end, &spans);
            start = end;
        }
        shorten(logs, limit, line_bytes);
    }
}

impl Search {
    fn new(patterns: &[Pattern]) -> Self {
        let mut by_head: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
        for (index, Pattern { bytes, .. }) in patterns.iter().enumerate() {
            by_head.entry(&bytes[..bytes.len().min(HEAD_BYTES)]).or_default().push(index);
        }
        let heads = AhoCorasick::builder().match_kind(MatchKind::Standard).build(by_head.keys()).ok();
        Self { heads, by_head: by_head.into_values().collect() }
    }
}

impl Masker {
    fn mask(&self, text: &mut String, is_cut: bool) {
        let mut spans = self.find(text.as_bytes());
        if is_cut {
            spans.extend(self.cut_end(text.trim_end_matches('…').as_bytes()));
            spans = merged(spans);
        }
        if let Cow::Owned(masked) = replaced(text, &spans) {
            *text = masked;
        }
    }

    /// Where the patterns are, in order and apart from each other.
    fn find(&self, text: &[u8]) -> Vec<Span> {
        let Search { heads, by_head } = self.search.get_or_init(|| Search::new(&self.patterns));
        let mut spans: Vec<Span> = Vec::new();
        let mut long = BTreeSet::new();
        if heads.is_none() {
            long.extend(0..self.patterns.len());
        }
        for found in heads.iter().flat_map(|heads| heads.find_overlapping_iter(text)) {
            for &index in &by_head[found.pattern().as_usize()] {
                let Pattern { bytes, mark } = &self.patterns[index];
                if bytes.len() > found.len() {
                    long.insert(index);
                    continue;
                }
                let is_covered = |last: &Span| last.start <= found.start() && last.end >= found.end();
                if spans.last().is_some_and(is_covered) {
                    continue;
                }
                let mut span = Span { start: found.start(), end: found.end(), mark: Arc::clone(mark) };
                // They are found by their ends, so that what overlaps is at the end of the list.
                while let Some(last) = spans.pop_if(|last| last.end > span.start) {
                    span = joined(last, span);
                }
                spans.push(span);
            }
        }
        if long.is_empty() {
            return spans;
        }
        for index in long {
            let Pattern { bytes, mark } = &self.patterns[index];
            let found = memchr::memmem::find_iter(text, &**bytes);
            spans.extend(found.map(|start| Span { start, end: start + bytes.len(), mark: Arc::clone(mark) }));
        }
        merged(spans)
    }

    /// The longest beginning of a pattern that the text ends with.
    fn cut_end(&self, text: &[u8]) -> Option<Span> {
        let ends = self.patterns.iter().map(|pattern| (common_end(text, &pattern.bytes), pattern));
        let (length, pattern) = ends.max_by_key(|(length, _)| *length)?;
        let span = Span { start: text.len() - length, end: text.len(), mark: Arc::clone(&pattern.mark) };
        (length >= LEAST_CUT_BYTES).then_some(span)
    }
}

/// The length of the longest proper beginning of `pattern` that is an end of `text`, by Knuth, Morris and Pratt's
/// table of borders.
fn common_end(text: &[u8], pattern: &[u8]) -> usize {
    let mut borders = vec![0_usize; pattern.len()];
    let advance = |borders: &[usize], mut length: usize, byte: u8| {
        while length > 0 && pattern[length] != byte {
            length = borders[length - 1];
        }
        length + usize::from(pattern[length] == byte)
    };
    for index in 1..pattern.len() {
        borders[index] = advance(&borders, borders[index - 1], pattern[index]);
    }
    let tail = &text[text.len().saturating_sub(pattern.len() - 1)..];
    // The tail is shorter than the pattern, which therefore never matches as a whole.
    tail.iter().fold(0, |length, byte| advance(&borders, length, *byte))
}

/// Two parts that overlap as one, with the mark of the longer.
fn joined(a: Span, b: Span) -> Span {
    let mark = if b.end - b.start > a.end - a.start { b.mark } else { a.mark };
    Span { start: a.start.min(b.start), end: a.end.max(b.end), mark }
}

fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.start, span.end));
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.pop_if(|last| last.end > span.start) {
            Some(last) => merged.push(joined(last, span)),
            None => merged.push(span),
        }
    }
    merged
}

fn replaced<'t>(text: &'t str, spans: &[Span]) -> Cow<'t, str> {
    if spans.is_empty() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(within(text, 0..text.len(), spans))
}

/// A range of `text` with its spans replaced. The mark of a span stands where it begins.
fn within(text: &str, range: std::ops::Range<usize>, spans: &[Span]) -> String {
    let mut out = String::with_capacity(range.len());
    let mut at = range.start;
    let first = spans.partition_point(|span| span.end <= range.start);
    for span in spans[first..].iter().take_while(|span| span.start < range.end) {
        if span.start >= range.start {
            out.push_str(&text[at..span.start]);
            out.push_str(&span.mark);
        }
        at = span.end.min(range.end);
    }
    out.push_str(&text[at..range.end]);
    out
}

/// A mark can be longer than what it stands for: what is over the limit now is cut.
fn shorten(logs: &mut Logs, limit: u64, line_bytes: u64) {
    let mut left = limit;
    let mut kept = 0;
    for LogLine { message, .. } in &mut logs.lines {
        if left <= line_bytes {
            logs.truncated = true;
            break;
        }
        let fits = (left - line_bytes) as usize;
        if message.len() > fits {
            message.truncate(message.floor_char_boundary(fits));
            logs.truncated = true;
        }
        left -= line_bytes + message.len() as u64;
        kept += 1;
    }
    logs.lines.truncate(kept);
}

#[cfg(test)]
mod tests;
