//! Builds the guest: Rhai source -> core module -> component -> code without memory, and the base image.
//!
//! The two artifacts are `target/guest/code.wasm`, the component whose memory is imported, and
//! `target/guest/base.wasm`, a core module that has nothing but that memory and its initial data. The executor
//! embeds both (docs/adr/0001-script-images.md).

mod split;
mod toolchain;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

/// Where the artifacts are.
#[derive(Debug)]
pub(crate) struct GuestArtifacts {
    /// The component.
    pub(crate) code: PathBuf,
    /// The image of its memory before anything ran.
    pub(crate) base: PathBuf,
    /// Whether nothing had to be built.
    pub(crate) fresh: bool,
}

/// Builds the guest unless its inputs are those of the last build.
pub(crate) fn build(root: &Path) -> Result<GuestArtifacts> {
    let out = root.join("target/guest");
    let artifacts = GuestArtifacts { code: out.join("code.wasm"), base: out.join("base.wasm"), fresh: true };
    let stamp = out.join("inputs.sha256");
    let inputs = inputs_digest(root)?;
    let built = fs::read_to_string(&stamp).is_ok_and(|old| old == inputs);
    if built && artifacts.code.exists() && artifacts.base.exists() {
        return Ok(artifacts);
    }

    let toolchain = toolchain::find()?;
    eprintln!("building the guest with {}", toolchain.describe());
    let module = toolchain.build(root)?;
    let module = fs::read(&module).with_context(|| format!("reading {}", module.display()))?;
    let component = wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .context("the guest's module does not fit wit/")?
        .encode()
        .context("making the guest's component")?;
    let split = split::split(&component).context("taking the memory out of the guest's component")?;

    fs::create_dir_all(&out)?;
    write_atomically(&artifacts.code, &split.code)?;
    write_atomically(&artifacts.base, &split.base)?;
    write_atomically(&stamp, inputs.as_bytes())?;
    eprintln!("guest: code {} KB, base image {} KB", split.code.len() / 1024, split.base.len() / 1024);
    Ok(GuestArtifacts { fresh: false, ..artifacts })
}

/// A digest over everything that the artifacts are made of, the compiler apart: a new compiler is a new
/// `rust-toolchain.toml` or another machine.
fn inputs_digest(root: &Path) -> Result<String> {
    let mut files = vec![root.join("Cargo.toml"), root.join("Cargo.lock"), root.join("guest/Cargo.toml")];
    for folder in ["guest/src", "wit", "host/xtask/src/guest"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        hash.update(file.strip_prefix(root)?.as_os_str().as_encoded_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    Ok(format!("{:x}", hash.finalize()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("an artifact has a folder")?;
    ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    let file = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(file.path(), bytes)?;
    file.persist(path).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}
