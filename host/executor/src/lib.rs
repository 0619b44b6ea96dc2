//! The sandbox: every invocation runs in a fresh, pooled WebAssembly instance of the Rhai interpreter.
//!
//! The interpreter's code is compiled once per machine, in a child process. Each script has an *image*, the
//! interpreter's memory just after it has compiled that script; an instance is the shared code over a
//! copy-on-write mapping of the image (docs/adr/0001-script-images.md).
//!
//! This is the only crate that knows wasmtime. It knows no database, no network and no secret: what an
//! invocation needs from outside goes through the ports of `picloud_core`.

mod bindings;
#[cfg(test)]
mod canary;
mod code;
mod config;
mod engine;
mod executor;
mod fault;
mod images;
mod imports;
mod run;
mod state;
mod trusted;

pub use code::{embedded_guest, precompile};
pub use config::{Compiler, ExecutorConfig};
pub use engine::{PoolMode, Reset};
pub use executor::{Executor, StartError};
