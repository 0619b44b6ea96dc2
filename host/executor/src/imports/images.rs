//! `picloud:runtime/images`: for the builder only.

use std::sync::Arc;

use picloud_core::{HostError, ScriptName};
use wasmtime::Result;

use super::building;
use crate::{
    bindings::picloud::runtime::{images::Host, types},
    fault::to_guest,
    state::{Captured, State},
};

impl Host for State {
    async fn library(&mut self, name: String) -> Result<Result<Option<String>, types::HostError>> {
        let found = library(self, name).await;
        Ok(found.map(|source| source.map(|source| source.as_ref().to_owned())).map_err(to_guest))
    }

    async fn capture(&mut self, offset: u32, memory: Vec<u8>) -> Result<()> {
        let build = building(self)?;
        build.captured = Some(Captured { offset, memory });
        Ok(())
    }
}

async fn library(state: &mut State, name: String) -> Result<Option<Arc<str>>, HostError> {
    let build = building(state)?;
    let Some(libraries) = build.libraries.clone() else { return Ok(None) };
    // What is not a script's name, a path for example, is not the name of a library either.
    let Ok(name) = ScriptName::new(name) else { return Ok(None) };
    match libraries.library(&name).await {
        Ok(Some(source)) => {
            build.imported.insert(name, Arc::clone(&source));
            Ok(Some(source))
        }
        Ok(None) => Ok(None),
        Err(error) => {
            build.failure = Some(error.clone());
            Err(error)
        }
    }
}
