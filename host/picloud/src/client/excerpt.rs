//! A place in a script, as the API names it, and how it is shown.

use serde::Deserialize;

use crate::terminal::{ERROR, GUTTER, printable};

/// A place in a script, as far as it is known.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    script: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
    source_line: Option<String>,
}

impl Place {
    /// `script.rhai:line:column`, as editors and terminals understand it.
    pub(super) fn short(&self) -> Option<String> {
        let (script, line) = (self.script.as_deref()?, self.line?);
        let place = self.column().map_or_else(|| format!("{line}"), |column| format!("{line}:{column}"));
        Some(format!("{}.rhai:{place}", printable(script)))
    }

    /// `script.rhai`, where no more is known.
    pub(super) fn script_only(&self) -> Option<String> {
        let script = self.script.as_deref().filter(|_| self.line.is_none())?;
        Some(format!("{}.rhai", printable(script)))
    }

    /// The line of source with a caret below it, as rustc shows it.
    pub(super) fn excerpt(&self) -> Option<String> {
        let number = self.line?.to_string();
        let margin = " ".repeat(number.len());
        let mut text = format!("{margin}{} {}", GUTTER.paint("-->"), self.short()?);
        let Some(source) = self.source_line.as_deref().filter(|source| !source.is_empty()) else {
            return Some(text);
        };
        let (bar, shown) = (GUTTER.paint("|"), printable(source));
        text = format!("{text}\n{margin} {bar}\n{} {bar} {shown}", GUTTER.paint(&number));
        if let Some(column) = self.column() {
            // Tabs stay tabs, so that the caret stands below its character at any tab width.
            let before: String = source.chars().take(column as usize - 1).collect();
            let pad: String =
                printable(&before).chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            text = format!("{text}\n{margin} {bar} {pad}{}", ERROR.paint("^"));
        }
        Some(text)
    }

    /// The column; the API has 0 where only the line is known.
    fn column(&self) -> Option<u32> {
        self.column.filter(|column| *column > 0)
    }
}
