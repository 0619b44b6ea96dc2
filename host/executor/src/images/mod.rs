//! Images: what an instance's memory starts as.
//!
//! base image (embedded) -> engine image (the interpreter with its API) -> one image per script. Mapped images
//! are kept in memory, bounded by the bytes they map; behind that is a bounded cache on disk; behind that they
//! are built again from their sources, in milliseconds.

mod build;
pub(crate) mod disk;
mod encode;

use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use picloud_core::{
    BuildError, BuiltScript, ErrorCode, HostError, ImageKey, Libraries, ScriptName, ScriptSources,
};
use tokio::sync::Semaphore;
use wasmtime::{
    Engine, Module, Result as WasmResult, Store,
    component::{Component, Instance, InstancePre, Linker},
};

use crate::{
    ExecutorConfig, StartError,
    bindings::{
        InterpreterPre,
        exports::picloud::runtime::{builder, handler},
    },
    code::EmbeddedGuest,
    state::{Captured, State},
};

/// An image, ready to be instantiated.
pub(crate) struct Image {
    pre: InstancePre<State>,
    /// Where the exports are. Looked up in an instance one by one: what an invocation does not call, it need not find.
    builder: builder::GuestIndices,
    handler: handler::GuestIndices,
    bytes: u64,
}

impl Image {
    fn link(linker: &Linker<State>, component: &Component, module: &Module, bytes: u64) -> WasmResult<Self> {
        let mut linker = linker.clone();
        linker.root().module("image", module)?;
        let pre = linker.instantiate_pre(component)?;
        // Checks that the component has the exports of `wit/`, each of its type.
        let pre = InterpreterPre::new(pre)?.instance_pre().clone();
        let (builder, handler) = (builder::GuestIndices::new(&pre)?, handler::GuestIndices::new(&pre)?);
        Ok(Self { pre, builder, handler, bytes })
    }

    /// A fresh instance whose memory is this image.
    pub(crate) async fn instantiate(&self, store: &mut Store<State>) -> WasmResult<Instance> {
        self.pre.instantiate_async(store).await
    }

