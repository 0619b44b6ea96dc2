//! Images as a cache: rebuilt when what is on disk is gone or damaged, bounded, pinned to their sources.

use std::{collections::BTreeMap, fs, sync::Arc};

use picloud_core::{
    Answer, AppId, BODY_HANDLER, BuildError, EgressLog, Event, Execute, ExecutionId, ImageKey, Invocation,
    Limits, ScriptSources, answers_requests,
};
use picloud_executor::{Executor, ExecutorConfig, PoolMode};

use crate::support::{TestApp, body, config, post, runtime, script_name};

fn image_files(config: &ExecutorConfig) -> Vec<std::path::PathBuf> {
    let folders = fs::read_dir(&config.cache_dir).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder.join("images")).unwrap());
    files.map(|entry| entry.unwrap().path()).collect()
}

fn invoke(executor: &Executor, app: &Arc<TestApp>, image: ImageKey) -> Result<Answer, picloud_core::Fault> {
    let invocation = Invocation {
        id: ExecutionId::generate(),
        app: AppId::generate(),
        script: script_name("s"),
        image,
        event: Event::Invoke("null".into()),
        limits: Limits::default(),
        egress: EgressLog::default(),
        deadline: std::time::Instant::now() + std::time::Duration::from_secs(10),
        spent: Arc::default(),
    };
    runtime().block_on(executor.execute(invocation, app.clone())).outcome
}

/// An executor of its own with a cache in a folder of its own.
fn start(folder: &std::path::Path, change: impl FnOnce(&mut ExecutorConfig)) -> (Executor, ExecutorConfig) {
    let mut config = ExecutorConfig { cache_dir: folder.to_owned(), ..config() };
    change(&mut config);
    (runtime().block_on(Executor::start(config.clone())).expect("it starts"), config)
}

#[test]
fn a_library_is_compiled_into_the_image() {
    let app = TestApp::new(&[
        ("lib/math", "fn twice(x) { x * 2 }"),
        ("main", r#"import "lib/math" as m; m::twice(21)"#),
    ]);
    let built = app.deploy("main").unwrap();
    assert_eq!(built.imports, [script_name("lib/math")]);
    assert_eq!(body(&app.run("main", post("{}"), Limits::default())), "42");
}

#[test]
fn what_handles_events_is_reported_by_the_names_that_the_host_knows() {
    let app = TestApp::new(&[
        ("body", "1"),
        ("function", "fn on_request(req) { 1 }"),
        ("library", "fn twice(x) { x * 2 }"),
    ]);
    let handlers = |name: &str| app.deploy(name).unwrap().handlers;
    assert_eq!(handlers("body"), [BODY_HANDLER]);
    assert!(answers_requests(&handlers("body")) && answers_requests(&handlers("function")));
    assert!(!answers_requests(&handlers("library")));
}

#[test]
fn an_import_that_is_not_there_is_refused_with_its_position() {
    let app = TestApp::new(&[]);
    for import in ["nothing", "../etc/passwd", "/etc/passwd", "a.rhai"] {
        let source = format!("\nimport \"{import}\" as x;\n1");
        app.scripts.lock().unwrap().insert(script_name("bad"), source.into());
        let BuildError::Script { message, position } = app.deploy("bad").unwrap_err() else { panic!() };
        assert!(message.contains(import), "{message}");
        assert_eq!(position.expect("a position").line, 2);
    }
}

#[test]
fn damaged_and_missing_artifacts_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let app = TestApp::new(&[("s", "40 + 2")]);
    let image = ImageKey::of(&ScriptSources {
        name: script_name("s"),
        source: "40 + 2".into(),
        libraries: BTreeMap::default(),
    });
    let (executor, config) = start(folder.path(), |_| {});
    assert_eq!(invoke(&executor, &app, image), Ok(Answer::Value("42".into())));
    drop(executor);

    for damage in ["truncate", "flip", "remove"] {
        for file in image_files(&config) {
            match damage {
                "truncate" => fs::write(&file, b"").unwrap(),
                "flip" => {
                    let mut bytes = fs::read(&file).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    fs::write(&file, bytes).unwrap();
                }
                _ => fs::remove_file(&file).unwrap(),
            }
        }
        let (executor, _) = start(folder.path(), |_| {});
        assert_eq!(invoke(&executor, &app, image), Ok(Answer::Value("42".into())), "{damage}");
    }
}

#[test]
fn the_caches_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (executor, config) = start(folder.path(), |config| {
        config.image_memory_bytes = 2 << 20;
        config.image_disk_bytes = 4 << 20;
    });
    let app = TestApp::new(&[]);
    for i in 0..40 {
        let source = format!("{i} + 1");
        let built = runtime().block_on(executor.build(&script_name("s"), &source, app.clone())).unwrap();
        assert_eq!(invoke(&executor, &app, built.image), Ok(Answer::Value((i + 1).to_string())));
    }
    let bytes: u64 = image_files(&config).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes <= 4 << 20, "{bytes}");
}

#[test]
fn every_pool_mode_gives_the_same_answer_for_the_same_fuel() {
    let app = TestApp::new(&[]);
    let mut fuel = Vec::new();
    for mode in PoolMode::ALL {
        let folder = tempfile::tempdir().unwrap();
        let (executor, _) = start(folder.path(), |config| {
            config.pool_mode = Some(mode);
            config.concurrency = 2;
        });
        assert_eq!(executor.pool_mode(), mode);
        let source = "let a = []; for i in 0..100 { a.push(i * i); } a.len()";
        let built = runtime().block_on(executor.build(&script_name("s"), source, app.clone())).unwrap();
        let invocation = Invocation {
            id: ExecutionId::generate(),
            app: AppId::generate(),
            script: script_name("s"),
            image: built.image,
            event: Event::Invoke("null".into()),
            limits: Limits::default(),
            egress: EgressLog::default(),
            deadline: std::time::Instant::now() + std::time::Duration::from_secs(10),
            spent: Arc::default(),
        };
        let completion = runtime().block_on(executor.execute(invocation, app.clone()));
        assert_eq!(completion.outcome, Ok(Answer::Value("100".into())));
        fuel.push(completion.usage.fuel);
    }
    assert!(fuel.iter().all(|each| *each == fuel[0]), "{fuel:?}");
}

#[test]
fn many_callers_of_a_missing_image_build_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let (executor, config) = start(folder.path(), |_| {});
    let app = TestApp::new(&[("s", "7")]);
    let image = app.deploy("s").unwrap().image;
    let runs = async {
        let tasks: Vec<_> = (0..30)
            .map(|_| {
                let (executor, app) = (executor.clone(), app.clone());
                tokio::task::spawn_blocking(move || invoke(&executor, &app, image))
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(Answer::Value("7".into())));
        }
    };
    runtime().block_on(runs);
    assert_eq!(image_files(&config).len(), 2, "the engine image and the script's");
}
