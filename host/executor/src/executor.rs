//! The executor: `Execute` in this process.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use picloud_core::{
    BoxFuture, BuildError, BuiltScript, Completion, ErrorCode, Execute, Fault, HostCalls, Invocation,
    Libraries, ScriptName, Usage,
};
use tokio::sync::Semaphore;
use wasmtime::Engine;

use crate::{
    ExecutorConfig, PoolMode, Reset,
    code::{self, embedded_guest},
    engine,
    images::Images,
    imports, run,
};

/// Why the executor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program was built before the guest.
    #[error("this program was built without the guest; run `cargo xtask guest` and build again")]
    NoGuest,
    /// wasmtime refuses the settings, or the machine cannot give what they need.
    #[error("the sandbox's engine cannot start: {0:#}")]
    Engine(wasmtime::Error),
    /// The guest does not compile.
    #[error("the guest cannot be compiled: {0:#}")]
    Compile(wasmtime::Error),
    /// The compiling child process failed.
    #[error("compiling the guest in a child process failed: {0}")]
    Child(String),
    /// The cache cannot be used.
    #[error("the cache {0} cannot be used: {1}")]
    Cache(PathBuf, std::io::Error),
    /// An artifact that was just written cannot be used.
    #[error("{0} cannot be used: {1}")]
    Artifact(PathBuf, String),
}

/// Runs scripts in this process. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    pub(crate) inner: Arc<Inner>,
    mode: PoolMode,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) images: Images,
    /// Never reached behind the orchestrator's admission; without one it keeps the pool from running out.
    slots: Semaphore,
}

impl Executor {
    /// Starts the engine, compiles the guest if this machine has not done so before, and makes the engine
    /// image.
    pub async fn start(config: ExecutorConfig) -> Result<Self, StartError> {
        let guest = embedded_guest().ok_or(StartError::NoGuest)?;
        let (engine, mode) = engine::probe(&config).map_err(StartError::Engine)?;
        let fingerprint = code::fingerprint(&guest, &engine, mode);
        let folder = prepare_cache(&config.cache_dir, &fingerprint)?;
        let component = code::load(&config, &engine, mode, &folder)?;
        let linker = imports::linker(&engine).map_err(StartError::Engine)?;
        let images = Images::start(&config, &engine, &guest, component, linker, &folder).await?;
        let slots = Semaphore::new(config.concurrency as usize);
        tracing::info!(%mode, reset = Reset::detect().as_str(), slots = config.concurrency, "the sandbox is ready");
        Ok(Self { inner: Arc::new(Inner { engine, images, slots }), mode })
    }

    /// How instances get their memory.
    pub fn pool_mode(&self) -> PoolMode {
        self.mode
    }

    /// Parses a script in a fresh instance and runs it there, as a platform without images would: what the
    /// benchmark compares with.
    #[cfg(feature = "bench")]
    pub async fn parse_and_run(
        &self,
        source: &str,
        invocation: Invocation,
        host: Arc<dyn HostCalls>,
    ) -> Completion {
        run::parse_and_run(Arc::clone(&self.inner), source, invocation, host).await
    }

    /// How a used slot becomes as new.
    pub fn reset(&self) -> Reset {
        Reset::detect()
    }
}

/// The folder for this fingerprint. Folders of other fingerprints are of no use any more: their code or their
/// engine is gone.
fn prepare_cache(cache: &Path, fingerprint: &str) -> Result<PathBuf, StartError> {
    let fail = |error| StartError::Cache(cache.to_owned(), error);
    let folder = cache.join(fingerprint);
    fs::create_dir_all(&folder).map_err(fail)?;
    set_private(cache).map_err(fail)?;
    for entry in fs::read_dir(cache).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let is_artifacts = entry.file_name().len() == fingerprint.len() && entry.path().is_dir();
        if is_artifacts && entry.path() != folder {
            fs::remove_dir_all(entry.path()).map_err(fail)?;
        }
    }
    Ok(folder)
}

fn set_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

impl Execute for Executor {
    fn build<'a>(
        &'a self,
        name: &'a ScriptName,
        source: &'a str,
        libraries: Arc<dyn Libraries>,
    ) -> BoxFuture<'a, Result<BuiltScript, BuildError>> {
        Box::pin(self.inner.images.build(name, source, libraries))
    }

    fn execute(&self, invocation: Invocation, host: Arc<dyn HostCalls>) -> BoxFuture<'_, Completion> {
        Box::pin(async move {
            let slot = if let Ok(slot) = self.inner.slots.try_acquire() {
                slot
            } else {
                let waiting = self.inner.slots.acquire();
                match tokio::time::timeout_at(invocation.deadline.into(), waiting).await {
                    Ok(Ok(slot)) => slot,
                    Ok(Err(_)) | Err(_) => return refused(),
                }
            };
            let completion = run::execute(Arc::clone(&self.inner), invocation, host).await;
            drop(slot);
            completion
        })
    }
}

fn refused() -> Completion {
    Completion::failed(Fault::new(ErrorCode::NodeBusy, "no instance became free in time"), Usage::default())
}