    /// The exports that make images.
    pub(crate) fn builder(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> WasmResult<builder::Guest> {
        self.builder.load(store, instance)
    }

    /// The exports that handle events.
    pub(crate) fn handler(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> WasmResult<handler::Guest> {
        self.handler.load(store, instance)
    }
}

/// Every image of this node.
pub(crate) struct Images {
    engine: Engine,
    component: Component,
    linker: Linker<State>,
    engine_image: Image,
    disk: Arc<disk::DiskCache>,
    mapped: Mutex<Mapped>,
    max_mapped_bytes: u64,
    builds: Semaphore,
    /// One build per image at a time, without a lock per image: keys that share a stripe wait for each other.
    stripes: [tokio::sync::Mutex<()>; 64],
}

struct Mapped {
    images: LruCache<ImageKey, Arc<Image>>,
    bytes: u64,
}

impl Images {
    pub(crate) async fn start(
        config: &ExecutorConfig,
        engine: &Engine,
        guest: &EmbeddedGuest,
        component: Component,
        linker: Linker<State>,
        folder: &std::path::Path,
    ) -> Result<Self, StartError> {
        let folder = folder.join("images");
        let disk = disk::DiskCache::open(folder.clone(), config.image_disk_bytes)
            .map_err(|error| StartError::Cache(folder, error))?;
        let (module, bytes) = if let Some(found) = disk.load(engine, ENGINE_IMAGE) {
            found
        } else {
            let base = Module::new(engine, guest.base).map_err(StartError::Engine)?;
            let base = Image::link(&linker, &component, &base, 0).map_err(StartError::Engine)?;
            let captured = build::engine_image(engine, &base).await.map_err(StartError::Engine)?;
            let compiled = compile(engine, &captured).map_err(StartError::Engine)?;
            disk.store(engine, ENGINE_IMAGE, &compiled)
                .map_err(|error| StartError::Artifact("the engine image".into(), error.to_string()))?
        };
        let engine_image = Image::link(&linker, &component, &module, bytes).map_err(StartError::Engine)?;
        Ok(Self {
            engine: engine.clone(),
            component,
            linker,
            engine_image,
            disk: Arc::new(disk),
            mapped: Mutex::new(Mapped { images: LruCache::unbounded(), bytes: 0 }),
            max_mapped_bytes: config.image_memory_bytes,
            builds: Semaphore::new(ExecutorConfig::CONCURRENT_BUILDS as usize),
            stripes: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
        })
    }

    /// Compiles a script in the sandbox, and keeps its image.
    pub(crate) async fn build(
        &self,
        name: &ScriptName,
        source: &str,
        libraries: Arc<dyn Libraries>,
    ) -> Result<BuiltScript, BuildError> {
        let made = self.compile_script(name, source, libraries).await?;
        let sources = ScriptSources { name: name.clone(), source: source.into(), libraries: made.libraries };
        let image = ImageKey::of(&sources);
        self.keep(image, made.captured).await?;
        let imports = sources.libraries.into_keys().collect();
        Ok(BuiltScript { image, imports, handlers: made.handlers, warnings: made.warnings, uses: made.uses })
    }

    /// The image of an interpreter that has no script yet.
    #[cfg(feature = "bench")]
    pub(crate) fn engine_image(&self) -> &Image {
        &self.engine_image
    }

    /// The image of `key` if it is mapped.
    pub(crate) fn mapped(&self, key: ImageKey) -> Option<Arc<Image>> {
        self.lock_mapped().images.get(&key).cloned()
    }

    /// The image of `key`: from the disk, or built from what `sources` gives.
    pub(crate) async fn find(
        &self,
        key: ImageKey,
        sources: impl Future<Output = Result<ScriptSources, HostError>>,
    ) -> Result<Arc<Image>, BuildError> {
        let stripe = usize::from(key.as_bytes()[0]) % self.stripes.len();
        let _one_at_a_time = self.stripes[stripe].lock().await;
        if let Some(image) = self.mapped(key) {
            return Ok(image);
        }
        let (engine, disk) = (self.engine.clone(), Arc::clone(&self.disk));
        let loaded = tokio::task::spawn_blocking(move || disk.load(&engine, key));
        if let Some((module, bytes)) = loaded.await.map_err(|error| internal(&error.to_string()))? {
            return self.map(key, &module, bytes);
        }
        let sources = sources.await?;
        let pinned = Arc::new(Pinned(sources.libraries));
        let made = self.compile_script(&sources.name, &sources.source, pinned).await?;
        self.keep(key, made.captured).await
    }

    async fn compile_script(
        &self,
        name: &ScriptName,
        source: &str,
        libraries: Arc<dyn Libraries>,
    ) -> Result<build::Made, BuildError> {
        let _permit = self.builds.acquire().await.map_err(|_| internal("the executor is closed"))?;
        build::script_image(&self.engine, &self.engine_image, name, source, libraries).await
    }

    /// Compiles the captured memory to a module, writes it, maps it. It takes some milliseconds, beside the async
    /// threads.
    async fn keep(&self, key: ImageKey, captured: Captured) -> Result<Arc<Image>, BuildError> {
        let (engine, disk) = (self.engine.clone(), Arc::clone(&self.disk));
        let kept = tokio::task::spawn_blocking(move || {
            let compiled = compile(&engine, &captured).map_err(|error| internal(&format!("{error:#}")))?;
            disk.store(&engine, key, &compiled)
                .map_err(|error| internal(&format!("an image cannot be kept: {error}")))
        });
        let (module, bytes) = kept.await.map_err(|error| internal(&error.to_string()))??;
        self.map(key, &module, bytes)
    }

    fn map(&self, key: ImageKey, module: &Module, bytes: u64) -> Result<Arc<Image>, BuildError> {
        let image = Image::link(&self.linker, &self.component, module, bytes)
            .map_err(|error| internal(&format!("an image does not fit its code: {error:#}")))?;
        let image = Arc::new(image);
        let mut mapped = self.lock_mapped();
        mapped.bytes += bytes;
        if let Some(old) = mapped.images.put(key, Arc::clone(&image)) {
            mapped.bytes -= old.bytes;
        }
        // The image just mapped stays, however large: it is about to be used.
        while mapped.bytes > self.max_mapped_bytes && mapped.images.len() > 1 {
            let Some((_, oldest)) = mapped.images.pop_lru() else { break };
            mapped.bytes -= oldest.bytes;
        }
        Ok(image)
    }

    fn lock_mapped(&self) -> std::sync::MutexGuard<'_, Mapped> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine image's place in the disk cache: no sources hash to it.
const ENGINE_IMAGE: ImageKey = ImageKey::from_bytes([0; 32]);

fn compile(engine: &Engine, captured: &Captured) -> wasmtime::Result<Vec<u8>> {
    engine.precompile_module(&encode::encode(captured))
}

fn internal(message: &str) -> BuildError {
    tracing::error!(message, "an image cannot be made");
    BuildError::Host(HostError::new(ErrorCode::Internal, "the sandbox failed; see the platform's log"))
}

/// The libraries that a version has pinned.
struct Pinned(std::collections::BTreeMap<ScriptName, Arc<str>>);

impl Libraries for Pinned {
    fn library<'a>(
        &'a self,
        name: &'a ScriptName,
    ) -> picloud_core::BoxFuture<'a, Result<Option<Arc<str>>, HostError>> {
        Box::pin(std::future::ready(Ok(self.0.get(name).cloned())))
    }
}
