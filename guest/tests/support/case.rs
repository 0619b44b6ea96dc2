//! Script cases: a `.rhai` file whose first comment lines say what it is given and what must come of it.
//!
//! The same cases run natively (`guest/tests/corpus.rs`) and in the sandbox (the executor's tests include this file by
//! path), so that it depends on neither crate. Directives, one a line, before anything else in the file:
//!
//! ```text
//! // request: POST /users/7?a=1     default: GET /
//! // send: name: value              a request header; repeatable
//! // param: id = 7                  a parameter of the route; repeatable
//! // body: text                     or `body-escaped: text` with the escapes \r \n \t \\ \xNN
//! // invoke: JSON                   a direct call instead of a request
//! // event: KIND JSON               an event of a trigger: kv, cron, queue, topic, email or dead_letter
//! // kv: collection/key = JSON      data before; repeatable
//!
//! // answer: 200 text/plain; charset=utf-8      status, and content type if there is one
//! // out: text                      or `out-escaped: text`: the body; any if there is none
//! // header: name: value            a response header; repeatable
//! // value: JSON                    the answer to a direct call
//! // error: CODE [SCRIPT@]LINE:COLUMN text      text is a part of the message; `-` for any position
//! // kv-after: collection/key = JSON            or `collection/key absent`; repeatable
//! // sends: queue NAME JSON name=value, topic NAME JSON, email name=value, or `nothing`: all that is sent, in order;
//! //        not checked if there is none; repeatable
//! // log: LEVEL text                all lines that are logged, in order; none are checked if there is none
//! // sandbox-only                   only the sandbox can end it
//! // generate: 9 x ( .. 1 .. 9 x )  more source, added as a last line: `{i}` counts the repetitions from 0
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its path below the folder of cases, without `.rhai`.
    pub name: String,
    /// The whole file, directives included: positions count its lines.
    pub source: String,
    /// What the script is given.
    pub event: CaseEvent,
    /// Data before.
    pub kv: Data,
    /// Whether only the sandbox can run it.
    pub sandbox_only: bool,
    expected: Expected,
}

/// JSON text by collection and key.
pub type Data = BTreeMap<(String, String), String>;

/// What a script is given.
#[derive(Clone, Debug)]
pub enum CaseEvent {
    /// A request.
    Http(CaseRequest),
    /// A direct call with JSON.
    Invoke(String),
    /// An event of a trigger: its kind, and JSON.
    Trigger(String, String),
}

/// A request.
#[derive(Clone, Debug)]
pub struct CaseRequest {
    pub method: String,
    pub path: String,
    pub query: String,
    pub params: Vec<(String, String)>,
    /// `name: value\n` lines.
    pub headers: String,
    pub body: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub struct Actual {
    pub result: ActualResult,
    /// Data after.
    pub kv: Data,
    /// Level and text.
    pub logs: Vec<(String, String)>,
    /// What was sent, as [`sent`] writes it.
    pub sent: Vec<String>,
}

/// How it ended.
#[derive(Debug)]
pub enum ActualResult {
    Http {
        status: i64,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    Value(String),
    /// The position is `SCRIPT@LINE:COLUMN`.
    Fault {
        code: String,
        message: String,
        position: Option<String>,
    },
}

#[derive(Clone, Debug, Default)]
struct Expected {
    answer: Option<(i64, Option<String>)>,
    out: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
    value: Option<String>,
    error: Option<ExpectedError>,
    kv: Vec<((String, String), Option<String>)>,
    logs: Option<Vec<(String, String)>>,
    sent: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
struct ExpectedError {
    code: String,
    position: Option<String>,
    text: String,
}

/// Reads every case below `folder`, sorted by name. The folder `libraries` holds scripts that cases import.
pub fn load(folder: &Path) -> io::Result<Vec<Case>> {
    let mut files = Vec::new();
    find_scripts(folder, &mut files)?;
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let name = name_below(folder, &file);
        if !name.starts_with("libraries/") {
            let source = fs::read_to_string(&file)?;
            let case = Case::parse(&name, &source);
            cases.push(case.map_err(|problem| io::Error::other(format!("{name}: {problem}")))?);
        }
    }
    Ok(cases)
}

/// The scripts that cases import and call, by name.
pub fn load_libraries(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let folder = folder.join("libraries");
    let mut files = Vec::new();
    find_scripts(&folder, &mut files)?;
    files.iter().map(|file| Ok((name_below(&folder, file), fs::read_to_string(file)?))).collect()
}

fn find_scripts(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_scripts(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rhai") {
            found.push(path);
        }
    }
    Ok(())
}

fn name_below(folder: &Path, file: &Path) -> String {
    let below = file.strip_prefix(folder).unwrap_or(file).with_extension("");
    below.to_string_lossy().replace('\\', "/")
}

impl Case {
    /// Reads the directives of one file.
    pub fn parse(name: &str, source: &str) -> Result<Self, String> {
        let request = CaseRequest {
            method: "GET".into(),
            path: "/".into(),
            query: String::new(),
            params: Vec::new(),
            headers: String::new(),
            body: Vec::new(),
        };
        let mut case = Self {
            name: name.into(),
            source: source.into(),
            event: CaseEvent::Http(request),
            kv: Data::new(),
            sandbox_only: false,
            expected: Expected::default(),
        };
        for line in source.lines().map_while(|line| line.strip_prefix("// ")) {
            case.directive(line)?;
        }
        let expected = &case.expected;
        let outcomes = [expected.answer.is_some(), expected.value.is_some(), expected.error.is_some()];
        if outcomes.iter().filter(|given| **given).count() != 1 {
            return Err("exactly one of answer, value and error is needed".into());
        }
        Ok(case)
    }

