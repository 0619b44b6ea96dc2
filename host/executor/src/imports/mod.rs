//! Host functions: everything the guest can reach. A function here never takes an app from the guest; whose
//! data it works on is decided by the ports that the invocation came with.

mod apps;
mod images;
mod kv;
mod logging;
mod wasi;

use picloud_core::{ErrorCode, HostError};
use wasmtime::{
    Engine, Result,
    component::{HasSelf, Linker},
};

use crate::{
    bindings::{picloud::runtime, wasi as wasi_bindings},
    state::{Build, Run, State, Work},
};

/// A linker with every import but the image.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    runtime::kv::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    runtime::logging::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    runtime::images::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    wasi_bindings::clocks::wall_clock::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    wasi_bindings::random::random::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    apps::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// The running invocation, or the error that a script's top level gets while its image is built.
fn running(state: &mut State) -> Result<&Run, HostError> {
    match &state.work {
        Work::Run(run) => Ok(run),
        Work::Build(_) => {
            let message = "this is not available while the script is compiled";
            Err(HostError::new(ErrorCode::NotAvailableAtBuild, message))
        }
    }
}

/// The build in progress, or the error for a running script.
fn building(state: &mut State) -> Result<&mut Build, HostError> {
    match &mut state.work {
        Work::Build(build) => Ok(build),
        Work::Run(_) => {
            let message = "this is only available while the script is compiled";
            Err(HostError::new(ErrorCode::Invalid, message))
        }
    }
}
