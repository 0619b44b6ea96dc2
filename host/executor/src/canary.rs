//! Proof that a reused slot shows nothing of who had it before.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use picloud_core::{
    Answer, AppId, BoxFuture, Callee, Completion, EgressAnswer, EgressCall, EgressLog, ErrorCode, Event,
    Execute, ExecutionId, FileGeneration, FileList, FileListQuery, FilePath, HostCalls, HostError, ImageKey,
    Invocation, KvEntry, KvId, KvListQuery, KvListed, Libraries, Limits, ScriptName, ScriptSources,
    SecretName, SecretValue, StoredFile, VariableName,
};
use wasmtime::Store;

use crate::{
    Compiler, Executor, ExecutorConfig, PoolMode, engine::YIELD_INTERVAL, images::Image, state::State,
};

/// An app whose scripts are only what an image holds.
struct Nothing;

impl Libraries for Nothing {
    fn library<'a>(&'a self, _: &'a ScriptName) -> BoxFuture<'a, Result<Option<Arc<str>>, HostError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

impl HostCalls for Nothing {
    fn sources(&self, _: ImageKey) -> BoxFuture<'_, Result<ScriptSources, HostError>> {
        unreachable!("its images are mapped")
    }

    fn callee<'a>(&'a self, _: &'a ScriptName) -> BoxFuture<'a, Result<Option<Callee>, HostError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn kv_get<'a>(&'a self, _: &'a KvId) -> BoxFuture<'a, Result<Option<KvEntry>, HostError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn kv_list<'a>(&'a self, _: &'a KvListQuery) -> BoxFuture<'a, Result<Vec<KvListed>, HostError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
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
        Box::pin(std::future::ready(Err(HostError::new(ErrorCode::SecretNotFound, "there are none"))))
    }

    fn variable<'a>(&'a self, _: &'a VariableName) -> BoxFuture<'a, Result<Option<Arc<str>>, HostError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn http<'a>(&'a self, _: EgressCall, _: &'a EgressLog) -> BoxFuture<'a, Result<EgressAnswer, HostError>> {
        Box::pin(std::future::ready(Err(HostError::new(ErrorCode::EgressDenied, "nothing may be called"))))
    }
}

const MARK: &[u8] = b"CANARYxyz";

async fn image(executor: &Executor, source: &str) -> ImageKey {
    let name = ScriptName::new("s").unwrap();
    executor.build(&name, source, Arc::new(Nothing)).await.unwrap().image
}

async fn run(executor: &Executor, image: ImageKey) -> Completion {
    let invocation = Invocation {
        id: ExecutionId::generate(),
        app: AppId::generate(),
        script: ScriptName::new("s").unwrap(),
        image,
        event: Event::Invoke("null".into()),
        limits: Limits::default(),
        egress: EgressLog::default(),
        deadline: Instant::now() + std::time::Duration::from_secs(10),
        spent: Arc::default(),
    };
    executor.execute(invocation, Arc::new(Nothing)).await
}

/// The whole memory of a fresh instance of `image`.
async fn memory(executor: &Executor, image: &Image) -> Vec<u8> {
    let mut store = Store::new(&executor.inner.engine, State::build(None));
    store.limiter(|state| &mut state.memory);
    store.set_fuel(1_000_000_000).unwrap();
    store.fuel_async_yield_interval(Some(YIELD_INTERVAL)).unwrap();
    let instance = image.instantiate(&mut store).await.unwrap();
    image.builder(&mut store, &instance).unwrap().call_snapshot(&mut store).await.unwrap();
    match &mut store.data_mut().work {
        crate::state::Work::Build(build) => build.captured.take().unwrap().memory,
        crate::state::Work::Run(_) => unreachable!("made for a build"),
    }
}

#[tokio::test]
async fn a_reused_slot_never_shows_the_bytes_of_another_invocation() {
    for mode in PoolMode::ALL {
        let folder = tempfile::tempdir().unwrap();
        let executor = Executor::start(ExecutorConfig {
            cache_dir: folder.path().to_owned(),
            concurrency: 1,
            max_memory_bytes: 64 << 20,
            image_memory_bytes: 64 << 20,
            image_disk_bytes: 64 << 20,
            compiler: Compiler::InProcess,
            pool_mode: Some(mode),
        })
        .await
        .unwrap();
        // The mark is put together at run time, so that it stands in no image.
        let dirty =
            image(&executor, r#"let a = []; for i in 0..3_000 { a.push(`${i}CAN` + "ARYxyz"); } a.len()"#)
                .await;
        let clean = image(&executor, "1").await;
        for round in 0..100 {
            let completion = run(&executor, dirty).await;
            assert_eq!(completion.outcome, Ok(Answer::Value("3000".into())));
            assert!(completion.usage.memory_bytes > 0, "the memory has grown");
            // The same image finds its own warm slot, another one a slot to remap.
            let next = if round % 2 == 0 { dirty } else { clean };
            let next = executor.inner.images.mapped(next).unwrap();
            let memory = memory(&executor, &next).await;
            let leak = memory.windows(MARK.len()).any(|window| window == MARK);
            assert!(!leak, "{mode}: round {round}");
        }
    }
}