    fn directive(&mut self, line: &str) -> Result<(), String> {
        let (name, rest) = line.split_once(": ").unwrap_or((line, ""));
        match (name, &mut self.event) {
            ("request", CaseEvent::Http(request)) => {
                let (method, target) = split(rest, " ")?;
                let (path, query) = target.split_once('?').unwrap_or((&target, ""));
                (request.method, request.path, request.query) = (method, path.into(), query.into());
            }
            ("send", CaseEvent::Http(request)) => {
                request.headers.push_str(rest);
                request.headers.push('\n');
            }
            ("param", CaseEvent::Http(request)) => request.params.push(split(rest, " = ")?),
            ("body", CaseEvent::Http(request)) => request.body = rest.into(),
            ("body-escaped", CaseEvent::Http(request)) => request.body = unescape(rest)?,
            ("invoke", event) => *event = CaseEvent::Invoke(rest.into()),
            ("event", event) => {
                let (kind, json) = split(rest, " ")?;
                *event = CaseEvent::Trigger(kind, json);
            }
            ("kv", _) => {
                let (id, value) = split(rest, " = ")?;
                self.kv.insert(split(&id, "/")?, value);
            }
            ("sandbox-only", _) => self.sandbox_only = true,
            ("generate", _) => self.source.push_str(&generate(rest)?),
            _ => return self.expected.directive(name, rest),
        }
        Ok(())
    }

    /// Compares; the error says what differs.
    pub fn check(&self, actual: &Actual) -> Result<(), String> {
        let expected = &self.expected;
        match &actual.result {
            ActualResult::Http { status, headers, body } => expected.check_answer(*status, headers, body)?,
            ActualResult::Value(value) => same("value", expected.value.as_ref(), Some(value))?,
            ActualResult::Fault { code, message, position } => {
                expected.check_error(code, message, position.as_deref())?;
            }
        }
        for (id, value) in &expected.kv {
            same(&format!("kv {}/{}", id.0, id.1), value.as_ref(), actual.kv.get(id))?;
        }
        if let Some(sent) = &expected.sent {
            same("sent", Some(sent), Some(&actual.sent))?;
        }
        match &expected.logs {
            Some(logs) => same("logs", Some(logs), Some(&actual.logs)),
            None => Ok(()),
        }
    }
}

impl Expected {
    fn directive(&mut self, name: &str, rest: &str) -> Result<(), String> {
        match name {
            "answer" => {
                let (status, content_type) = rest.split_once(' ').unwrap_or((rest, ""));
                let status = status.parse().map_err(|_| format!("{status:?} is no status"))?;
                self.answer = Some((status, (!content_type.is_empty()).then(|| content_type.into())));
            }
            "out" => self.out = Some(rest.into()),
            "out-escaped" => self.out = Some(unescape(rest)?),
            "header" => self.headers.push(split(rest, ": ")?),
            "value" => self.value = Some(rest.into()),
            "error" => {
                let mut parts = rest.splitn(3, ' ');
                let mut part = || parts.next().unwrap_or_default().to_owned();
                let (code, position, text) = (part(), part(), part());
                let position = (!position.is_empty() && position != "-").then_some(position);
                self.error = Some(ExpectedError { code, position, text });
            }
            "kv-after" => {
                if let Some(id) = rest.strip_suffix(" absent") {
                    self.kv.push((split(id, "/")?, None));
                } else {
                    let (id, value) = split(rest, " = ")?;
                    self.kv.push((split(&id, "/")?, Some(value)));
                }
            }
            "sends" if rest == "nothing" => self.sent = Some(Vec::new()),
            "sends" => self.sent.get_or_insert_default().push(rest.into()),
            "log" => self.logs.get_or_insert_default().push(split(rest, " ")?),
            _ => return Err(format!("{name:?} is no directive")),
        }
        Ok(())
    }

