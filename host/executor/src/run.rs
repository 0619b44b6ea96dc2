//! One invocation: a fresh instance, one event, one answer.

use std::{sync::Arc, time::Instant};

use picloud_core::{
    Answer, BuildError, Completion, Effects, ErrorCode, Event, Fault, HostCalls, HttpResponse, ImageKey,
    Invocation, TriggerKind, Usage,
};
use wasmtime::Store;

use crate::{
    bindings::exports::picloud::runtime::handler,
    engine::YIELD_INTERVAL,
    executor::Inner,
    fault,
    images::Image,
    state::{LOG_LINE_BYTES, Run, Shared, State},
};

/// What a host call may carry at once beyond the budget: names, and the framing of an answer.
const HOSTCALL_SLACK: u64 = 64 << 10;

/// Runs an invocation to its end, whatever that is.
pub(crate) async fn execute(
    executor: Arc<Inner>,
    invocation: Invocation,
    host: Arc<dyn HostCalls>,
) -> Completion {
    let started = Instant::now();
    let limits = invocation.limits;
    let shared = Arc::new(Shared::new(host, limits, invocation.egress, invocation.spent, started));
    let script = invocation.script;
    let run = Run { executor, shared: Arc::clone(&shared), script, depth: 0 };
    let work = in_new_instance(run, invocation.image, invocation.event, limits.fuel);
    // The clock is read once; a timer is only set if the run has to wait or yields.
    let outcome = match tokio::time::timeout_at(invocation.deadline.into(), work).await {
        Ok((outcome, _)) => outcome,
        Err(_) => Err(fault::deadline(&limits)),
    };
    complete(&shared, outcome)
}

fn complete(shared: &Shared, mut outcome: Result<Answer, Fault>) -> Completion {
    let mut progress = std::mem::take(&mut *shared.progress());
    let mask = progress.mask();
    let (reads, effects) = progress.kv.finish();
    let effects = if outcome.is_ok() { effects } else { Effects::default() };
    if let Err(fault) = &mut outcome {
        mask.fault(fault);
    }
    mask.logs(&mut progress.logs, shared.limits.log_bytes, LOG_LINE_BYTES);
    let usage = Usage {
        fuel: shared.limits.fuel - progress.fuel_left,
        duration: shared.started.elapsed(),
        host_calls: progress.host_calls,
        memory_bytes: progress.peak_memory,
        called_outside: progress.called_outside,
    };
    Completion { outcome, effects, reads, logs: progress.logs, usage, mask }
}

/// Runs one event in an instance of its own, with `fuel`; gives the outcome and the fuel that is left.
pub(crate) async fn in_new_instance(
    run: Run,
    image: ImageKey,
    event: Event,
    fuel: u64,
) -> (Result<Answer, Fault>, u64) {
    let executor = Arc::clone(&run.executor);
    let shared = Arc::clone(&run.shared);
    let image = match executor.images.mapped(image) {
        Some(image) => image,
        // Boxed, so that every run does not carry room for the making of an image.
        None => match Box::pin(executor.images.find(image, shared.host.sources(image))).await {
            Ok(image) => image,
            Err(error) => return (Err(no_image(error)), fuel),
        },
    };
    let mut metered = Metered { store: Store::new(&executor.engine, State::run(run)), shared };
    let outcome = call(&mut metered.store, &image, event, fuel).await;
    let left = metered.fuel_left();
    (outcome.unwrap_or_else(|error| Err(fault::from_error(&error, &metered.shared.limits))), left)
}

/// A store that leaves behind what it has used, also when its run is given up in the middle of a call.
struct Metered {
    store: Store<State>,
    shared: Arc<Shared>,
}

impl Metered {
    fn fuel_left(&self) -> u64 {
        self.store.get_fuel().unwrap_or(0)
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        let mut progress = self.shared.progress();
        progress.peak_memory = progress.peak_memory.max(self.store.data().memory.peak);
        // A nested run is given what its caller has left, and so always has less.
        let before = progress.fuel_left;
        progress.fuel_left = before.min(self.fuel_left());
        self.shared.spent.add(before - progress.fuel_left);
    }
}

