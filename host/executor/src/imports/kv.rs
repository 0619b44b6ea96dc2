//! `picloud:runtime/kv`: the invocation's transactional view of the app's data.

use std::{sync::Arc, time::Duration};

use picloud_core::{CollectionName, ErrorCode, HostError, KvId, KvKey, KvListQuery, KvWrite, NameError};

use super::{Answer, Failure, answer, running};
use crate::{
    bindings::picloud::runtime::kv::{Entry, Host},
    state::{Shared, State},
};

/// The most entries of one list.
const MAX_LIST: u32 = 1_000;

impl Host for State {
    async fn get(&mut self, collection: String, key: String) -> Answer<Option<String>> {
        answer(get(self, collection, key).await)
    }

    async fn set(
        &mut self,
        collection: String,
        key: String,
        value: String,
        ttl_ms: Option<u64>,
    ) -> Answer<()> {
        answer(set(self, collection, key, value, ttl_ms))
    }

    async fn delete(&mut self, collection: String, key: String) -> Answer<()> {
        answer(delete(self, collection, key))
    }

    async fn list(
        &mut self,
        collection: String,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Answer<Vec<Entry>> {
        answer(list(self, collection, prefix, after, limit).await)
    }
}

async fn get(state: &mut State, collection: String, key: String) -> Result<Option<String>, Failure> {
    let shared = Arc::clone(&running(state)?.shared);
    shared.charge_call(collection.len() + key.len())?;
    let id = id(collection, key)?;
    let known = shared.progress().kv.lookup(&id);
    let value = if let Some(value) = known {
        value
    } else {
        let entry = shared.host.kv_get(&id).await?;
        let mut progress = shared.progress();
        progress.kv.fetched(id.clone(), entry);
        progress.kv.lookup(&id).flatten()
    };
    shared.charge_bytes(value.as_ref().map_or(0, |value| value.len()))?;
    Ok(value.map(|value| value.as_ref().to_owned()))
}

fn set(
    state: &mut State,
    collection: String,
    key: String,
    value: String,
    ttl_ms: Option<u64>,
) -> Result<(), Failure> {
    let shared = &running(state)?.shared;
    shared.charge_call(collection.len() + key.len() + value.len())?;
    let id = id(collection, key)?;
    let limit = shared.limits.kv_key_bytes;
    if id.key.as_str().len() as u64 > limit {
        let message = format!("the key has {} bytes; at most {limit} are allowed", id.key.as_str().len());
        return Err(HostError::new(ErrorCode::TooLarge, message).into());
    }
    let limit = shared.limits.kv_value_bytes;
    if value.len() as u64 > limit {
        let message = format!("the value has {} bytes as JSON; at most {limit} are allowed", value.len());
        return Err(HostError::new(ErrorCode::TooLarge, message).into());
    }
    let ttl = ttl_ms.map(ttl).transpose()?;
    write(shared, id, KvWrite::Set { value: value.into(), ttl });
    Ok(())
}

fn delete(state: &mut State, collection: String, key: String) -> Result<(), Failure> {
    let shared = &running(state)?.shared;
    shared.charge_call(collection.len() + key.len())?;
    write(shared, id(collection, key)?, KvWrite::Delete);
    Ok(())
}

async fn list(
    state: &mut State,
    collection: String,
    prefix: String,
    after: Option<String>,
    limit: u32,
) -> Result<Vec<Entry>, Failure> {
    let shared = Arc::clone(&running(state)?.shared);
    let given = collection.len() + prefix.len() + after.as_ref().map_or(0, String::len);
    shared.charge_call(given)?;
    if !(1..=MAX_LIST).contains(&limit) {
        let message = format!("limit is {limit}; allowed is 1 to {MAX_LIST}");
        return Err(HostError::new(ErrorCode::Invalid, message).into());
    }
    for text in [Some(&prefix), after.as_ref()].into_iter().flatten() {
        if text.contains('\0') || text.len() > KvKey::MAX_BYTES {
            let message =
                "prefix and after must be keys or the beginning of keys: no U+0000, at most 512 bytes";
            return Err(HostError::new(ErrorCode::Invalid, message).into());
        }
    }
    let query = KvListQuery { collection: CollectionName::new(collection)?, prefix, after, limit };
    let fetch = KvListQuery { limit: shared.progress().kv.fetch_limit(&query), ..query.clone() };
    let found = shared.host.kv_list(&fetch).await?;
    let entries = shared.progress().kv.listed(query, found);
    shared.charge_bytes(entries.iter().map(|(key, value)| key.as_str().len() + value.len()).sum())?;
    let owned = |(key, value): (KvKey, Arc<str>)| Entry { key: key.into(), value: value.as_ref().to_owned() };
    Ok(entries.into_iter().map(owned).collect())
}

fn id(collection: String, key: String) -> Result<KvId, NameError> {
    Ok(KvId { collection: CollectionName::new(collection)?, key: KvKey::new(key)? })
}

/// At most 100 years, so that every time of expiry can be stored.
fn ttl(ms: u64) -> Result<Duration, HostError> {
    const MAX_MS: u64 = 100 * 365 * 24 * 3_600 * 1_000;
    if (1..=MAX_MS).contains(&ms) {
        return Ok(Duration::from_millis(ms));
    }
    let message = "a time to live must be longer than nothing and at most 100 years";
    Err(HostError::new(ErrorCode::Invalid, message))
}

fn write(shared: &Shared, id: KvId, write: KvWrite) {
    shared.progress().kv.write(id, write);
}
