//! What the parts hand in, and the document they make.

use std::fmt::Write;

/// One part of the document.
pub(super) struct Section {
    /// Its heading.
    pub(super) title: &'static str,
    /// What was done, in sentences.
    pub(super) text: String,
    /// Its figures.
    pub(super) tables: Vec<Table>,
    /// What its figures say in one line each; these open the document.
    pub(super) ratios: Vec<String>,
}

/// A table; the first column names the rows.
pub(super) struct Table {
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(super) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = self.head.iter().enumerate().map(|(i, _)| if i == 0 { "---" } else { "---:" });
        let rule = line(&rule.map(str::to_owned).collect::<Vec<_>>());
        let rows = self.rows.iter().map(|row| line(row)).collect::<String>();
        line(&self.head) + &rule + &rows
    }
}

/// The whole document: ratios first, since they mean something on another machine too.
pub(super) fn document(sections: &[Section]) -> String {
    let mut text = String::from(
        "# Benchmarks\n\nWritten by `cargo xtask bench`; do not edit. Ratios between rows of one run carry over to \
         other machines, absolute figures do not.\n",
    );
    for ratio in sections.iter().flat_map(|section| &section.ratios) {
        push(&mut text, format_args!("\n- {ratio}"));
    }
    text.push('\n');
    for section in sections {
        push(&mut text, format_args!("\n## {}\n\n{}\n", section.title, section.text));
        for table in &section.tables {
            push(&mut text, format_args!("\n{}", table.markdown()));
        }
    }
    text
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = text.write_fmt(arguments);
}

/// The middle value; of an even number, the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// The value that `percent` of a hundred values are at or under.
pub(super) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_edge() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((percentile(&hundred, 99) - 99.0).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_open_the_document() {
        let mut table = Table::new(["what", "p50"]);
        table.row(["a".into(), "1".into()]);
        let section = Section {
            title: "T",
            text: "Done so.".into(),
            tables: vec![table],
            ratios: vec!["a is b".into()],
        };
        let text = document(&[section]);
        assert!(text.find("- a is b").unwrap() < text.find("## T").unwrap());
        assert!(text.contains("| what | p50 |\n| --- | ---: |\n| a | 1 |\n"), "{text}");
    }
}
