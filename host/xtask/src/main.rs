//! Automation: `cargo xtask guest`.
mod guest;
fn main() -> anyhow::Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("root").to_owned();
    let artifacts = guest::build(&root)?;
    eprintln!("{artifacts:?}");
    Ok(())
}
