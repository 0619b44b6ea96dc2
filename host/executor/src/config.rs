//! What the executor is told at start.

use std::{ffi::OsString, path::PathBuf};

use crate::PoolMode;

/// Settings of the executor.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// Folder for compiled code and images. Whoever can write here can run code in this process.
    pub cache_dir: PathBuf,
    /// Invocations that run at once; nested calls come on top.
    pub concurrency: u32,
    /// The most memory that any instance may have, in bytes: the ceiling over all apps.
    pub max_memory_bytes: u64,
    /// Images kept mapped, in bytes of their files. Mapped pages are shared with the page cache.
    pub image_memory_bytes: u64,
    /// Images kept on disk, in bytes.
    pub image_disk_bytes: u64,
    /// Where the guest's code is compiled if the cache does not have it.
    pub compiler: Compiler,
    /// Use this mode instead of the best that the machine offers.
    pub pool_mode: Option<PoolMode>,
}

/// Where the guest's code is compiled.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In a child process, so that the compiler's memory is never the server's. It is started as
    /// `program args... MODE MAX_MEMORY_BYTES OUTPUT` and must call [`crate::precompile`] with them.
    Child {
        /// The program.
        program: PathBuf,
        /// Arguments before the mode.
        args: Vec<OsString>,
    },
    /// In this process: for tests and benchmarks.
    InProcess,
}

impl ExecutorConfig {
    /// How deep `app::invoke` may nest.
    pub const MAX_INVOKE_DEPTH: u32 = 4;
    /// Images that are built at once.
    pub const CONCURRENT_BUILDS: u32 = 2;

    /// Instances that can exist at once: every invocation with its nested calls, and the builds.
    pub(crate) const fn instances(&self) -> u32 {
        self.concurrency * (1 + Self::MAX_INVOKE_DEPTH) + Self::CONCURRENT_BUILDS
    }
}
