//! One executor for the whole test process, and the ports that the orchestrator would give it.

use std::{
    collections::{BTreeMap, HashMap},
    future::{pending, ready},
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use picloud_core::{
    Answer, AppId, BoxFuture, BuildError, BuiltScript, Callee, Completion, Effects, EgressAnswer, EgressCall,
    EgressLog, ErrorCode, Event, Execute, ExecutionId, FileGeneration, FileList, FileListQuery, FileListed,
    FilePath, FileVersion, FileWrite, FuelMeter, HostCalls, HostError, HttpRequest, ImageKey, Invocation,
    KvEntry, KvId, KvListQuery, KvListed, KvVersion, KvWrite, Libraries, Limits, RequestId, ScriptName,
    ScriptSources, SecretName, SecretValue, StoredFile, VariableName,
};
use picloud_executor::{Compiler, Executor, ExecutorConfig};
use tokio::runtime::Runtime;

use crate::corpus::case::serve;

/// Settings with a cache that lasts between test runs, so that the guest is compiled once.
pub(crate) fn config() -> ExecutorConfig {
    ExecutorConfig {
        cache_dir: concat!(env!("CARGO_TARGET_TMPDIR"), "/executor-cache").into(),
        concurrency: 8,
        max_memory_bytes: 64 << 20,
        image_memory_bytes: 256 << 20,
        image_disk_bytes: 512 << 20,
        compiler: Compiler::InProcess,
        pool_mode: None,
    }
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"))
}

pub(crate) fn executor() -> &'static Executor {
    static EXECUTOR: OnceLock<Executor> = OnceLock::new();
    EXECUTOR.get_or_init(|| runtime().block_on(Executor::start(config())).expect("the executor starts"))
}

/// An app in memory: its scripts, and its committed data.
#[derive(Default)]
pub(crate) struct TestApp {
    pub(crate) scripts: Mutex<BTreeMap<ScriptName, Arc<str>>>,
    images: Mutex<HashMap<ImageKey, ScriptSources>>,
    current: Mutex<HashMap<ScriptName, ImageKey>>,
    pub(crate) data: Mutex<BTreeMap<KvId, KvEntry>>,
    pub(crate) files: Mutex<BTreeMap<FilePath, (StoredFile, Bytes)>>,
    pub(crate) secrets: Mutex<BTreeMap<String, Arc<SecretValue>>>,
    versions: Mutex<i64>,
    pub(crate) has_no_relay: AtomicBool,
    /// How long every kv read takes.
    pub(crate) delay: Mutex<Option<Duration>>,
}

