//! What several tests need.

use std::{collections::BTreeMap, sync::Arc};

use picloud_core::{
    AppId, AppName, CollectionName, DomainChallenge, DomainName, Effects, FileQuota, ImageKey, KvId, KvKey,
    KvListQuery, KvReads, KvSession, KvWrite, ProofMethod, ScriptName, ScriptSources, ScriptVersionId, Uses,
};
use picloud_store::{
    Domain, KvCommit, NewVersion, PageSize, PutVersion, Store, StoreError, VersionCondition, testing,
};

/// A store with one app.
pub(crate) async fn with_app() -> (Store, AppId) {
    let store = testing::store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    (store, app)
}

/// A quota that no test of anything else meets.
pub(crate) const QUOTA: FileQuota = FileQuota { bytes: 1 << 30, files: 1_000_000 };

pub(crate) fn app_name(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

pub(crate) fn script_name(name: &str) -> ScriptName {
    ScriptName::new(name).unwrap()
}

/// A claim of an app on a host; `number` makes its challenge.
pub(crate) async fn claim(store: &Store, app: AppId, name: &str, number: u8) -> Result<Domain, StoreError> {
    let challenge = DomainChallenge::from_random([number; 16]);
    store.create_domain(app, &DomainName::new(name).unwrap(), &challenge).await
}

/// A host that is served for an app.
pub(crate) async fn domain(store: &Store, app: AppId, name: &str) -> Domain {
    let claimed = claim(store, app, name, 1).await.unwrap();
    store.verify_domain(app, claimed.id, ProofMethod::Operator).await.unwrap()
}

pub(crate) fn size(size: u32) -> PageSize {
    PageSize::new(size).unwrap()
}

pub(crate) fn id(collection: &str, key: &str) -> KvId {
    KvId { collection: CollectionName::new(collection).unwrap(), key: KvKey::new(key).unwrap() }
}

pub(crate) fn set(value: &str) -> KvWrite {
    KvWrite::Set { value: value.into(), ttl: None }
}

pub(crate) fn writes(writes: impl IntoIterator<Item = (KvId, KvWrite)>) -> Effects {
    Effects { kv: writes.into_iter().collect(), ..Effects::default() }
}

pub(crate) fn list_of(collection: &str, prefix: &str, after: Option<&str>, limit: u32) -> KvListQuery {
    let collection = CollectionName::new(collection).unwrap();
    KvListQuery { collection, prefix: prefix.to_owned(), after: after.map(str::to_owned), limit }
}

/// Commits writes that depend on nothing, and answers by how many bytes the app has grown.
pub(crate) async fn commit(store: &Store, app: AppId, effects: &Effects) -> i64 {
    match store.kv_commit(app, &KvReads::default(), effects, QUOTA).await.unwrap() {
        KvCommit::Committed { bytes_delta } => bytes_delta,
        KvCommit::Conflict | KvCommit::Superseded => panic!("a blind write conflicted"),
    }
}

/// Reads a key as an invocation does.
pub(crate) async fn read(store: &Store, app: AppId, session: &mut KvSession, id: &KvId) -> Option<Arc<str>> {
    if let Some(known) = session.lookup(id) {
        return known;
    }
    let entry = store.kv_get(app, id).await.unwrap();
    session.fetched(id.clone(), entry);
    session.lookup(id).unwrap()
}

/// Lists keys as an invocation does.
pub(crate) async fn list(
    store: &Store,
    app: AppId,
    session: &mut KvSession,
    query: KvListQuery,
) -> Vec<(KvKey, Arc<str>)> {
    let fetched = KvListQuery { limit: session.fetch_limit(&query), ..query.clone() };
    let found = store.kv_list(app, &fetched).await.unwrap();
    session.listed(query, found)
}

/// Uploads a version that imports `libraries`, as the manager does.
pub(crate) async fn upload(
    store: &Store,
    app: AppId,
    name: &str,
    source: &str,
    libraries: &[&str],
) -> PutVersion {
    let version = version(store, app, name, source, libraries).await;
    store.put_version(app, &version, VersionCondition::None).await.unwrap()
}

pub(crate) async fn version(
    store: &Store,
    app: AppId,
    name: &str,
    source: &str,
    libraries: &[&str],
) -> NewVersion {
    let mut imports: Vec<ScriptVersionId> = Vec::new();
    let mut sources = BTreeMap::new();
    for library in libraries {
        let found = store.library(app, &script_name(library)).await.unwrap().unwrap();
        imports.push(found.version);
        sources.insert(script_name(library), found.source);
    }
    let source: Arc<str> = source.into();
    let name = script_name(name);
    let built = ScriptSources { name: name.clone(), source: Arc::clone(&source), libraries: sources };
    NewVersion {
        name,
        source,
        image: ImageKey::of(&built),
        handlers: vec!["on_request".to_owned()],
        uses: Uses::default(),
        imports,
        created_by: None,
    }
}
