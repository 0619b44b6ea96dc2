//! `picloud:runtime/secrets`: what is given is remembered, so that it can be masked.

use std::sync::Arc;

use picloud_core::SecretName;

use super::{Answer, Failure, answer, running};
use crate::{bindings::picloud::runtime::secrets::Host, state::State};

impl Host for State {
    async fn get(&mut self, name: String) -> Answer<String> {
        answer(get(self, name).await)
    }
}

async fn get(state: &mut State, name: String) -> Result<String, Failure> {
    let run = running(state)?;
    let (shared, script) = (Arc::clone(&run.shared), run.script.clone());
    shared.charge_call(name.len())?;
    let name = SecretName::new(name)?;
    let value = shared.host.secret(&script, &name).await?;
    // Before it is given: whatever stops the run from here on is masked.
    shared.progress().remember(name, &value);
    shared.charge_bytes(value.expose().len())?;
    Ok(value.expose().to_owned())
}
