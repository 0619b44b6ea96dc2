//! Checks that no other tool makes.

pub(crate) mod dependencies;
mod licence;
pub(crate) mod settings;
pub(crate) mod smoke;
pub(crate) mod text;

use anyhow::{Result, bail};

/// Nothing where there are no problems, else an error that lists them.
fn report(problems: &[String], passed: &str) -> Result<()> {
    if problems.is_empty() {
        println!("{passed}");
        return Ok(());
    }
    bail!("{} found:\n  {}", problems.len(), problems.join("\n  "))
}
