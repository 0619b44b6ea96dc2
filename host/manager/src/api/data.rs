//! Key-value data of an app.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use picloud_core::{App, AppId, CollectionName, ErrorCode, KvId, KvKey, KvVersion};
use picloud_store::{KvRow, LONGEST_TTL, StoreError};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::{JSON_BYTES, PathNames, QueryOf, check_json, read_json},
    page::{Cursor, Page, PageLimit, PageQuery, start},
    precondition::{ETag, Precondition},
    store_error::from_store,
};

/// A collection of an app.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CollectionView {
    /// Its name.
    #[schema(value_type = String)]
    name: CollectionName,
    /// How many entries it has.
    entries: u64,
    /// What their keys and values take, in bytes.
    bytes: u64,
}

/// An entry.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntryView {
    /// The key.
    #[schema(value_type = String)]
    key: KvKey,
    /// The value: any JSON, exactly as it was written.
    #[schema(value_type = serde_json::Value)]
    value: Box<RawValue>,
    /// Its version; every write gives a greater one.
    version: i64,
    /// When it ends; null if it does not.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// When it was last written.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl TryFrom<KvRow> for EntryView {
    type Error = ApiError;

    fn try_from(row: KvRow) -> Result<Self, ApiError> {
        let value = RawValue::from_string(row.value.to_string())
            .map_err(|error| ApiError::internal("a stored value as JSON", &error))?;
        Ok(Self {
            key: row.key,
            value,
            version: row.version.as_i64(),
            expires_at: row.expires_at,
            updated_at: row.updated_at,
        })
    }
}

/// A value to be set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewValue {
    /// Any JSON.
    #[schema(value_type = serde_json::Value)]
    value: Box<RawValue>,
    /// Removed after this many seconds; never if it is left out.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 3_153_600_000_u64)]
    #[serde(default, deserialize_with = "seconds")]
    ttl_seconds: Option<Duration>,
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    match Option::<u64>::deserialize(deserializer)? {
        Some(0) => Err(serde::de::Error::custom("ttl_seconds is 0; the least allowed is 1")),
        Some(seconds) if seconds > LONGEST_TTL.as_secs() => Err(serde::de::Error::custom(format_args!(
            "ttl_seconds is {seconds}; the most allowed is {} (100 years)",
            LONGEST_TTL.as_secs()
        ))),
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

/// Which entries of a collection to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EntriesQuery {
    /// Only keys that start with this text, taken literally.
    #[serde(default)]
    prefix: String,
    /// Items of a page, 1 to 200.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: PageLimit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

fn tag(version: KvVersion) -> ETag {
    ETag::of(&[&version.as_i64().to_le_bytes()])
}

async fn find(context: &Context, app: AppId, id: &KvId) -> Result<KvRow, ApiError> {
    let row = context.store.kv_row(app, id).await.map_err(from_store)?;
    row.ok_or_else(|| {
        ApiError::new(
            ErrorCode::NotFound,
            format!("no key {:?} in collection \"{}\"", id.key.as_str(), id.collection),
        )
    })
}

/// What a precondition asks of the store: the version that the entry must have.
async fn expected(
    context: &Context,
    app: AppId,
    id: &KvId,
    headers: &HeaderMap,
) -> Result<Option<KvVersion>, ApiError> {
    let precondition = Precondition::of(headers)?;
    if precondition.is_empty() {
        return Ok(None);
    }
    let version = context.store.kv_row(app, id).await.map_err(from_store)?.map(|row| row.version);
    precondition.check(version.map(tag).as_ref())?;
    Ok(Some(version.unwrap_or(KvVersion::ABSENT)))
}

fn changed_meanwhile(error: StoreError) -> ApiError {
    match error {
        StoreError::Conflict => {
            ApiError::new(ErrorCode::PreconditionFailed, "the entry was changed in the meantime")
        }
        other => from_store(other),
    }
}

/// As for scripts: what the app's entries take must not grow beyond its limit. Counting anew is dear, but a
/// person's writes are few.
async fn check_quota(context: &Context, app: &App, id: &KvId, value: &str) -> Result<(), ApiError> {
    let used = context.store.kv_used_bytes(&[app.id]).await.map_err(from_store)?;
    let used = used.first().map_or(0, |(_, bytes)| *bytes);
    let replaced = context.store.kv_row(app.id, id).await.map_err(from_store)?;
    let entry_bytes = |value: &str| (id.key.as_str().len() + value.len()) as u64;
    let freed = replaced.map_or(0, |row| entry_bytes(&row.value));
    let after = used.saturating_sub(freed) + entry_bytes(value);
    let most = app.limits.kv_bytes;
    if after > most && after > used {
        return Err(ApiError::new(
            ErrorCode::KvQuota,
            format!("the app's data would take {after} bytes; its limit kv_bytes is {most}"),
        )
        .with("limit", most));
    }
    Ok(())
}

/// The collections of an app, by name.
#[utoipa::path(get, path = "/api/v1/apps/{app}/kv", tag = "kv", params(PageQuery),
    responses((status = 200, description = "A page of collections", body = Page<CollectionView>)))]