    fn check_answer(&self, status: i64, headers: &[(String, String)], body: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(body);
        let Some((expected_status, content_type)) = &self.answer else {
            return Err(format!("it answered {status} {}", shown(&text)));
        };
        same("status", Some(expected_status), Some(&status))
            .map_err(|problem| format!("{problem}: {}", shown(&text)))?;
        let values = |name: &str| -> Vec<&String> {
            headers.iter().filter(|(header, _)| header == name).map(|(_, value)| value).collect()
        };
        same("content-type", content_type.as_ref(), values("content-type").first().copied())?;
        for (name, value) in &self.headers {
            if !values(name).contains(&value) {
                return Err(format!("the header {name} is {:?}, not {value:?}", values(name)));
            }
        }
        match &self.out {
            Some(out) => same("body", Some(&*String::from_utf8_lossy(out)), Some(&*text)),
            None => Ok(()),
        }
    }

    fn check_error(&self, code: &str, message: &str, position: Option<&str>) -> Result<(), String> {
        let Some(expected) = &self.error else {
            return Err(format!("it failed: {code} {position:?} {message}"));
        };
        same("code", Some(&*expected.code), Some(code))
            .map_err(|problem| format!("{problem}: {}", shown(&message)))?;
        if !message.contains(&expected.text) {
            return Err(format!("the message is {}, without {:?}", shown(&message), expected.text));
        }
        let Some(expected) = &expected.position else { return Ok(()) };
        let bare = position.map(|position| position.rsplit('@').next().unwrap_or(position));
        let found = if expected.contains('@') { position } else { bare };
        same("position", Some(&**expected), found)
            .map_err(|problem| format!("{problem}: {}", shown(&message)))
    }
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(
    what: &str,
    expected: Option<&T>,
    found: Option<&T>,
) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    Err(format!("{what}: expected {}, found {}", shown(&expected), shown(&found)))
}

/// A value in a message, cut at a length that can be read.
fn shown(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    if text.len() > 500 { format!("{}...", text.chars().take(500).collect::<String>()) } else { text }
}

fn split(text: &str, separator: &str) -> Result<(String, String), String> {
    let (a, b) = text.split_once(separator).ok_or_else(|| format!("{text:?} has no {separator:?}"))?;
    Ok((a.into(), b.into()))
}

fn generate(parts: &str) -> Result<String, String> {
    let mut out = String::new();
    for part in parts.split(" .. ") {
        match part.split_once(" x ") {
            Some((count, text)) => {
                let count: usize = count.parse().map_err(|_| format!("{count:?} is no number"))?;
                (0..count).for_each(|i| out.push_str(&text.replace("{i}", &i.to_string())));
            }
            None => out.push_str(part),
        }
    }
    out.push('\n');
    Ok(out)
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits} is no byte"))?
            }
            other => return Err(format!("\\{:?} is no escape", other.map(char::from))),
        });
    }
    Ok(out)
}

/// What was sent, as a case has it: what it is, then `name=value` of the fields that are not empty.
pub fn sent(what: &str, fields: &[(&str, &str)]) -> String {
    let fields = fields.iter().filter(|(_, value)| !value.is_empty());
    fields.fold(what.to_owned(), |line, (name, value)| format!("{line} {name}={value}"))
}

/// The status, headers and body that a service of the cases answers.
pub type Served = (u16, Vec<(String, String)>, Vec<u8>);

/// The services that cases can call, by host: `echo.test` tells what came, the others answer always the same.
pub fn serve(
    method: &str,
    url: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Result<Served, (&'static str, &'static str)> {
    let typed = |media_type: &str| vec![("content-type".to_owned(), media_type.to_owned())];
    let host = url.split('/').nth(2).unwrap_or_default();
    Ok(match host.split(['?', '#', ':']).next().unwrap_or_default() {
        "echo.test" => {
            let mut lines = vec![format!("{method} {url}")];
            lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
            let text = format!("{}\n\n{}", lines.join("\n"), String::from_utf8_lossy(body));
            (200, typed("text/plain"), text.into_bytes())
        }
        "json.test" => (201, typed("application/json; charset=utf-8"), br#"{"a":[1,2]}"#.to_vec()),
        "broken.test" => (200, typed("application/json"), b"{".to_vec()),
        "bytes.test" => (200, Vec::new(), vec![0xff, 0xfe]),
        "missing.test" => {
            let twice = [("x-part", "one"), ("x-part", "two")];
            (404, twice.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(), Vec::new())
        }
        _ => return Err(("egress_denied", "this app may not call it")),
    })
}
