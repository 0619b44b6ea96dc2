//! Output for people and programs: standard output and error, colours only where a terminal shows them.
//!
//! A reader that goes away (`picloud logs | head`) is not an error of the program.

use std::{
    fmt,
    io::{self, Write},
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

impl Style {
    /// `text` in this style.
    pub(crate) fn paint<T: fmt::Display>(self, text: T) -> String {
        format!("{}{text}\x1b[0m", self.0)
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
    writeln!(stream, "{text}")?;
    stream.flush()
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

/// `text` with its control characters escaped, so that what a script or a server says cannot drive the
/// terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
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
    fn data_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
