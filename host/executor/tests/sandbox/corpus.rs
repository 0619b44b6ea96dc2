//! The interpreter's script cases (`guest/tests/scripts`), each in the sandbox with default limits. The same
//! files run natively in the guest's own tests.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use picloud_core::{
    Answer, BuildError, CollectionName, Emitted, Event, Fault, HttpRequest, KvEntry, KvId, KvKey, KvVersion,
    Limits, MessageOptions, RequestId, SourcePosition,
};

use crate::support::{TestApp, script_name};

#[expect(unreachable_pub, reason = "the file is a module of the guest's tests as well")]
#[path = "../../../../guest/tests/support/case.rs"]
pub(crate) mod case;

use case::{Actual, ActualResult, Case, CaseEvent};

#[test]
fn every_case_ends_in_the_sandbox_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/tests/scripts");
    let cases = case::load(&folder).expect("the cases are readable");
    let libraries = case::load_libraries(&folder).expect("the libraries are readable");
    assert!(cases.len() >= 100, "only {} cases", cases.len());
    let checked = cases.iter().map(|case| (case, case.check(&run(case, &libraries))));
    let failures: Vec<_> =
        checked.filter_map(|(case, result)| Some(format!("{}: {}", case.name, result.err()?))).collect();
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

fn run(case: &Case, libraries: &BTreeMap<String, String>) -> Actual {
    let app = Arc::new(TestApp::default());
    for (name, source) in libraries {
        app.scripts.lock().unwrap().insert(script_name(name), source.as_str().into());
    }
    for name in libraries.keys().filter(|name| case.source.contains(name.as_str())) {
        // Some libraries are there to be refused; what a case does with them is the case's to say.
        drop(app.deploy(name));
    }
    for ((collection, key), value) in &case.kv {
        let entry = KvEntry { value: value.as_str().into(), version: KvVersion::from_i64(1) };
        app.data.lock().unwrap().insert(id(collection, key), entry);
    }
    app.scripts.lock().unwrap().insert(script_name("main"), case.source.as_str().into());
    let completion = match app.deploy("main") {
        Ok(_) => app.run("main", event(case), Limits::default()),
        Err(BuildError::Script { message, position }) => {
            return actual(fault("compile_error".into(), message, position), &app, Vec::new(), Vec::new());
        }
        Err(BuildError::Host(error)) => panic!("{}: {error}", case.name),
    };
    let logs = completion.logs.lines.iter();
    let logs = logs.map(|line| (line.level.as_str().to_owned(), line.message.clone())).collect();
    let result = match completion.outcome {
        Ok(Answer::Http(response)) => ActualResult::Http {
            status: response.status,
            headers: response.headers,
            body: response.body.into(),
        },
        Ok(Answer::Value(value)) => ActualResult::Value(value),
        Err(Fault { code, message, position }) => fault(code.to_string(), message, position),
    };
    let sent = completion.effects.events.iter().map(|event| sent(&event.what)).collect();
    app.commit(completion.effects);
    actual(result, &app, logs, sent)
}

fn sent(event: &Emitted) -> String {
    match event {
        Emitted::Message { queue, body, options } => {
            let MessageOptions { delay, priority, dedupe_key, group } = options;
            let number = |number: i128| if number == 0 { String::new() } else { number.to_string() };
            let fields = [
                ("delay_ms", &*number(delay.as_millis().cast_signed())),
                ("priority", &*number((*priority).into())),
                ("dedupe_key", dedupe_key.as_ref().map_or("", |key| key.as_str())),
                ("group", group.as_ref().map_or("", |key| key.as_str())),
            ];
            case::sent(&format!("queue {queue} {body}"), &fields)
        }
        Emitted::Publication { topic, body } => case::sent(&format!("topic {topic} {body}"), &[]),
        Emitted::Mail(mail) => {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let fields = [
                ("to", &*mail.to.join(",")),
                ("cc", &*mail.cc.join(",")),
                ("bcc", &*mail.bcc.join(",")),
                ("reply_to", &*text(&mail.reply_to)),
                ("from_name", &*text(&mail.from_name)),
                ("subject", &*mail.subject),
                ("text", &*text(&mail.text)),
                ("html", &*text(&mail.html)),
                ("in_reply_to", &*text(&mail.in_reply_to)),
            ];
            case::sent("email", &fields)
        }
    }
}

fn actual(result: ActualResult, app: &TestApp, logs: Vec<(String, String)>, sent: Vec<String>) -> Actual {
    let data = app.data.lock().unwrap();
    let kv = data.iter().map(|(id, entry)| {
        ((id.collection.to_string(), id.key.to_string()), entry.value.as_ref().to_owned())
    });
    Actual { result, kv: kv.collect(), logs, sent }
}

fn fault(code: String, message: String, position: Option<SourcePosition>) -> ActualResult {
    let position = position.map(|at| format!("{}@{}:{}", at.script, at.line, at.column));
    ActualResult::Fault { code, message, position }
}

fn id(collection: &str, key: &str) -> KvId {
    KvId { collection: CollectionName::new(collection).unwrap(), key: KvKey::new(key).unwrap() }
}

fn event(case: &Case) -> Event {
    match &case.event {
        CaseEvent::Invoke(text) => Event::Invoke(text.clone()),
        CaseEvent::Trigger(kind, event) => {
            Event::Trigger { kind: kind.parse().expect("a kind of trigger"), event: event.clone() }
        }
        CaseEvent::Http(request) => Event::Http(HttpRequest {
            id: RequestId::generate(),
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            params: request.params.clone(),
            headers: request.headers.clone(),
            body: request.body.clone().into(),
            ip: [192, 0, 2, 7].into(),
        }),
    }
}
