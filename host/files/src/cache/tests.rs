//! The cache on a real folder.

use std::{
    fs,
    future::ready,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::*;

const MIB: usize = 1 << 20;

fn hash(content: &[u8]) -> FileHash {
    FileHash::of(content)
}

fn path(folder: &Path, app: AppId, name: impl fmt::Display) -> PathBuf {
    folder.join(app.to_string()).join(name.to_string())
}

/// Gets a content whose only source is the cache.
async fn cached(cache: &FileCache, app: AppId, content: &[u8]) -> Option<Bytes> {
    let found = cache.get(app, hash(content), ready(Ok::<_, ()>(None))).await.unwrap()?;
    Some(found.bytes().await.unwrap())
}

async fn get(cache: &FileCache, app: AppId, content: &'static [u8]) -> Bytes {
    let found = cache.get(app, hash(content), ready(Ok::<_, ()>(Some(Bytes::from_static(content))))).await;
    found.unwrap().unwrap().bytes().await.unwrap()
}

#[tokio::test]
async fn a_content_is_fetched_once_and_is_of_its_app_only() {
    let folder = tempfile::tempdir().unwrap();
    let cache = FileCache::open(folder.path(), 64 << 20).unwrap();
    let (app, other) = (AppId::generate(), AppId::generate());
    assert_eq!(cached(&cache, app, b"one").await, None);
    assert_eq!(get(&cache, app, b"one").await, "one");
    assert_eq!(cached(&cache, app, b"one").await.unwrap(), "one");
    assert_eq!(cached(&cache, other, b"one").await, None, "the hash of another app's content gives nothing");
    let failed: Result<_, &str> = cache.get(app, hash(b"two"), ready(Err("away"))).await;
    assert_eq!(failed.err(), Some("away"));
    let lie = ready(Ok::<_, ()>(Some(Bytes::from_static(b"not two"))));
    assert!(cache.get(app, hash(b"two"), lie).await.unwrap().is_none(), "it is not what the hash says");
    let again = FileCache::open(folder.path(), 64 << 20).unwrap();
    assert_eq!(cached(&again, app, b"one").await.unwrap(), "one", "it outlives the process");
}

#[tokio::test]
async fn a_torn_or_changed_file_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = FileCache::open(folder.path(), 64 << 20).unwrap();
    let app = AppId::generate();
    let at = path(folder.path(), app, hash(b"content"));
    for damage in [b"cont".as_slice(), b"", b"CONTENT", b"content and more"] {
        assert_eq!(get(&cache, app, b"content").await, "content");
        assert_eq!(cached(&cache, app, b"content").await.unwrap(), "content");
        fs::write(&at, damage).unwrap();
        assert_eq!(cached(&cache, app, b"content").await, None, "{damage:?}");
        assert!(!at.exists());
    }
}

#[tokio::test]
async fn no_link_and_no_pipe_in_the_folder_leads_anywhere() {
    let outside = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let cache = FileCache::open(folder.path(), 64 << 20).unwrap();
    let (app, other) = (AppId::generate(), AppId::generate());

    // A link to a file outside whose content even has the right hash.
    fs::create_dir(folder.path().join(app.to_string())).unwrap();
    let at = path(folder.path(), app, hash(b"secret"));
    symlink(&secret, &at).unwrap();
    assert_eq!(cached(&cache, app, b"secret").await, None);
    assert!(fs::symlink_metadata(&at).is_err(), "the link is removed");
    assert_eq!(get(&cache, app, b"secret").await, "secret");
    assert!(fs::symlink_metadata(&at).unwrap().is_file());
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");

    // A link in the place of an app's folder: to the outside, and to another app's.
    fs::write(outside.path().join(hash(b"planted").to_string()), "planted").unwrap();
    symlink(outside.path(), folder.path().join(other.to_string())).unwrap();
    assert_eq!(cached(&cache, other, b"planted").await, None);
    symlink(app.to_string(), folder.path().join(other.to_string())).unwrap();
    assert_eq!(cached(&cache, other, b"secret").await, None);
    symlink(outside.path(), folder.path().join(other.to_string())).unwrap();
    assert_eq!(get(&cache, other, b"new").await, "new");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2, "nothing was written outside");

    // A pipe would never end.
    let at = path(folder.path(), app, hash(b"pipe"));
    let made = std::process::Command::new("mkfifo").arg(&at).status().unwrap();
    assert!(made.success());
    assert_eq!(cached(&cache, app, b"pipe").await, None);
    assert!(fs::symlink_metadata(&at).is_err());
}

