//! Engine settings, and the choice of how instances get their memory.

use std::{fmt, str::FromStr};

use wasmtime::{
    Config, Enabled, Engine, Inlining, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Result,
};

use crate::{ExecutorConfig, StartError};

/// Memory for building an image, which takes more than running it.
pub(crate) const BUILD_MEMORY_BYTES: u64 = 64 << 20;

/// Fuel between two points where a running script lets others run: some 0.3 ms on a PC.
pub(crate) const YIELD_INTERVAL: u64 = 2_000_000;

/// The wasm stack. The interpreter's own limits on nesting fit into it (guest/src/limits.rs).
const WASM_STACK_BYTES: usize = 1 << 20;
const FIBER_STACK_BYTES: usize = WASM_STACK_BYTES + (512 << 10);

/// What of a used slot is reset in place instead of being unmapped, and so stays in memory for each slot. Measured:
/// with these, an invocation of a hot script has no page fault (docs/BENCHMARKS.md).
const MEMORY_KEEP_RESIDENT: usize = 1 << 20;
const TABLE_KEEP_RESIDENT: usize = 1 << 20;
const STACK_KEEP_RESIDENT: usize = 200 << 10;
const DECOMMIT_BATCH: usize = 16;

/// Core instances that one component instance has: image, main, shim, fix-ups, and one to spare.
const CORE_INSTANCES: u32 = 5;
const TABLES: u32 = 4;
const TABLE_ELEMENTS: usize = 20_000;

/// How instances get their memory. A mode decides what code is generated, so each has its own compiled guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// Pooled slots of 4 GiB of address space each: no bounds checks in code.
    PoolGuarded,
    /// Pooled slots just as large as the memory limit: for 39-bit address spaces.
    PoolCompact,
    /// Memory is mapped for each instance.
    OnDemand,
}

/// How a used slot becomes as new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Dirty pages are found by the kernel (`PAGEMAP_SCAN`, Linux 6.7 or later) and reset in place.
    PagemapScan,
    /// Pages are given back to the kernel and fault in again.
    Decommit,
}

impl PoolMode {
    /// Best first.
    pub const ALL: [Self; 3] = [Self::PoolGuarded, Self::PoolCompact, Self::OnDemand];

    /// The mode that a start with these settings would have here: a pool is made, and given up at once.
    pub fn detect(config: &ExecutorConfig) -> std::result::Result<Self, StartError> {
        probe(config).map(|(_, mode)| mode).map_err(StartError::Engine)
    }

    /// The name in `/readyz` and `doctor`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PoolGuarded => "pool_guarded",
            Self::PoolCompact => "pool_compact",
            Self::OnDemand => "on_demand",
        }
    }
}

impl fmt::Display for PoolMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PoolMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|mode| mode.as_str() == text);
        known.ok_or_else(|| format!("{text:?} is not pool_guarded, pool_compact or on_demand"))
    }
}

impl Reset {
    /// What this kernel offers.
    pub fn detect() -> Self {
        if PoolingAllocationConfig::is_pagemap_scan_available() { Self::PagemapScan } else { Self::Decommit }
    }

    /// The name in `/readyz` and `doctor`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PagemapScan => "pagemap_scan",
            Self::Decommit => "decommit",
        }
    }
}

/// The settings that decide what code is generated: those of the compiling child and of the server agree.
pub(crate) fn code_config(mode: PoolMode, max_memory_bytes: u64) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .concurrency_support(false)
        .cranelift_opt_level(OptLevel::Speed)
        // A tenth less time for scripts that compute, none for short ones (docs/adr/0001).
        .compiler_inlining(Inlining::Yes)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES);
    if mode != PoolMode::PoolGuarded {
        config.memory_reservation(max_memory_bytes.max(BUILD_MEMORY_BYTES)).memory_guard_size(64 << 10);
    }
    config
}

/// An engine for `config`, in the mode that was asked for or the best that works here.
pub(crate) fn probe(config: &ExecutorConfig) -> Result<(Engine, PoolMode)> {
    if let Some(mode) = config.pool_mode {
        return Ok((engine(config, mode)?, mode));
    }
    for mode in [PoolMode::PoolGuarded, PoolMode::PoolCompact] {
        match engine(config, mode) {
            Ok(engine) => return Ok((engine, mode)),
            Err(error) => tracing::warn!(%mode, %error, "this pool mode is not to be had here"),
        }
    }
    Ok((engine(config, PoolMode::OnDemand)?, PoolMode::OnDemand))
}

fn engine(config: &ExecutorConfig, mode: PoolMode) -> Result<Engine> {
    let mut settings = code_config(mode, config.max_memory_bytes);
    // This engine compiles images only, which have no functions: threads would have nothing to do.
    settings.parallel_compilation(false);
    if mode != PoolMode::OnDemand {
        settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)));
    }
    Engine::new(&settings)
}

fn pool(config: &ExecutorConfig) -> PoolingAllocationConfig {
    let instances = config.instances();
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(instances * CORE_INSTANCES)
        .total_memories(instances)
        .total_tables(instances * TABLES)
        .total_stacks(instances)
        .max_memory_size(config.max_memory_bytes.max(BUILD_MEMORY_BYTES) as usize)
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(config.concurrency)
        .decommit_batch_size(DECOMMIT_BATCH);
    if Reset::detect() == Reset::PagemapScan {
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
            .table_keep_resident(TABLE_KEEP_RESIDENT)
            .async_stack_keep_resident(STACK_KEEP_RESIDENT);
    }
    pool
}
