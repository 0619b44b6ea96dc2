//! Sources and documents: no stubs, no skipped tests, no dead links.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::report;
use crate::process;

/// What no source has: unfinished code and tests that do not run. Written in halves, since this file is one.
const NOT_IN_SOURCES: &[&str] =
    &[concat!("tod", "o!("), concat!("unimplement", "ed!("), concat!("#[ign", "ore"), concat!("dbg", "!(")];

/// The two commands that a reader must find first.
const NAMED_IN_README: &[&str] = &["cargo xtask up", "cargo xtask test"];

/// Checks every file that git knows, or would take.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let files = process::capture(&mut git)?;
    let mut problems = Vec::new();
    let mut looked_at = 0;
    for file in files.lines().filter(|file| root.join(file).is_file()) {
        let extension = Path::new(file).extension().and_then(|extension| extension.to_str());
        let check: fn(&Path, &str, &str) -> Vec<String> = match extension {
            Some("rs") => |_, file, text| stubs(file, text),
            Some("md") => dead_links,
            _ => continue,
        };
        let text = std::fs::read_to_string(root.join(file)).with_context(|| format!("reading {file}"))?;
        problems.extend(check(root, file, &text));
        looked_at += 1;
    }
    let readme = std::fs::read_to_string(root.join("README.md")).context("reading README.md")?;
    for command in NAMED_IN_README {
        ensure!(readme.contains(command), "README.md does not name the command {command}");
    }
    report(&problems, &format!("{looked_at} files: no stubs, no skipped tests, no dead links"))
}

fn stubs(file: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let found = NOT_IN_SOURCES.iter().filter(|pattern| line.contains(**pattern));
        problems.extend(found.map(|pattern| format!("{file}:{}: {pattern}", number + 1)));
    }
    problems
}

/// Links to files that are not there. Links to other sites and within the file are not followed.
fn dead_links(root: &Path, file: &str, text: &str) -> Vec<String> {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for target in link_targets(line) {
            let path = target.split('#').next().unwrap_or_default();
            let is_elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !is_elsewhere && !root.join(folder).join(path).exists() {
                problems.push(format!("{file}:{}: the link to {target} leads nowhere", number + 1));
            }
        }
    }
    problems
}

/// The targets of `[text](target)`.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_are_found_with_their_line() {
        let text = format!("fn a() {{}}\n    {}\n", concat!("tod", "o!()"));
        assert_eq!(stubs("a.rs", &text), [concat!("a.rs:2: tod", "o!(")]);
    }

    #[test]
    fn dead_links_are_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("docs")).unwrap();
        std::fs::write(folder.path().join("docs/a.md"), "").unwrap();
        let text =
            "[a](a.md#x) [up](../docs/a.md) [web](https://example.org) [here](#x)\n[no](b.md), [no](../a.md)";
        let dead = dead_links(folder.path(), "docs/c.md", text);
        assert_eq!(dead.len(), 2, "{dead:?}");
        assert!(dead[0].starts_with("docs/c.md:2: "), "{dead:?}");
    }
}