#[tokio::test]
async fn the_least_recently_used_goes_when_it_is_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let cache = FileCache::open(folder.path(), 8 * MIB as u64).unwrap();
    let app = AppId::generate();
    let contents: Vec<Vec<u8>> = (0..12_u8).map(|number| vec![number; MIB]).collect();
    for content in &contents {
        let fetch = ready(Ok::<_, ()>(Some(Bytes::from(content.clone()))));
        cache.get(app, hash(content), fetch).await.unwrap();
        assert!(cached(&cache, app, &contents[0]).await.is_some(), "what is used stays");
    }
    let on_disk = fs::read_dir(folder.path().join(app.to_string())).unwrap().count();
    assert!(on_disk <= 8, "{on_disk} MiB");
    assert!(cached(&cache, app, &contents[1]).await.is_none());
    assert!(cached(&cache, app, &contents[11]).await.is_some());
    let huge = vec![1; 5 * MIB];
    let fetch = ready(Ok::<_, ()>(Some(Bytes::from(huge.clone()))));
    assert!(cache.get(app, hash(&huge), fetch).await.unwrap().is_some());
    assert!(cached(&cache, app, &huge).await.is_none(), "it would push out everything else");
}

#[tokio::test]
async fn what_a_dead_process_left_is_removed_and_what_is_open_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    let app = AppId::generate();
    fs::create_dir(folder.path().join(app.to_string())).unwrap();
    let (old, new) = (path(folder.path(), app, "00.tmp"), path(folder.path(), app, "01.tmp"));
    fs::write(&new, "x").unwrap();
    let file = fs::File::create(&old).unwrap();
    file.set_modified(SystemTime::now() - std::time::Duration::from_hours(2)).unwrap();
    let cache = FileCache::open(folder.path(), 64 << 20).unwrap();
    assert!(!old.exists() && new.exists());

    get(&cache, app, b"content").await;
    let open = cache.get(app, hash(b"content"), ready(Ok::<_, ()>(None))).await.unwrap().unwrap();
    fs::remove_file(path(folder.path(), app, hash(b"content"))).unwrap();
    assert_eq!(open.bytes().await.unwrap(), "content");
}

#[tokio::test]
async fn two_processes_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let caches = [(); 2].map(|()| Arc::new(FileCache::open(folder.path(), 2 * MIB as u64).unwrap()));
    let app = AppId::generate();
    let runs = (0..2_usize).flat_map(|which| (0..2_usize).map(move |shift| (which, shift)));
    let tasks: Vec<_> = runs
        .map(|(which, shift)| {
            let cache = Arc::clone(&caches[which]);
            tokio::spawn(async move {
                for number in 0..40_usize {
                    let content = vec![((number + shift) % 16) as u8; 200 << 10];
                    let fetch = ready(Ok::<_, ()>(Some(Bytes::from(content.clone()))));
                    let found = cache.get(app, hash(&content), fetch).await.unwrap().unwrap();
                    assert_eq!(found.bytes().await.unwrap(), content);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_content_is_compressed_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = FileCache::open(folder.path(), 64 << 20).unwrap();
    let (app, made) = (AppId::generate(), AtomicUsize::new(0));
    let text = "line\n".repeat(10_000);
    let of = hash(text.as_bytes());
    for compression in [Compression::Gzip, Compression::Brotli, Compression::Gzip] {
        let content = async {
            made.fetch_add(1, Relaxed);
            let bytes = Bytes::from(text.clone());
            Ok::<_, ()>(Some(Content(Source::Memory(bytes))))
        };
        let packed = cache.compressed(app, of, compression, content).await.unwrap().unwrap();
        assert_eq!(packed.bytes().await.unwrap(), compression.compress(text.as_bytes()).unwrap());
    }
    assert_eq!(made.load(Relaxed), 2);
    let at = path(folder.path(), app, format!("{of}.gz"));
    let mut damaged = fs::read(&at).unwrap();
    damaged[40] ^= 1;
    fs::write(&at, damaged).unwrap();
    let none = cache.compressed(app, of, Compression::Gzip, ready(Ok::<_, ()>(None))).await.unwrap();
    assert!(none.is_none() && !at.exists());
}
