//! Every variable that the program reads is documented, and nothing else is.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Context, Result};

use super::report;
use crate::process;

const DOCUMENT: &str = "docs/OPERATIONS.md";
const PREFIX: &str = "PICLOUD_";

/// The subcommands whose help names variables.
const COMMANDS: &[&[&str]] = &[&["serve"], &["deploy"]];

/// Compares the program's help with docs/OPERATIONS.md.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut read = BTreeSet::new();
    process::build_program(root, "dev")?;
    for command in COMMANDS {
        let mut help = Command::new(root.join("target/debug/picloud"));
        help.args(*command).arg("--help");
        read.extend(variables(&process::capture(&mut help)?));
    }
    let text = std::fs::read_to_string(root.join(DOCUMENT)).with_context(|| format!("reading {DOCUMENT}"))?;
    let documented = variables(&text);

    let missing = read.difference(&documented).map(|name| format!("{name} is not documented in {DOCUMENT}"));
    let unknown =
        documented.difference(&read).map(|name| format!("{DOCUMENT} names {name}, which nothing reads"));
    let problems: Vec<String> = missing.chain(unknown).collect();
    report(&problems, &format!("{} variables, all documented", read.len()))
}

fn variables(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let starts = text.match_indices(PREFIX).map(|(at, _)| &text[at..]);
    let names = starts.map(|rest| &rest[..rest.find(|c| !is_of_name(c)).unwrap_or(rest.len())]);
    // `PICLOUD_SANDBOX_MAX_*` speaks of many, and is none itself.
    names.filter(|name| !name.ends_with('_')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_prose() {
        let text = "`PICLOUD_A_B`, [env: PICLOUD_C=1] and PICLOUD_MAX_* or PICLOUD_D";
        assert_eq!(
            variables(text).into_iter().collect::<Vec<_>>(),
            ["PICLOUD_A_B", "PICLOUD_C", "PICLOUD_D"]
        );
    }
}
