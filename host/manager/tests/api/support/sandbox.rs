//! A sandbox and a node that do as their input says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use picloud_core::{
    AppId, BODY_HANDLER, BoxFuture, BuildError, BuiltScript, CollectionName, Completion, DirectCall,
    DirectResult, Effects, ErrorCode, Execute, ExecutionId, Fault, HostCalls, ImageKey, Invocation, KvId,
    KvKey, KvReads, KvWrite, Libraries, LogLevel, LogLine, Logs, Node, NodeStatus, Rehearsal, Rehearsed,
    RehearsedEvent, ScriptName, ScriptSources, SecretMask, SourcePosition, Usage, UseKind, Uses,
};

/// Compiles everything but lines that start with `!`; `import NAME` lines import, `secret NAME` lines declare,
/// `host NAME` lines call.
pub(crate) struct ScriptedSandbox;

impl Execute for ScriptedSandbox {
    fn build<'a>(
        &'a self,
        name: &'a ScriptName,
        source: &'a str,
        libraries: Arc<dyn Libraries>,
    ) -> BoxFuture<'a, Result<BuiltScript, BuildError>> {
        Box::pin(async move {
            let mut found = BTreeMap::new();
            let mut open: Vec<(ScriptName, Arc<str>)> = vec![(name.clone(), source.into())];
            while let Some((script, text)) = open.pop() {
                for import in imports(&script, &text)? {
                    let library = libraries
                        .library(&import)
                        .await?
                        .ok_or_else(|| wrong(&script, 1, "", &format!("there is no library {import}")))?;
                    if found.insert(import.clone(), Arc::clone(&library)).is_none() {
                        open.push((import, library));
                    }
                }
            }
            let imports = found.keys().cloned().collect();
            let sources = ScriptSources { name: name.clone(), source: source.into(), libraries: found };
            let handlers = match source {
                _ if source.contains("fn on_request") => vec!["on_request".into()],
                _ if source.contains("fn ") || source.is_empty() => Vec::new(),
                _ => vec![BODY_HANDLER.into()],
            };
            let warnings = if source.is_empty() { vec!["the script is empty".into()] } else { Vec::new() };
            let mut uses = Uses::default();
            let texts = sources.libraries.values().chain([&sources.source]);
            for line in texts.flat_map(|text| text.lines()) {
                if let Some(name) = line.strip_prefix("secret ") {
                    uses.add(UseKind::Secrets, name.to_owned());
                }
                if let Some(name) = line.strip_prefix("host ") {
                    uses.add(UseKind::Hosts, name.to_owned());
                }
            }
            Ok(BuiltScript { image: ImageKey::of(&sources), imports, handlers, warnings, uses })
        })
    }

    fn execute(&self, _: Invocation, _: Arc<dyn HostCalls>) -> BoxFuture<'_, Completion> {
        let fault = Fault::new(ErrorCode::Internal, "the control plane runs scripts through the node only");
        let (effects, reads, logs) = (Effects::default(), KvReads::default(), Logs::default());
        Box::pin(async move {
            let (usage, mask) = (Usage::default(), SecretMask::default());
            Completion { outcome: Err(fault), effects, reads, logs, usage, mask }
        })
    }
}

fn imports(script: &ScriptName, text: &str) -> Result<Vec<ScriptName>, BuildError> {
    let mut imports = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(problem) = line.strip_prefix('!') {
            return Err(wrong(script, number, line, problem));
        }
        if let Some(name) = line.strip_prefix("import ") {
            imports.push(ScriptName::new(name).unwrap());
        }
    }
    Ok(imports)
}

fn wrong(script: &ScriptName, line: u32, source_line: &str, message: &str) -> BuildError {
    let position =
        SourcePosition { script: script.to_string(), line, column: 1, source_line: source_line.into() };
    BuildError::Script { message: message.into(), position: Some(position) }
}

/// Echoes events, unless the script is called `broken` or `missing`; remembers what it was told.
#[derive(Default)]
pub(crate) struct ScriptedNode {
    pub(crate) changed: Mutex<Vec<AppId>>,
    pub(crate) is_draining: Mutex<bool>,
}

impl Node for ScriptedNode {
    fn app_changed(&self, app: AppId) -> BoxFuture<'_, ()> {
        self.changed.lock().unwrap().push(app);
        Box::pin(async {})
    }

    fn invoke(&self, call: DirectCall) -> BoxFuture<'_, DirectResult> {
        let line = |message: &str| LogLine {
            level: LogLevel::Info,
            message: message.into(),
            at: Duration::from_micros(1500),
        };
        let usage = Usage { fuel: 12_628, duration: Duration::from_micros(250), ..Usage::default() };
        let (execution, outcome) = match call.script.as_str() {
            "missing" => (None, Err(Fault::new(ErrorCode::ScriptNotFound, "there is no script missing"))),
            "broken" => {
                let position = SourcePosition {
                    script: "broken".into(),
                    line: 3,
                    column: 7,
                    source_line: "  1 / 0".into(),
                };
                let fault = Fault {
                    code: ErrorCode::ScriptError,
                    message: "Division by zero: 1 / 0".into(),
                    position: Some(position),
                };
                (Some(ExecutionId::generate()), Err(fault))
            }
            _ => (Some(ExecutionId::generate()), Ok(call.event)),
        };
        let result = DirectResult { execution, outcome, logs: vec![line("ran")], usage, retry_after: None };
        Box::pin(async move { result })
    }

    fn rehearse(&self, call: Rehearsal) -> BoxFuture<'_, Rehearsed> {
        let id = KvId {
            collection: CollectionName::new("seen").unwrap(),
            key: KvKey::new(call.script.as_str()).unwrap(),
        };
        let (kind, event) = match &call.event {
            RehearsedEvent::Trigger { kind, event } => (kind.as_str(), event),
            RehearsedEvent::Request(request) => ("http", request),
        };
        let write = KvWrite::Set { value: event.as_str().into(), ttl: None };
        let effects = Effects { kv: [(id, write)].into(), ..Effects::default() };
        let usage = Usage { fuel: 12_628, ..Usage::default() };
        let outcome = Ok(format!("[{kind:?},{}]", call.version.unwrap_or(0)));
        Box::pin(async move { Rehearsed { outcome, effects, logs: Vec::new(), usage, retry_after: None } })
    }

    fn status(&self) -> NodeStatus {
        let draining = *self.is_draining.lock().unwrap();
        NodeStatus {
            ready: !draining,
            draining,
            pool_mode: "pool_guarded",
            reset: "pagemap_scan",
            running: 1,
            waiting: 2,
        }
    }

    fn metrics(&self) -> String {
        "# TYPE picloud_invocations counter\npicloud_invocations_total 3\n# EOF\n".into()
    }
}
