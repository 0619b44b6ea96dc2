//! Runs every script case natively. The executor's tests run the same cases in the sandbox.

use std::{collections::BTreeMap, path::Path, rc::Rc, thread};

use picloud_guest::{Answer, Event, Fault, HttpRequest, Interpreter, TriggerKind};
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

/// What a newcomer writes, and a part of what the error must say.
const OF_OTHER_LANGUAGES: &[(&str, &str)] = &[
    ("function f() {}", "functions are written `fn name(x)"),
    ("const f = function(x) { x };", "functions are written `fn name(x)"),
    ("def f():\n  1", "functions are written `fn name(x)"),
    ("if true and false { 1 }", "write `a && b`"),
    ("let c = true or false;", "write `a || b`"),
    ("if not true { 1 }", "write `!x`"),
    ("not(true)", "write `!x`"),
    ("{a: 1}", "a map begins with `#{`, as in `#{ a: 1 }`"),
    ("return {\n  \"a b\": 1\n};", "as in `#{ \"a b\": 1 }`"),
    ("json({ status: 200, body: 1 })", "as in `#{ status: 1 }`"),
    ("if true { 1 } elif false { 2 }", "write `else if`"),
    ("if true { 1 }\nelif (false) { 2 }", "write `else if`"),
    ("if true:\n  1", "a block stands in braces"),
    ("if (true) then 1", "a block stands in braces"),
    ("None", "the empty value is `()`"),
    ("let x = null;", "the empty value is `()`"),
    ("let x: int = 1;", "without a type"),
    ("fn f(x: int) { x }", "without a type"),
    ("fn f(x) -> int { x }", "does not say the type"),
    ("1 === 1", "write `==`"),
    ("1 !== 1", "write `!=`"),
    ("x := 1", "write `let x = 1`"),
    ("await f()", "every call waits"),
    ("async fn f() {}", "every call waits"),
    ("lambda x: x + 1", "`|x| x + 1`"),
    ("[1].map(x => x + 1)", "`|x| x + 1`"),
    ("foreach x in [1] { x }", "write `for item in list"),
    ("foreach (x in [1]) { x }", "write `for item in list"),
    ("for (let i = 0; i < 3; i++) {}", "write `for item in list"),
    ("for x of [1] {}", "write `for item in list"),
    ("print \"x\"", "called with parentheses"),
    ("echo \"x\";", "write `print(text)`"),
    ("import x from \"y\";", "write `import \"name\" as alias`"),
    ("raise \"x\";", "write `throw value`"),
    ("class A {}", "use maps"),
    ("fetch(\"http://example.org\")", "write `http::get(url)`"),
    ("str(1)", "write `x.to_string()`"),
    ("1.toString()", "write `x.to_string()`"),
    ("\"a\".toUpperCase()", "write `text.to_upper()`"),
    ("\"a\".toLowerCase()", "write `text.to_lower()`"),
    ("setTimeout(1, 5)", "`queue::send(queue, body, #{ delay: 5 })`"),
    ("sendMail(1)", "write `email::send("),
    ("queue.send(\"jobs\", 1)", "as in `queue::send`"),
    ("queue::push(\"jobs\", 1)", "`queue` has send"),
    ("topics::publish(\"a\", 1)", "is `topic` meant?"),
    ("pubsub::publish(\"a\", 1)", "write `topic::publish(topic, body)`"),
    ("mail::send(#{})", "is `email` meant?"),
    ("cron::every(5)", "calls `fn on_cron(event)`"),
    ("JSON.parse(\"1\")", "use `json::parse`"),
    ("JSON.stringify(1)", "`json::stringify`"),
];

#[test]
fn what_is_of_another_language_is_explained() {
    for (source, expected) in OF_OTHER_LANGUAGES {
        let mut interpreter = Interpreter::new(MemoryHost::new(BTreeMap::new(), BTreeMap::new()));
        let fault = interpreter
            .build("main", source)
            .and_then(|_| interpreter.handle(Event::Invoke("null".into())))
            .expect_err(source);
        assert!(fault.message.contains(expected), "{source}\n{}", fault.message);
    }
}

/// What they say to write instead is there.
#[test]
fn what_an_explanation_names_exists() {
    let source = r#"
        let text = " aBc "; text.trim(); text.replace("B", "b");
        let list = [1, 2]; list.push(3); list.append([4]); list.insert(0, 0); list.for_each(|| print(this));
        [text.to_upper(), text.to_lower(), text.starts_with("a"), text.ends_with("c"), text.sub_string(1, 1), text[0],
         list.len(), list.contains(2), list.index_of(2), list.extract(1, 2), list.some(|x| x > 1), list.all(|x| x > 1),
         #{ a: 1 }.contains("a"), #{ a: 1 }.keys(), parse_int("7"), 1.5.to_int(), parse_float("1.5"), 1.to_float(),
         1.to_string(), type_of(1), 1.5.floor(), [1] + [2], #{ a: 1 } + #{ b: 2 }, #{ a: 1 }.remove("a")]
    "#;
    let mut interpreter = Interpreter::new(MemoryHost::new(BTreeMap::new(), BTreeMap::new()));
    interpreter.build("main", source).expect("it compiles");
    interpreter.handle(Event::Invoke("null".into())).expect("it runs");
}

#[test]
fn a_variable_with_a_word_of_another_language_is_none() {
    for source in
        ["let from = 1; let of = from; of + from", "let function = 1;\nfunction", "let def = 1; def"]
    {
        let mut interpreter = Interpreter::new(MemoryHost::new(BTreeMap::new(), BTreeMap::new()));
        interpreter.build("main", source).expect("it compiles");
        interpreter.handle(Event::Invoke("null".into())).expect("it runs");
    }
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
    Actual {
        result,
        kv: host.kv.borrow().clone(),
        logs: host.logs.borrow().clone(),
        sent: host.sent.borrow().clone(),
    }
}

fn answer(case: &Case, host: &Rc<MemoryHost>) -> Result<Answer, Fault> {
    let mut interpreter = Interpreter::new(host.clone());
    // Whatever keeps a script from being compiled is the author's compile error to the platform.
    interpreter
        .build("main", &case.source)
        .map_err(|fault| Fault { code: "compile_error".into(), ..fault })?;
    interpreter.handle(match &case.event {
        CaseEvent::Invoke(text) => Event::Invoke(text.clone()),
        CaseEvent::Trigger(kind, event) => {
            let kind = match kind.as_str() {
                "kv" => TriggerKind::Kv,
                "cron" => TriggerKind::Cron,
                "queue" => TriggerKind::Queue,
                "topic" => TriggerKind::Topic,
                "email" => TriggerKind::Email,
                "dead_letter" => TriggerKind::DeadLetter,
                other => panic!("{}: {other} is no kind of trigger", case.name),
            };
            Event::Trigger { kind, event: event.clone() }
        }
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