async fn call(
    store: &mut Store<State>,
    image: &Image,
    event: Event,
    fuel: u64,
) -> wasmtime::Result<Result<Answer, Fault>> {
    let crate::state::Work::Run(run) = &store.data().work else { unreachable!("made for a run") };
    let limits = run.shared.limits;
    store.limiter(|state| &mut state.memory);
    store.set_fuel(fuel)?;
    store.fuel_async_yield_interval(Some(YIELD_INTERVAL))?;
    store.set_hostcall_fuel((limits.host_call_bytes.max(limits.response_bytes) + HOSTCALL_SLACK) as usize);

    let instance = image.instantiate(&mut *store).await?;
    let handler = image.handler(&mut *store, &instance)?;
    let answered = handler.call_handle(&mut *store, &to_guest(event)).await?;
    Ok(answered.map(from_guest).map_err(fault::from_guest))
}

fn to_guest(event: Event) -> handler::Event {
    match event {
        Event::Http(request) => handler::Event::Http(handler::HttpRequest {
            id: request.id.to_string(),
            method: request.method,
            path: request.path,
            query: request.query,
            params: request.params,
            headers: request.headers,
            body: request.body.into(),
            ip: request.ip.to_string(),
        }),
        Event::Invoke(event) => handler::Event::Invoke(event),
        Event::Trigger { kind, event } => {
            handler::Event::Trigger(handler::TriggerEvent { kind: trigger_kind(kind), event })
        }
    }
}

const fn trigger_kind(kind: TriggerKind) -> handler::TriggerKind {
    match kind {
        TriggerKind::Kv => handler::TriggerKind::Kv,
        TriggerKind::Cron => handler::TriggerKind::Cron,
        TriggerKind::Queue => handler::TriggerKind::Queue,
        TriggerKind::Topic => handler::TriggerKind::Topic,
        TriggerKind::Email => handler::TriggerKind::Email,
        TriggerKind::DeadLetter => handler::TriggerKind::DeadLetter,
    }
}

fn from_guest(answer: handler::Answer) -> Answer {
    match answer {
        handler::Answer::Http(response) => Answer::Http(HttpResponse {
            status: response.status,
            headers: response.headers,
            body: response.body.into(),
        }),
        handler::Answer::Value(value) => Answer::Value(value),
    }
}

/// A script that compiled when it was uploaded and does not now, or whose sources cannot be had.
fn no_image(error: BuildError) -> Fault {
    match error {
        BuildError::Script { message, position } => {
            Fault { code: ErrorCode::CompileError, message, position }
        }
        BuildError::Host(error) => Fault::new(error.code, error.message),
    }
}

/// What a platform without images does: a fresh instance that parses its script and then runs it.
#[cfg(feature = "bench")]
pub(crate) async fn parse_and_run(
    executor: Arc<Inner>,
    source: &str,
    invocation: Invocation,
    host: Arc<dyn HostCalls>,
) -> Completion {
    let limits = invocation.limits;
    let (egress, spent) = (invocation.egress.clone(), Arc::clone(&invocation.spent));
    let shared = Arc::new(Shared::new(host, limits, egress, spent, Instant::now()));
    let run = Run {
        executor: Arc::clone(&executor),
        shared: Arc::clone(&shared),
        script: invocation.script.clone(),
        depth: 0,
    };
    let state = State::run(run);
    let mut metered = Metered { store: Store::new(&executor.engine, state), shared: Arc::clone(&shared) };
    let store = &mut metered.store;
    let work = async {
        store.limiter(|state| &mut state.memory);
        store.set_fuel(limits.fuel)?;
        store.fuel_async_yield_interval(Some(YIELD_INTERVAL))?;
        let image = executor.images.engine_image();
        let instance = image.instantiate(&mut *store).await?;
        let builder = image.builder(&mut *store, &instance)?;
        if let Err(fault) = builder.call_build(&mut *store, invocation.script.as_str(), source).await? {
            return Ok(Err(fault::from_guest(fault)));
        }
        let handler = image.handler(&mut *store, &instance)?;
        let answered = handler.call_handle(&mut *store, &to_guest(invocation.event)).await?;
        Ok(answered.map(from_guest).map_err(fault::from_guest))
    };
    let outcome = work.await.unwrap_or_else(|error: wasmtime::Error| Err(fault::from_error(&error, &limits)));
    drop(metered);
    complete(&shared, outcome)
}
