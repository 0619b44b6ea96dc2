//! The guest's code: embedded as WebAssembly, compiled once per machine and mode, cached on disk.

use std::{
    fs::File,
    hash::{Hash, Hasher},
    io::{Seek, Write},
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

use crate::{
    Compiler, ExecutorConfig, PoolMode, StartError,
    engine::code_config,
    trusted::{self, ArtifactDigest},
};

static CODE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/code.wasm"));
static BASE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/base.wasm"));

/// The WebAssembly that this program carries.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedGuest {
    /// The interpreter as a component without memory.
    pub code: &'static [u8],
    /// The module with the interpreter's memory before anything ran.
    pub base: &'static [u8],
}

/// The guest that this program was built with; `None` where it was built before the guest.
pub fn embedded_guest() -> Option<EmbeddedGuest> {
    (!CODE.is_empty() && !BASE.is_empty()).then_some(EmbeddedGuest { code: CODE, base: BASE })
}

impl EmbeddedGuest {
    /// SHA-256 over code and base image, in lower-case hexadecimal.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.code, self.base] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex(&hash.finalize())
    }
}

/// Identifies what compiled code and images depend on: the guest, the engine's settings and version, and the
/// processor's features. Artifacts of another fingerprint are never looked at.
pub(crate) fn fingerprint(guest: &EmbeddedGuest, engine: &Engine, mode: PoolMode) -> String {
    let mut settings = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    let text = format!("{} {mode} {:016x}", guest.hash(), settings.finish());
    hex(&Sha256::digest(text.as_bytes())[..16])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or_default());
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or_default());
        text
    })
}

/// Compiles the embedded guest for `mode` and writes it to `output`: the body of the compiling child process.
pub fn precompile(mode: PoolMode, max_memory_bytes: u64, output: &Path) -> Result<(), StartError> {
    let guest = embedded_guest().ok_or(StartError::NoGuest)?;
    let engine = Engine::new(&code_config(mode, max_memory_bytes)).map_err(StartError::Engine)?;
    let bytes = engine.precompile_component(guest.code).map_err(StartError::Compile)?;
    write_artifact(output, &bytes).map_err(|error| StartError::Cache(output.to_owned(), error))
}

/// The compiled guest from the cache in `folder`, compiled first if it is not there or not intact.
pub(crate) fn load(
    config: &ExecutorConfig,
    engine: &Engine,
    mode: PoolMode,
    folder: &Path,
) -> Result<Component, StartError> {
    let path = folder.join("guest.cwasm");
    match read_digest(&path).and_then(|digest| trusted::map_component(engine, &path, &digest)) {
        Ok(component) => return Ok(component),
        Err(trusted::ArtifactError::Read(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "compiling the guest again"),
    }
    tracing::info!(%mode, "compiling the guest for this machine, once");
    match &config.compiler {
        Compiler::InProcess => precompile(mode, config.max_memory_bytes, &path)?,
        Compiler::Child { program, args } => {
            let output = Command::new(program)
                .args(args)
                .args([mode.as_str(), &config.max_memory_bytes.to_string()])
                .arg(&path)
                .output()
                .map_err(|error| StartError::Child(error.to_string()))?;
            if !output.status.success() {
                let message = String::from_utf8_lossy(&output.stderr);
                return Err(StartError::Child(format!("{}: {}", output.status, message.trim())));
            }
        }
    }
    read_digest(&path)
        .and_then(|digest| trusted::map_component(engine, &path, &digest))
        .map_err(|error| StartError::Artifact(path, error.to_string()))
}

/// Writes an artifact and, beside it, its digest. Both appear whole or not at all.
fn write_artifact(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_atomically(path, bytes)?;
    write_atomically(&digest_path(path), &trusted::digest(bytes))?;
    Ok(())
}

fn read_digest(path: &Path) -> Result<ArtifactDigest, trusted::ArtifactError> {
    let bytes = std::fs::read(digest_path(path))?;
    bytes.try_into().map_err(|_| trusted::ArtifactError::Digest)
}

fn digest_path(path: &Path) -> PathBuf {
    path.with_extension("sha256")
}

/// Writes under a temporary name and renames: a mapped file is never changed in place. Gives the file, open at its
/// beginning.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<File> {
    static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let temporary = path.with_extension(format!("tmp-{}-{number}", std::process::id()));
    let written = (|| {
        let mut file = File::options().read(true).write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.rewind()?;
        std::fs::rename(&temporary, path)?;
        Ok(file)
    })();
    if written.is_err() {
        // The write's own error is the one to report; a leftover is removed at the next start.
        drop(std::fs::remove_file(&temporary));
    }
    written
}
