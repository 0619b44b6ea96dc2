//! Makes images inside the sandbox, under limits of their own: the only place where scripts are parsed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use picloud_core::{BuildError, ErrorCode, Libraries, Limits, ScriptName, SourcePosition, UseKind, Uses};
use wasmtime::{Engine, Store};

use super::{Image, internal};
use crate::{
    bindings::exports::picloud::runtime::builder,
    engine::YIELD_INTERVAL,
    fault,
    state::{Build, Captured, State, Work},
};

/// Compiling takes about 1.6 M units of fuel per KB of source, measured.
const FUEL: u64 = 2_000_000_000;
const WALL: Duration = Duration::from_secs(5);

/// The whole memory is handed over at once.
const HOSTCALL_BYTES: usize = crate::engine::BUILD_MEMORY_BYTES as usize + (1 << 20);

/// A compiled script.
pub(crate) struct Made {
    pub(crate) captured: Captured,
    pub(crate) handlers: Vec<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) uses: Uses,
    pub(crate) libraries: BTreeMap<ScriptName, Arc<str>>,
}

/// The interpreter's memory after it has made its engine.
pub(crate) async fn engine_image(engine: &Engine, base: &Image) -> wasmtime::Result<Captured> {
    let mut store = store(engine, None)?;
    let instance = base.instantiate(&mut store).await?;
    let builder = base.builder(&mut store, &instance)?;
    builder.call_prepare(&mut store).await?;
    builder.call_snapshot(&mut store).await?;
    let captured = build_of(&mut store).captured.take();
    captured.ok_or_else(|| wasmtime::format_err!("the guest did not hand over its memory"))
}

/// The interpreter's memory after it has compiled a script.
pub(crate) async fn script_image(
    engine: &Engine,
    engine_image: &Image,
    name: &ScriptName,
    source: &str,
    libraries: Arc<dyn Libraries>,
) -> Result<Made, BuildError> {
    let mut store = store(engine, Some(libraries)).map_err(|error| internal(&format!("{error:#}")))?;
    let work = async {
        let instance = engine_image.instantiate(&mut store).await?;
        let builder = engine_image.builder(&mut store, &instance)?;
        let built = builder.call_build(&mut store, name.as_str(), source).await?;
        if built.is_ok() {
            builder.call_snapshot(&mut store).await?;
        }
        Ok(built)
    };
    let result = tokio::time::timeout(WALL, work).await;
    let work = build_of(&mut store);
    if let Some(failure) = work.failure.take() {
        return Err(BuildError::Host(failure));
    }
    let built = match result {
        Err(_) => return Err(too_much(&format!("compiling took longer than {} s", WALL.as_secs()))),
        Ok(Err(error)) => return Err(stopped(&error)),
        Ok(Ok(Err(fault))) => return Err(refused(fault)),
        Ok(Ok(Ok(built))) => built,
    };
    let captured = work.captured.take().ok_or_else(|| internal("the guest did not hand over its memory"))?;
    Ok(Made {
        captured,
        handlers: built.handlers,
        warnings: built.warnings,
        uses: uses(built.uses),
        libraries: std::mem::take(&mut work.imported),
    })
}

fn uses(reported: Vec<builder::Used>) -> Uses {
    let mut uses = Uses::default();
    for builder::Used { kind, names, any } in reported {
        let kind = match kind {
            builder::UseKind::Kv => UseKind::Kv,
            builder::UseKind::Secrets => UseKind::Secrets,
            builder::UseKind::Env => UseKind::Env,
            builder::UseKind::Scripts => UseKind::Scripts,
            builder::UseKind::Hosts => UseKind::Hosts,
            builder::UseKind::Files => UseKind::Files,
            builder::UseKind::Queues => UseKind::Queues,
            builder::UseKind::Topics => UseKind::Topics,
            builder::UseKind::Email => UseKind::Email,
        };
        for name in names {
            uses.add(kind, name);
        }
        if any {
            uses.add_any(kind);
        }
    }
    uses
}

fn store(engine: &Engine, libraries: Option<Arc<dyn Libraries>>) -> wasmtime::Result<Store<State>> {
    let mut store = Store::new(engine, State::build(libraries));
    store.limiter(|state| &mut state.memory);
    store.set_fuel(FUEL)?;
    store.fuel_async_yield_interval(Some(YIELD_INTERVAL))?;
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    Ok(store)
}

fn build_of(store: &mut Store<State>) -> &mut Build {
    match &mut store.data_mut().work {
        Work::Build(build) => build,
        Work::Run(_) => unreachable!("this store was made for a build"),
    }
}

fn refused(fault: crate::bindings::picloud::runtime::types::Fault) -> BuildError {
    let fault = fault::from_guest(fault);
    script_error(fault.message, fault.position)
}

/// A limit of building is a fault of the script: it is too large or too deeply nested to be compiled.
fn stopped(error: &wasmtime::Error) -> BuildError {
    let fault = fault::from_error(error, &Limits { fuel: FUEL, ..Limits::default() });
    match fault.code {
        ErrorCode::OutOfFuel => too_much("compiling it takes too much work"),
        ErrorCode::OutOfMemory => too_much("compiling it takes too much memory"),
        ErrorCode::StackOverflow | ErrorCode::GuestPanic => too_much("it is nested too deeply"),
        _ => internal(&format!("{error:#}")),
    }
}

fn too_much(problem: &str) -> BuildError {
    script_error(format!("the script cannot be compiled: {problem}; split it up"), None)
}

fn script_error(message: String, position: Option<SourcePosition>) -> BuildError {
    BuildError::Script { message, position }
}
