//! Between the types of the bindings and the interpreter's own.

use super::bindings::{
    exports::picloud::runtime::{builder, handler},
    picloud::runtime::types,
};
use crate::{Answer, Built, Event, Fault, HostError, HttpRequest, TriggerKind, UseKind, Used};

pub(super) fn event(event: handler::Event) -> Event {
    match event {
        handler::Event::Invoke(text) => Event::Invoke(text),
        handler::Event::Trigger(trigger) => Event::Trigger { kind: kind(trigger.kind), event: trigger.event },
        handler::Event::Http(http) => Event::Http(HttpRequest {
            id: http.id,
            method: http.method,
            path: http.path,
            query: http.query,
            params: http.params,
            headers: http.headers,
            body: http.body,
            ip: http.ip,
        }),
    }
}

const fn kind(kind: handler::TriggerKind) -> TriggerKind {
    match kind {
        handler::TriggerKind::Kv => TriggerKind::Kv,
        handler::TriggerKind::Cron => TriggerKind::Cron,
        handler::TriggerKind::Queue => TriggerKind::Queue,
        handler::TriggerKind::Topic => TriggerKind::Topic,
        handler::TriggerKind::Email => TriggerKind::Email,
        handler::TriggerKind::DeadLetter => TriggerKind::DeadLetter,
    }
}

pub(super) fn answer(answer: Answer) -> handler::Answer {
    match answer {
        Answer::Value(text) => handler::Answer::Value(text),
        Answer::Http(response) => handler::Answer::Http(handler::HttpResponse {
            status: response.status,
            headers: response.headers,
            body: response.body,
        }),
    }
}

pub(super) fn built(built: Built) -> builder::Built {
    builder::Built {
        handlers: built.handlers,
        imports: built.imports,
        warnings: built.warnings,
        uses: built.uses.into_iter().map(used).collect(),
    }
}

fn used((kind, used): (UseKind, Used)) -> builder::Used {
    let kind = match kind {
        UseKind::Kv => builder::UseKind::Kv,
        UseKind::Secrets => builder::UseKind::Secrets,
        UseKind::Env => builder::UseKind::Env,
        UseKind::Scripts => builder::UseKind::Scripts,
        UseKind::Hosts => builder::UseKind::Hosts,
        UseKind::Files => builder::UseKind::Files,
        UseKind::Queues => builder::UseKind::Queues,
        UseKind::Topics => builder::UseKind::Topics,
        UseKind::Email => builder::UseKind::Email,
    };
    builder::Used { kind, names: used.names.into_iter().collect(), any: used.any }
}

pub(super) fn fault(fault: Fault) -> types::Fault {
    let position = fault.position.map(|position| types::Position {
        script: position.script,
        line: position.line,
        column: position.column,
        source_line: position.source_line,
    });
    types::Fault { code: fault.code, message: fault.message, position }
}

pub(super) fn host_error(error: types::HostError) -> HostError {
    HostError { code: error.code, message: error.message }
}
