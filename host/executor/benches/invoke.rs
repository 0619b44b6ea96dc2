//! One invocation in process: what isolation costs, against native Rhai in the same run.
//!
//! Prints one JSON object a line: `{"name", "script", "p50_us", "p99_us", "mean_us", "fuel", "faults"}`. With the
//! name of a script (`-- hello`) only that one is measured.
//! `cargo xtask bench` makes the table of docs/BENCHMARKS.md from it.

#![expect(clippy::print_stdout, reason = "its output is the result")]

use std::{
    fmt::Write as _,
    future::ready,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use picloud_core::{
    Answer, AppId, BoxFuture, Callee, EgressAnswer, EgressCall, EgressLog, ErrorCode, Event, Execute,
    ExecutionId, FileGeneration, FileList, FileListQuery, FilePath, HostCalls, HostError, HttpRequest,
    ImageKey, Invocation, KvEntry, KvId, KvListQuery, KvListed, Libraries, Limits, RequestId, ScriptName,
    ScriptSources, SecretName, SecretValue, StoredFile, VariableName,
};
use picloud_executor::{Compiler, Executor, ExecutorConfig};
use rhai::{Dynamic, Engine, Map, Scope};
use serde_json::json;

const BODY: &str = r#"{"name":"bob","items":[1,2,3]}"#;

const BLOCKS: usize = 10;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let config = ExecutorConfig {
        cache_dir: folder.path().to_owned(),
        concurrency: 32,
        max_memory_bytes: 64 << 20,
        image_memory_bytes: 1 << 30,
        image_disk_bytes: 2 << 30,
        compiler: Compiler::InProcess,
        pool_mode: None,
    };
    let started = Instant::now();
    let executor = runtime.block_on(Executor::start(config)).expect("the executor starts");
    report(&json!({
        "name": "start", "ms": started.elapsed().as_millis(),
        "pool_mode": executor.pool_mode().as_str(), "reset": executor.reset().as_str(),
    }));

    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let scripts = scripts();
    assert!(only.iter().all(|name| scripts.iter().any(|script| script.name == name)), "no script {only:?}");
    for script in scripts.into_iter().filter(|script| only.iter().all(|name| name == script.name)) {
        let built =
            runtime.block_on(executor.build(&name(), &script.source, Arc::new(Nothing))).expect("it builds");
        let native = Native::new(&script.source);
        let (mut fuel, mut fuel_parsing) = (0, 0);
        let mut faults = 0;
        let mut by_image = || {
            let (invocation, host) = (invocation(built.image), Arc::new(Nothing));
            let began = Instant::now();
            let completion = runtime.block_on(executor.execute(invocation, host));
            let elapsed = began.elapsed();
            fuel = completion.usage.fuel;
            (elapsed, text(completion.outcome))
        };
        let mut parsing = || {
            let (invocation, host) = (invocation(built.image), Arc::new(Nothing));
            let began = Instant::now();
            let completion = runtime.block_on(executor.parse_and_run(&script.source, invocation, host));
            let elapsed = began.elapsed();
            fuel_parsing = completion.usage.fuel;
            (elapsed, text(completion.outcome))
        };
        let mut native_cold = || timed(|| Native::new(&script.source).run());
        let mut native_warm = || timed(|| native.run());
        let mut samples = [const { Vec::new() }; 4];
        let expected = native_warm().1;
        // In short blocks, so that each way is warm and all see the same machine.
        for block in 0..=BLOCKS {
            let ways: [&mut dyn FnMut() -> (Duration, String); 4] =
                [&mut by_image, &mut parsing, &mut native_cold, &mut native_warm];
            for (number, (way, samples)) in ways.into_iter().zip(&mut samples).enumerate() {
                let before = minor_faults();
                for _ in 0..script.iterations / BLOCKS {
                    let (elapsed, answer) = way();
                    assert_eq!(answer, expected);
                    // The first block warms up.
                    if block > 0 {
                        samples.push(elapsed);
                    }
                }
                // What is counted is the steady state of a hot script: not the first block.
                if number == 0 && block > 0 {
                    faults += minor_faults() - before;
                }
            }
        }
        let runs = script.iterations / BLOCKS * BLOCKS;
        let ways = ["image", "parse_each_time", "native_new_engine", "native_warm"];
        for (i, (way, mut samples)) in ways.into_iter().zip(samples).enumerate() {
            samples.sort();
            let fuel_of_way = [fuel, fuel_parsing].get(i).copied();
            report(&json!({
                "name": way, "script": script.name, "bytes": script.source.len(),
                "p50_us": micros(percentile(&samples, 50)), "p99_us": micros(percentile(&samples, 99)),
                "mean_us": micros(samples.iter().sum::<Duration>() / samples.len() as u32),
                "fuel": fuel_of_way, "faults": (i == 0).then_some(faults as f64 / runs as f64),
            }));
        }
    }
    if only.is_none() {
        many_scripts(&runtime, &executor);
        uploads(&runtime, &executor);
    }
}

