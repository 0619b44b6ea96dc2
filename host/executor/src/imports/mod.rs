//! Host functions: everything the guest can reach. A function here never takes an app from the guest; whose
//! data it works on is decided by the ports that the invocation came with.

mod apps;
mod events;
mod files;
mod http;
mod images;
mod kv;
mod logging;
mod secrets;
mod variables;
mod wasi;

use picloud_core::{ErrorCode, HostError, NameError};
use wasmtime::{
    Engine, Result,
    component::{HasSelf, Linker},
};

use crate::{
    bindings::{picloud::runtime, wasi as wasi_bindings},
    fault::{Stop, to_guest},
    state::{Build, Run, State, Work},
};

/// What a host call can end in: an answer, an error that the script can catch, or the end of the invocation.
enum Failure {
    Refused(HostError),
    Stop(Stop),
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::Refused(error)
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        Self::Refused(HostError::new(ErrorCode::Invalid, error.to_string()))
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

type Answer<T> = Result<Result<T, runtime::types::HostError>>;

fn answer<T>(result: Result<T, Failure>) -> Answer<T> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Failure::Refused(error)) => Ok(Err(to_guest(error))),
        Err(Failure::Stop(stop)) => Err(stop.into()),
    }
}

/// A linker with every import but the image.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    runtime::events::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    runtime::http::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    runtime::kv::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    runtime::files::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    runtime::logging::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    runtime::secrets::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    runtime::variables::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
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
