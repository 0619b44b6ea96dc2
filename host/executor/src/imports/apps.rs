//! `picloud:runtime/apps`: one script calls another of the same app.

use std::sync::Arc;

use picloud_core::{Answer, ErrorCode, Event, Fault, HostError, ScriptName};
use wasmtime::{Result, StoreContextMut, component::Linker};

use super::running;
use crate::{
    ExecutorConfig,
    bindings::picloud::runtime::types,
    fault::{Stop, to_guest},
    run,
    state::{Run, State},
};

type Answered = Result<Result<String, types::HostError>>;

/// Added by hand, since the call works on the store: fuel is handed to the nested instance and taken back.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    linker.instance("picloud:runtime/apps@0.1.0")?.func_wrap_async(
        "invoke",
        |store: StoreContextMut<'_, State>, (script, event): (String, String)| {
            Box::new(async move { Ok((invoke(store, script, event).await?,)) })
        },
    )
}

async fn invoke(mut store: StoreContextMut<'_, State>, script: String, event: String) -> Answered {
    let run = match running(store.data_mut()) {
        Ok(run) => run,
        Err(error) => return Ok(Err(to_guest(error))),
    };
    let (executor, shared, depth) = (Arc::clone(&run.executor), Arc::clone(&run.shared), run.depth + 1);
    shared.charge_call(script.len() + event.len())?;
    if depth > ExecutorConfig::MAX_INVOKE_DEPTH {
        let message = format!("scripts may call each other {} deep", ExecutorConfig::MAX_INVOKE_DEPTH);
        return Ok(Err(to_guest(HostError::new(ErrorCode::InvokeDepth, message))));
    }
    let callee = match ScriptName::new(script) {
        Ok(name) => shared.host.callee(&name).await.and_then(|callee| {
            let missing = || HostError::new(ErrorCode::ScriptNotFound, format!("no script is named {name}"));
            callee.ok_or_else(missing)
        }),
        Err(error) => Err(HostError::new(ErrorCode::Invalid, error.to_string())),
    };
    let callee = match callee {
        Ok(callee) => callee,
        Err(error) => return Ok(Err(to_guest(error))),
    };

    // What a failed call has written must not be committed by a caller that catches the failure.
    let savepoint = shared.progress().kv.savepoint();
    let fuel = store.get_fuel()?;
    let nested = Run { executor, shared: Arc::clone(&shared), script: callee.name.clone(), depth };
    // Boxed: the future of a nested run would otherwise contain itself.
    let (outcome, left) =
        Box::pin(run::in_new_instance(nested, callee.image, Event::Invoke(event), fuel)).await;
    store.set_fuel(left)?;
    match outcome {
        Ok(Answer::Value(value)) => {
            shared.charge_bytes(value.len())?;
            Ok(Ok(value))
        }
        Ok(Answer::Http(_)) => Err(Stop::Nested(wrong_answer()).into()),
        Err(fault) if is_shared_limit(fault.code) => Err(Stop::Nested(fault).into()),
        Err(fault) => {
            shared.progress().kv.roll_back(savepoint);
            Ok(Err(to_guest(HostError::new(fault.code, describe(&callee.name, &fault)))))
        }
    }
}

/// Budgets that are used up for the caller as well.
fn is_shared_limit(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::OutOfFuel | ErrorCode::HostCallBudget | ErrorCode::Internal)
}

fn describe(callee: &ScriptName, fault: &Fault) -> String {
    match &fault.position {
        Some(at) => format!("{callee} failed at {}:{}:{}: {}", at.script, at.line, at.column, fault.message),
        None => format!("{callee} failed: {}", fault.message),
    }
}

fn wrong_answer() -> Fault {
    Fault::new(ErrorCode::GuestPanic, "the interpreter answered a call with a response")
}