struct Script {
    name: &'static str,
    source: String,
    iterations: usize,
}

fn scripts() -> Vec<Script> {
    let hello = r#""hello " + req.json.name"#.to_owned();
    let medium = r"
fn fib(n) { if n < 2 { n } else { fib(n - 1) + fib(n - 2) } }
let total = 0;
for i in req.json.items { total += i * 2; }
let out = #{ name: req.json.name, total: total, fib: fib(12), list: [] };
for i in 0..100 { out.list.push(i * i); }
if out.total > 10 { out.big = true; } else { out.big = false; }
`${out.name} ${out.total} ${out.fib} ${out.list.len()} ${out.big}`
"
    .to_owned();
    let mut large = String::new();
    for i in 0..150 {
        writeln!(
            large,
            "fn helper_{i}(a, b) {{ let x = a * {i} + b; if x > 100 {{ x -= 50; }} else {{ x += 1; }} \
             let m = #{{ k: x, name: `n${{x}}` }}; for j in 0..3 {{ m.k += j; }} m.k }}"
        )
        .expect("a string");
    }
    large.push_str("`${helper_3(1, 2)} ${req.json.name}`");
    let cpu = r#"
fn fib(n) { if n < 2 { n } else { fib(n - 1) + fib(n - 2) } }
let f = fib(20);
let m = #{};
let s = "";
let sum = 0;
for i in 0..100_000 {
    sum += i % 7;
    if i % 100 == 0 { m[`k${i % 1000}`] = i; s += "x"; }
}
`${f} ${sum} ${m.len()} ${s.len()}`
"#
    .to_owned();
    let script = |name, source, iterations| Script { name, source, iterations };
    vec![
        script("hello", hello, 3_000),
        script("medium", medium, 500),
        script("large", large, 300),
        script("cpu", cpu, 20),
    ]
}

/// Native Rhai, as a script's author would embed it.
struct Native {
    engine: Engine,
    script: rhai::AST,
}

impl Native {
    fn new(source: &str) -> Self {
        let mut engine = Engine::new();
        engine.set_max_expr_depths(64, 32);
        let script = engine.compile(source).expect("it compiles");
        Self { engine, script }
    }

    fn run(&self) -> String {
        let json: Dynamic = serde_json::from_str(BODY).expect("json");
        let mut scope = Scope::new();
        scope.push("req", Map::from([("json".into(), json)]));
        self.engine.eval_ast_with_scope::<String>(&mut scope, &self.script).expect("it runs")
    }
}

/// 1,000 scripts called in turn, so that no slot ever holds the right image.
fn many_scripts(runtime: &tokio::runtime::Runtime, executor: &Executor) {
    let before = anonymous_bytes();
    let images: Vec<ImageKey> = (0..1_000)
        .map(|i| {
            let source = format!("`hello {i} ${{req.json.name}}`");
            runtime.block_on(executor.build(&name(), &source, Arc::new(Nothing))).expect("it builds").image
        })
        .collect();
    let round = || -> Vec<Duration> {
        let mut samples: Vec<_> = images
            .iter()
            .map(|image| {
                let began = Instant::now();
                let completion = runtime.block_on(executor.execute(invocation(*image), Arc::new(Nothing)));
                let elapsed = began.elapsed();
                assert!(completion.outcome.is_ok());
                elapsed
            })
            .collect();
        samples.sort();
        samples
    };
    round();
    let samples = round();
    report(&json!({
        "name": "1000_scripts", "p50_us": micros(percentile(&samples, 50)),
        "p99_us": micros(percentile(&samples, 99)),
        "anonymous_bytes_each": anonymous_bytes().saturating_sub(before) / 1_000,
    }));
}

/// The time from a script's source to its image, for 20 KB of source.
fn uploads(runtime: &tokio::runtime::Runtime, executor: &Executor) {
    let mut samples: Vec<_> = (0..30)
        .map(|i| {
            let mut source = String::new();
            while source.len() < 20_000 {
                let n = source.len();
                writeln!(source, "fn helper_{n}(a, b) {{ let x = a * {i} + b; if x > 9 {{ x -= 5; }} x }}")
                    .expect("a string");
            }
            source.push('1');
            let began = Instant::now();
            runtime.block_on(executor.build(&name(), &source, Arc::new(Nothing))).expect("it builds");
            began.elapsed()
        })
        .collect();
    samples.sort();
    report(&json!({
        "name": "upload_20_kb", "p50_us": micros(percentile(&samples, 50)),
        "p99_us": micros(percentile(&samples, 99)),
    }));
}