impl TestApp {
    pub(crate) fn new(scripts: &[(&str, &str)]) -> Arc<Self> {
        let app = Arc::new(Self::default());
        for (name, source) in scripts {
            app.scripts.lock().unwrap().insert(script_name(name), Arc::from(*source));
        }
        for (name, _) in scripts {
            app.deploy(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        app
    }

    pub(crate) fn deploy(self: &Arc<Self>, name: &str) -> Result<BuiltScript, BuildError> {
        let name = script_name(name);
        let source = self.scripts.lock().unwrap()[&name].clone();
        let built = runtime().block_on(executor().build(&name, &source, self.clone()))?;
        let scripts = self.scripts.lock().unwrap();
        let libraries = built.imports.iter().map(|name| (name.clone(), scripts[name].clone())).collect();
        let sources = ScriptSources { name: name.clone(), source, libraries };
        assert_eq!(ImageKey::of(&sources), built.image);
        self.images.lock().unwrap().insert(built.image, sources);
        self.current.lock().unwrap().insert(name, built.image);
        Ok(built)
    }

    pub(crate) fn run(self: &Arc<Self>, name: &str, event: Event, limits: Limits) -> Completion {
        runtime().block_on(self.start(name, event, limits))
    }

    /// Runs a direct call whose fuel `meter` counts.
    pub(crate) fn run_metered(
        self: &Arc<Self>,
        name: &str,
        limits: Limits,
        meter: &Arc<FuelMeter>,
    ) -> Completion {
        let event = Event::Invoke("null".to_owned());
        runtime().block_on(self.start_metered(name, event, limits, Arc::clone(meter)))
    }

    /// Begins a direct call and gives it up in the middle, after some turns of it.
    pub(crate) fn give_up(self: &Arc<Self>, name: &str, limits: Limits, meter: &Arc<FuelMeter>) {
        let event = Event::Invoke("null".to_owned());
        runtime().block_on(async {
            let turns = async {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                completion = self.start_metered(name, event, limits, Arc::clone(meter)) => {
                    panic!("{name} ended by itself: {:?}", completion.outcome)
                }
                () = turns => {}
            }
        });
    }

    pub(crate) async fn start(self: &Arc<Self>, name: &str, event: Event, limits: Limits) -> Completion {
        self.start_metered(name, event, limits, Arc::default()).await
    }

    async fn start_metered(
        self: &Arc<Self>,
        name: &str,
        event: Event,
        limits: Limits,
        spent: Arc<FuelMeter>,
    ) -> Completion {
        let script = script_name(name);
        let image = self.current.lock().unwrap()[&script];
        let invocation = Invocation {
            id: ExecutionId::generate(),
            app: AppId::generate(),
            script,
            image,
            event,
            limits,
            egress: EgressLog::default(),
            deadline: Instant::now() + Duration::from_millis(limits.wall_ms),
            spent,
        };
        executor().execute(invocation, self.clone()).await
    }

    /// Runs with default limits, commits, and gives the value of an invoke.
    pub(crate) fn value(self: &Arc<Self>, name: &str, event: &str) -> String {
        let completion = self.run(name, Event::Invoke(event.to_owned()), Limits::default());
        match completion.outcome {
            Ok(Answer::Value(value)) => {
                self.commit(completion.effects);
                value
            }
            other => panic!("{name}: {other:?}"),
        }
    }

    pub(crate) fn commit(&self, effects: Effects) {
        let mut files = self.files.lock().unwrap();
        for (path, write) in effects.files {
            let FileWrite::Set { content, hash, content_type, modified } = write else {
                files.remove(&path);
                continue;
            };
            let mut versions = self.versions.lock().unwrap();
            *versions += 1;
            let (size, version) = (content.len() as u64, FileVersion::from_i64(*versions));
            files.insert(path, (StoredFile { hash, size, content_type, version, modified }, content));
        }
        let mut data = self.data.lock().unwrap();
        for (id, write) in effects.kv {
            match write {
                KvWrite::Set { value, .. } => {
                    let mut version = self.versions.lock().unwrap();
                    *version += 1;
                    data.insert(id, KvEntry { value, version: KvVersion::from_i64(*version) });
                }
                KvWrite::Delete => {
                    data.remove(&id);
                }
            }
        }
    }

    async fn wait(&self) {
        let delay = *self.delay.lock().unwrap();
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
    }
}

impl Libraries for TestApp {
    fn library<'a>(&'a self, name: &'a ScriptName) -> BoxFuture<'a, Result<Option<Arc<str>>, HostError>> {
        Box::pin(ready(Ok(self.scripts.lock().unwrap().get(name).cloned())))
    }
}

impl HostCalls for TestApp {
    fn sources(&self, image: ImageKey) -> BoxFuture<'_, Result<ScriptSources, HostError>> {
        Box::pin(ready(Ok(self.images.lock().unwrap()[&image].clone())))
    }

    fn callee<'a>(&'a self, name: &'a ScriptName) -> BoxFuture<'a, Result<Option<Callee>, HostError>> {
        let image = self.current.lock().unwrap().get(name).copied();
        Box::pin(ready(Ok(image.map(|image| Callee { name: name.clone(), image }))))
    }

    fn can_mail(&self) -> bool {
        !self.has_no_relay.load(Ordering::Relaxed)
    }

    fn kv_get<'a>(&'a self, id: &'a KvId) -> BoxFuture<'a, Result<Option<KvEntry>, HostError>> {
        Box::pin(async {
            self.wait().await;
            Ok(self.data.lock().unwrap().get(id).cloned())
        })
    }

    fn kv_list<'a>(&'a self, query: &'a KvListQuery) -> BoxFuture<'a, Result<Vec<KvListed>, HostError>> {
        Box::pin(async {
            self.wait().await;
            let data = self.data.lock().unwrap();
            let matches = data.iter().filter(|(id, _)| {
                id.collection == query.collection
                    && id.key.as_str().starts_with(&query.prefix)
                    && query.after.as_deref().is_none_or(|after| id.key.as_str() > after)
            });
            let listed = matches.map(|(id, entry)| KvListed { key: id.key.clone(), entry: entry.clone() });
            Ok(listed.take(query.limit as usize).collect())
        })
    }

    fn file<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<Option<StoredFile>, HostError>> {
        Box::pin(ready(Ok(self.files.lock().unwrap().get(path).map(|(file, _)| file.clone()))))
    }

    fn file_content<'a>(&'a self, file: &'a StoredFile) -> BoxFuture<'a, Result<Bytes, HostError>> {
        let files = self.files.lock().unwrap();
        let found =
            files.values().find(|(stored, _)| stored.hash == file.hash).map(|(_, content)| content.clone());
        Box::pin(ready(found.ok_or_else(|| HostError::new(ErrorCode::Conflict, "it was replaced"))))
    }

    fn file_list<'a>(&'a self, query: &'a FileListQuery) -> BoxFuture<'a, Result<FileList, HostError>> {
        let files = self.files.lock().unwrap();
        let matches = files.iter().filter(|(path, _)| {
            path.as_str().starts_with(&query.prefix)
                && query.after.as_deref().is_none_or(|after| path.as_str() > after)
        });
        let listed = matches.map(|(path, (file, _))| FileListed { path: path.clone(), file: file.clone() });
        let files = listed.take(query.limit as usize).collect();
        Box::pin(ready(Ok(FileList { files, generation: FileGeneration(*self.versions.lock().unwrap()) })))
    }

    /// As the host of the guest's own tests does, and what a test has set beside that.
    fn secret<'a>(
        &'a self,
        script: &'a ScriptName,
        name: &'a SecretName,
    ) -> BoxFuture<'a, Result<Arc<SecretValue>, HostError>> {
        let value = match name.as_str() {
            "token" => Ok(Arc::new(SecretValue::new(b"s3cret-token".to_vec()).unwrap())),
            "hidden" => {
                Err(HostError::new(ErrorCode::SecretNotDeclared, format!("not declared by {script}")))
            }
            other => self
                .secrets
                .lock()
                .unwrap()
                .get(other)
                .cloned()
                .ok_or_else(|| HostError::new(ErrorCode::SecretNotFound, "there is no such secret")),
        };
        Box::pin(ready(value))
    }

    fn variable<'a>(&'a self, name: &'a VariableName) -> BoxFuture<'a, Result<Option<Arc<str>>, HostError>> {
        Box::pin(ready(Ok((name.as_str() == "REGION").then(|| "eu".into()))))
    }

    /// The services of the script cases, and one that never answers.
    fn http<'a>(
        &'a self,
        call: EgressCall,
        _: &'a EgressLog,
    ) -> BoxFuture<'a, Result<EgressAnswer, HostError>> {
        if call.url.contains("silent.test") {
            return Box::pin(pending());
        }
        let served = serve(call.method.as_str(), &call.url, &call.headers, &call.body);
        let answer = served.map(|(status, headers, body)| EgressAnswer {
            status,
            headers,
            body: body.into(),
            url: call.url,
        });
        let code = |code: &str| code.parse().expect("a code");
        Box::pin(ready(answer.map_err(|(refused, message)| HostError::new(code(refused), message))))
    }
}

pub(crate) fn script_name(name: &str) -> ScriptName {
    ScriptName::new(name).expect("a script name")
}

/// A POST request with a JSON body.
pub(crate) fn post(body: &str) -> Event {
    Event::Http(HttpRequest {
        id: RequestId::generate(),
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        params: Vec::new(),
        headers: "host: test\ncontent-type: application/json\n".into(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
    })
}

/// The body of a successful HTTP answer.
pub(crate) fn body(completion: &Completion) -> &str {
    match &completion.outcome {
        Ok(Answer::Http(response)) => std::str::from_utf8(&response.body).expect("text"),
        other => panic!("no answer: {other:?}"),
    }
}

/// The code of a failure.
pub(crate) fn code(completion: &Completion) -> &'static str {
    match &completion.outcome {
        Ok(answer) => panic!("it should have failed, and answered {answer:?}"),
        Err(fault) => fault.code.as_str(),
    }
}