pub(crate) async fn list_collections(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<Page<CollectionView>>, ApiError> {
    let after: Option<CollectionName> = start(query.cursor.as_ref())?;
    let found = context.store.kv_collections(app.id, after.as_ref(), query.limit.size()).await;
    let view = |row: picloud_store::KvCollection| CollectionView {
        name: row.name,
        entries: row.entries,
        bytes: row.bytes,
    };
    Ok(Json(Page::of(found.map_err(from_store)?, |row| row.name.clone(), view)))
}

/// The entries of a collection, in byte order of their keys.
#[utoipa::path(get, path = "/api/v1/apps/{app}/kv/{collection}", tag = "kv", params(EntriesQuery),
    responses((status = 200, description = "A page of entries", body = Page<EntryView>)))]
pub(crate) async fn list_entries(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, collection)): PathNames<(String, CollectionName)>,
    QueryOf(query): QueryOf<EntriesQuery>,
) -> Result<Json<Page<EntryView>>, ApiError> {
    if query.prefix.contains('\0') {
        return Err(
            ApiError::new(ErrorCode::Invalid, "prefix contains U+0000, which no key has").field("prefix")
        );
    }
    let after: Option<KvKey> = start(query.cursor.as_ref())?;
    let after = after.as_ref().map(KvKey::as_str);
    let rows = context.store.kv_rows(app.id, &collection, &query.prefix, after, query.limit.size()).await;
    let page = Page::of(rows.map_err(from_store)?, |row| row.key.clone(), EntryView::try_from);
    page.transposed().map(Json)
}

/// An entry.
#[utoipa::path(get, path = "/api/v1/apps/{app}/kv/{collection}/{key}", tag = "kv",
    responses((status = 200, description = "The entry, with its `etag`", body = EntryView)))]
pub(crate) async fn get_entry(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, collection, key)): PathNames<(String, CollectionName, KvKey)>,
) -> Result<Response, ApiError> {
    let row = find(&context, app.id, &KvId { collection, key }).await?;
    Ok(([tag(row.version).header()], Json(EntryView::try_from(row)?)).into_response())
}

/// Sets an entry.
#[utoipa::path(put, path = "/api/v1/apps/{app}/kv/{collection}/{key}", tag = "kv",
    params(
        ("if-match" = Option<String>, Header, description = "The `etag` that the change is based on."),
        ("if-none-match" = Option<String>, Header, description = "`*`: only if there is no such entry yet.")),
    request_body = NewValue,
    responses((status = 200, description = "The entry as it is now", body = EntryView)))]
pub(crate) async fn put_entry(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, collection, key)): PathNames<(String, CollectionName, KvKey)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (length, most) = (key.as_str().len() as u64, app.limits.kv_key_bytes);
    if length > most {
        let detail = format!("key has {length} bytes; this app's limit kv_key_bytes is {most}");
        return Err(ApiError::new(ErrorCode::TooLarge, detail).field("key").with("limit", most));
    }
    let id = KvId { collection, key };
    let (parts, body) = request.into_parts();
    let most = app.limits.kv_value_bytes;
    let NewValue { value, ttl_seconds } =
        read_json(&parts.headers, body, most.saturating_add(JSON_BYTES)).await?;
    if value.get().len() as u64 > most {
        return Err(ApiError::new(
            ErrorCode::TooLarge,
            format!("value has {} bytes; this app's limit kv_value_bytes is {most}", value.get().len()),
        )
        .field("value")
        .with("limit", most));
    }
    check_json(&value, "value")?;
    let value: Arc<str> = value.get().into();
    check_quota(&context, &app, &id, &value).await?;
    let expected = expected(&context, app.id, &id, &parts.headers).await?;
    context.store.kv_put(app.id, &id, value, ttl_seconds, expected).await.map_err(changed_meanwhile)?;
    let row = find(&context, app.id, &id).await?;
    Ok(([tag(row.version).header()], Json(EntryView::try_from(row)?)).into_response())
}

/// Removes an entry.
#[utoipa::path(delete, path = "/api/v1/apps/{app}/kv/{collection}/{key}", tag = "kv",
    params(("if-match" = Option<String>, Header, description = "The `etag` that the change is based on.")),
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete_entry(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, collection, key)): PathNames<(String, CollectionName, KvKey)>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let id = KvId { collection, key };
    find(&context, app.id, &id).await?;
    let expected = expected(&context, app.id, &id, &headers).await?;
    context.store.kv_delete(app.id, &id, expected).await.map_err(changed_meanwhile)?;
    Ok(StatusCode::NO_CONTENT)
}
