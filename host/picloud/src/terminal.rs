//! Output for people and programs: standard output and error, colours only where a terminal shows them.
//!
//! A reader that goes away (`picloud logs | head`) is not an error of the program.
//!
//! What a server or a script says cannot drive the terminal or turn text around: [`printable`] escapes it, line breaks
//! among it, where it is put into a line, and [`line()`] and [`note`] let nothing through but line breaks, tabs and the
//! styles of this module. Only [`verbatim`] writes a text as it is, for programs.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use anstream::stream::RawStream;

/// Bold red, for `error:`.
pub(crate) const ERROR: Style = Style("\x1b[1;31m");
/// Bold yellow, for `warning:`.
pub(crate) const WARNING: Style = Style("\x1b[1;33m");
/// Bold, for what the eye should find.
pub(crate) const STRONG: Style = Style("\x1b[1m");
/// Dim, for what it may skip.
pub(crate) const DIM: Style = Style("\x1b[2m");
/// Green, for what went well.
pub(crate) const GOOD: Style = Style("\x1b[32m");
/// Blue, for the gutter of a source excerpt.
pub(crate) const GUTTER: Style = Style("\x1b[1;34m");

/// An escape sequence. The streams of this module leave it out where no terminal would show it, and under
/// `NO_COLOR`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style(&'static str);

/// The end of a style.
const PLAIN: &str = "\x1b[0m";

/// All that may stand in a line to a terminal and drives it.
const STYLES: [&str; 7] = [ERROR.0, WARNING.0, STRONG.0, DIM.0, GOOD.0, GUTTER.0, PLAIN];

impl Style {
    /// `text` in this style.
    pub(crate) fn paint<T: fmt::Display>(self, text: T) -> String {
        format!("{}{text}{PLAIN}", self.0)
    }
}

/// Writes one line to standard output.
pub(crate) fn line(text: impl fmt::Display) -> io::Result<()> {
    write_line(&mut anstream::stdout().lock(), &text)
}

/// Writes one line to standard error. A closed standard error is no reason to fail.
pub(crate) fn note(text: impl fmt::Display) {
    let _ = write_line(&mut anstream::stderr().lock(), &text);
}

/// Writes a text as it is to standard output, and a line break: JSON, for programs.
pub(crate) fn verbatim(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Writes a text as it is to standard error, and a line break: JSON, for programs.
pub(crate) fn verbatim_note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes what somebody else wrote, such as the source of a script: escaped where a terminal shows it, and as it is
/// where a file or a program takes it.
pub(crate) fn foreign(text: &str) -> io::Result<()> {
    if io::stdout().is_terminal() { line(text) } else { verbatim(text) }
}

/// Writes `error: text` to standard error.
pub(crate) fn error(text: impl fmt::Display) {
    note(format_args!("{} {text}", ERROR.paint("error:")));
}

/// Writes `warning: text` to standard error.
pub(crate) fn warning(text: impl fmt::Display) {
    note(format_args!("{} {text}", WARNING.paint("warning:")));
}

fn write_line<S: RawStream>(stream: &mut anstream::AutoStream<S>, text: &dyn fmt::Display) -> io::Result<()>
where
    anstream::AutoStream<S>: Write,
{
    writeln!(stream, "{}", harmless(&text.to_string()))?;
    stream.flush()
}

/// `text` with everything escaped that drives a terminal, but line breaks, tabs and the styles of this module.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let style = STYLES.iter().find(|style| rest.starts_with(**style));
        let len = style.map_or(c.len_utf8(), |style| style.len());
        if style.is_none() && c != '\n' && is_driving(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push_str(&rest[..len]);
        }
        rest = &rest[len..];
    }
    shown
}

/// Whether a character drives a terminal, or the direction and the lines of the text around it.
fn is_driving(c: char) -> bool {
    let is_direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\t') || is_direction || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A table for people: aligned columns, no rules, a dim heading.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; control characters are shown escaped, so that data cannot drive the terminal.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.headings.len());
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Writes it, or `empty` to standard error where it has no rows.
    pub(crate) fn print(&self, empty: &str) -> io::Result<()> {
        if self.rows.is_empty() {
            note(empty);
            return Ok(());
        }
        line(DIM.paint(self.format_row(&self.headings)))?;
        self.rows.iter().try_for_each(|row| line(self.format_row(row)))
    }

    fn format_row<T: AsRef<str>>(&self, cells: &[T]) -> String {
        let mut text = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let cell = cell.as_ref();
            text.push_str(cell);
            if column + 1 < cells.len() {
                let pad = self.width(column) - cell.chars().count() + 2;
                text.extend(std::iter::repeat_n(' ', pad));
            }
        }
        text.trim_end().to_owned()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].as_str());
        cells.chain([self.headings[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

/// `text` in one line, with everything escaped that drives a terminal or changes the direction of text.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_driving(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "VERSION"]);
        table.row(["hello".into(), "3".into()]);
        table.row(["é".into(), "12".into()]);
        assert_eq!(table.format_row(&table.headings), "NAME   VERSION");
        assert_eq!(table.format_row(&table.rows[0]), "hello  3");
        assert_eq!(table.format_row(&table.rows[1]), "é      12");
    }

    #[test]
    fn a_line_lets_only_styles_through() {
        let styled = format!("{}\n\t{}", ERROR.paint("error:"), GUTTER.paint("|"));
        assert_eq!(harmless(&styled), styled);
        assert_eq!(harmless("a\x1b[8mb\x1b]0;title\x07\r"), "a\\u{1b}[8mb\\u{1b}]0;title\\u{7}\\r");
        assert_eq!(harmless("\u{2066}a"), "\\u{2066}a");
    }

    #[test]
    fn data_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("\u{202e}cod.exe\u{2069}"), "\\u{202e}cod.exe\\u{2069}");
        assert_eq!(printable("\tschön \u{1f600}"), "\tschön \u{1f600}");
    }
}