fn invocation(image: ImageKey) -> Invocation {
    Invocation {
        id: ExecutionId::generate(),
        app: AppId::generate(),
        script: name(),
        image,
        event: Event::Http(HttpRequest {
            id: RequestId::generate(),
            method: "POST".into(),
            path: "/".into(),
            query: String::new(),
            params: Vec::new(),
            headers: "host: demo.localhost\ncontent-type: application/json\naccept: */*\n".into(),
            body: BODY.into(),
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }),
        limits: Limits { fuel: 20_000_000_000, ..Limits::default() },
        egress: EgressLog::default(),
        deadline: Instant::now() + Duration::from_secs(10),
        spent: Arc::default(),
    }
}

fn name() -> ScriptName {
    ScriptName::new("s").expect("a name")
}

fn text(outcome: Result<Answer, picloud_core::Fault>) -> String {
    match outcome {
        Ok(Answer::Http(response)) => String::from_utf8(response.body.to_vec()).expect("text"),
        other => panic!("{other:?}"),
    }
}

struct Nothing;

impl Libraries for Nothing {
    fn library<'a>(&'a self, _: &'a ScriptName) -> BoxFuture<'a, Result<Option<Arc<str>>, HostError>> {
        Box::pin(ready(Ok(None)))
    }
}

impl HostCalls for Nothing {
    fn sources(&self, _: ImageKey) -> BoxFuture<'_, Result<ScriptSources, HostError>> {
        unreachable!("the images are in the cache")
    }

    fn callee<'a>(&'a self, _: &'a ScriptName) -> BoxFuture<'a, Result<Option<Callee>, HostError>> {
        Box::pin(ready(Ok(None)))
    }

    fn kv_get<'a>(&'a self, _: &'a KvId) -> BoxFuture<'a, Result<Option<KvEntry>, HostError>> {
        Box::pin(ready(Ok(None)))
    }

    fn kv_list<'a>(&'a self, _: &'a KvListQuery) -> BoxFuture<'a, Result<Vec<KvListed>, HostError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn can_mail(&self) -> bool {
        false
    }

    fn file<'a>(&'a self, _: &'a FilePath) -> BoxFuture<'a, Result<Option<StoredFile>, HostError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn file_content<'a>(&'a self, _: &'a StoredFile) -> BoxFuture<'a, Result<Bytes, HostError>> {
        Box::pin(std::future::ready(Err(HostError::new(ErrorCode::FileNotFound, "there are none"))))
    }

    fn file_list<'a>(&'a self, _: &'a FileListQuery) -> BoxFuture<'a, Result<FileList, HostError>> {
        let list = FileList { files: Vec::new(), generation: FileGeneration::default() };
        Box::pin(std::future::ready(Ok(list)))
    }

    fn secret<'a>(
        &'a self,
        _: &'a ScriptName,
        _: &'a SecretName,
    ) -> BoxFuture<'a, Result<Arc<SecretValue>, HostError>> {
        Box::pin(ready(Err(HostError::new(ErrorCode::SecretNotFound, "there are none"))))
    }

    fn variable<'a>(&'a self, _: &'a VariableName) -> BoxFuture<'a, Result<Option<Arc<str>>, HostError>> {
        Box::pin(ready(Ok(None)))
    }

    fn http<'a>(&'a self, _: EgressCall, _: &'a EgressLog) -> BoxFuture<'a, Result<EgressAnswer, HostError>> {
        Box::pin(ready(Err(HostError::new(ErrorCode::EgressDenied, "nothing may be called"))))
    }
}

fn timed(work: impl FnOnce() -> String) -> (Duration, String) {
    let began = Instant::now();
    let answer = work();
    (began.elapsed(), answer)
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn micros(duration: Duration) -> f64 {
    (duration.as_nanos() / 100) as f64 / 10.0
}

fn report(line: &serde_json::Value) {
    println!("{line}");
}

/// Minor page faults of this process so far (field 10 of proc(5) stat).
fn minor_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().nth(7).and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// Anonymous and shared memory of this process (not file mappings).
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(0)
    };
    (field("RssAnon:") + field("RssShmem:")) * 1024
}
