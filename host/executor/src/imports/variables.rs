//! `picloud:runtime/variables`.

use std::sync::Arc;

use picloud_core::VariableName;

use super::{Answer, Failure, answer, running};
use crate::{bindings::picloud::runtime::variables::Host, state::State};

impl Host for State {
    async fn get(&mut self, name: String) -> Answer<Option<String>> {
        answer(get(self, name).await)
    }
}

async fn get(state: &mut State, name: String) -> Result<Option<String>, Failure> {
    let shared = Arc::clone(&running(state)?.shared);
    shared.charge_call(name.len())?;
    let value = shared.host.variable(&VariableName::new(name)?).await?;
    shared.charge_bytes(value.as_ref().map_or(0, |value| value.len()))?;
    Ok(value.map(|value| value.as_ref().to_owned()))
}
