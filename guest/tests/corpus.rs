//! Runs every script case natively. The executor's tests run the same cases in the sandbox.

use std::{collections::BTreeMap, path::Path, rc::Rc, thread};

use picloud_guest::{Answer, Event, Fault, HttpRequest, Interpreter};
use support::{
    case::{self, Actual, ActualResult, Case, CaseEvent},
    host::MemoryHost,
};

mod support;

/// Debug builds of the interpreter take far more stack than the sandbox's code.
const STACK_BYTES: usize = 256 << 20;

#[test]
fn every_case_ends_as_it_says() {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(run_all);
    let failures = thread.expect("a thread").join().expect("no case panics");
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_script() {
    let mut interpreter = Interpreter::new(MemoryHost::new(BTreeMap::new(), BTreeMap::new()));
    interpreter.build("main", "\u{feff}1 + 1").expect("it compiles");
    let answer = interpreter.handle(Event::Invoke("null".into())).expect("it runs");
    assert_eq!(answer, Answer::Value("2".into()));
}

fn run_all() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let cases = case::load(&folder).expect("the cases are readable");
    let libraries = case::load_libraries(&folder).expect("the libraries are readable");

    let native = cases.iter().filter(|case| !case.sandbox_only);
    let checked = native.map(|case| (case, case.check(&run(case, &libraries))));
    checked.filter_map(|(case, result)| Some(format!("{}: {}", case.name, result.err()?))).collect()
}

fn run(case: &Case, libraries: &BTreeMap<String, String>) -> Actual {
    let host = MemoryHost::new(case.kv.clone(), libraries.clone());
    let result = match answer(case, &host) {
        Ok(Answer::Http(response)) => {
            ActualResult::Http { status: response.status, headers: response.headers, body: response.body }
        }
        Ok(Answer::Value(value)) => ActualResult::Value(value),
        Err(fault) => ActualResult::Fault {
            code: fault.code,
            message: fault.message,
            position: fault.position.map(|at| format!("{}@{}:{}", at.script, at.line, at.column)),
        },
    };
    Actual { result, kv: host.kv.borrow().clone(), logs: host.logs.borrow().clone() }
}

fn answer(case: &Case, host: &Rc<MemoryHost>) -> Result<Answer, Fault> {
    let mut interpreter = Interpreter::new(host.clone());
    // Whatever keeps a script from being compiled is the author's compile error to the platform.
    interpreter
        .build("main", &case.source)
        .map_err(|fault| Fault { code: "compile_error".into(), ..fault })?;
    interpreter.handle(match &case.event {
        CaseEvent::Invoke(text) => Event::Invoke(text.clone()),
        CaseEvent::Http(request) => Event::Http(HttpRequest {
            id: "00000000-0000-4000-8000-000000000001".into(),
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            params: request.params.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            ip: "192.0.2.7".into(),
        }),
    })
}
