//! Files of an app.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use picloud_core::{
    App, AppId, ContentType, Effects, ErrorCode, FileHash, FilePath, FileQuota, FileReads, FileVersion,
    FileWrite, KvReads, MAX_FILE_BYTES, StoredFile,
};
use picloud_store::{FileRow, KvCommit};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::{PathNames, QueryOf, read_bytes},
    page::{Cursor, Page, PageLimit, start},
    precondition::{ETag, Precondition},
    store_error::from_store,
};

/// What a browser that is led to a file of an app must not do with it: this is the origin of the control plane.
const NO_RIGHTS: &str = "default-src 'none'; sandbox";

/// A file.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileView {
    /// Its path.
    #[schema(value_type = String, example = "static/index.html")]
    path: FilePath,
    /// Length of its content, in bytes.
    size: u64,
    /// Its media type.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "text/html; charset=utf-8")]
    content_type: ContentType,
    /// SHA-256 of its content, in hexadecimal.
    sha256: String,
    /// When it was last written.
    #[serde(with = "time::serde::rfc3339")]
    modified: OffsetDateTime,
}

impl From<FileRow> for FileView {
    fn from(row: FileRow) -> Self {
        let StoredFile { hash, size, content_type, modified, version: _ } = row.file;
        Self { path: row.path, size, content_type, sha256: hash.to_string(), modified }
    }
}

/// Which files to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilesQuery {
    /// Only paths that start with this text, taken literally.
    #[serde(default)]
    prefix: String,
    /// Items of a page, 1 to 200.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: PageLimit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

/// Of the version, since a type may change where the content does not.
fn tag(file: &StoredFile) -> ETag {
    ETag::of(&[&file.version.as_i64().to_le_bytes()])
}

fn not_found(path: &FilePath) -> ApiError {
    ApiError::new(ErrorCode::FileNotFound, format!("no file \"{path}\""))
}

async fn find(context: &Context, app: AppId, path: &FilePath) -> Result<StoredFile, ApiError> {
    context.store.file(app, path).await.map_err(from_store)?.ok_or_else(|| not_found(path))
}

/// Writes a file, if it is still what the precondition has seen.
async fn write(
    context: &Context,
    app: &App,
    path: &FilePath,
    write: FileWrite,
    expected: Option<FileVersion>,
) -> Result<(), ApiError> {
    let entries: BTreeMap<_, _> = expected.map(|version| (path.clone(), version)).into_iter().collect();
    let reads = KvReads { files: FileReads { entries, ..FileReads::default() }, ..KvReads::default() };
    let effects = Effects { files: [(path.clone(), write)].into(), ..Effects::default() };
    let quota = FileQuota::of(&app.limits);
    match context.store.kv_commit(app.id, &reads, &effects, quota).await.map_err(from_store)? {
        KvCommit::Committed { .. } => {}
        KvCommit::Conflict | KvCommit::Superseded => {
            let detail = "the file was changed in the meantime";
            return Err(ApiError::new(ErrorCode::PreconditionFailed, detail));
        }
    }
    context.app_changed(app.id).await;
    Ok(())
}

/// The files of an app, in byte order of their paths.
#[utoipa::path(get, path = "/api/v1/apps/{app}/files", tag = "files", params(FilesQuery),
    responses((status = 200, description = "A page of files", body = Page<FileView>)))]
pub(crate) async fn list_files(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    QueryOf(query): QueryOf<FilesQuery>,
) -> Result<Json<Page<FileView>>, ApiError> {
    if query.prefix.contains('\0') {
        return Err(
            ApiError::new(ErrorCode::Invalid, "prefix contains U+0000, which no path has").field("prefix")
        );
    }
    let after: Option<FilePath> = start(query.cursor.as_ref())?;
    let rows = context.store.files(app.id, &query.prefix, after.as_ref(), query.limit.size()).await;
    Ok(Json(Page::of(rows.map_err(from_store)?, |row| row.path.clone(), FileView::from)))
}

/// The content of a file.
#[utoipa::path(get, path = "/api/v1/apps/{app}/files/{path}", tag = "files",
    params(("if-none-match" = Option<String>, Header, description = "The `etag` of the file that you have.")),
    responses(
        (status = 200, description = "The content, with its `etag`", body = [u8], content_type = "application/octet-stream"),
        (status = 304, description = "You have it")))]
pub(crate) async fn get_file(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, path)): PathNames<(String, FilePath)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let known = Precondition::of(&headers)?;
    // Once more where it was replaced between its row and its content.
    for _ in 0..2 {
        let file = find(&context, app.id, &path).await?;
        let tag = tag(&file);
        if known.is_known(&tag) {
            return Ok((StatusCode::NOT_MODIFIED, [tag.header()]).into_response());
        }
        let Some(content) = context.store.blob(app.id, &file.hash).await.map_err(from_store)? else {
            continue;
        };
        if FileHash::of(&content) != file.hash {
            let cause = format!("{path} of app {}", app.id);
            return Err(ApiError::internal("a file's content, which is not what its hash says", &cause));
        }
        let mut response = ([tag.header()], content).into_response();
        let headers = response.headers_mut();
        if let Ok(content_type) = HeaderValue::from_str(file.content_type.as_str()) {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(NO_RIGHTS));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        return Ok(response);
    }
    Err(not_found(&path))
}

/// Gives a file a content: the body itself, of up to 8 MiB.
///
/// The file's type is the `content-type`; without one, or with that of a form, it is the one that the path tells.
#[utoipa::path(put, path = "/api/v1/apps/{app}/files/{path}", tag = "files",
    params(
        ("if-match" = Option<String>, Header, description = "The `etag` that the change is based on."),
        ("if-none-match" = Option<String>, Header, description = "`*`: only if there is no such file yet.")),
    request_body(content = [u8], content_type = "application/octet-stream", description = "The content"),
    responses(
        (status = 200, description = "It has a new content", body = FileView),
        (status = 201, description = "A new file", body = FileView)))]
pub(crate) async fn put_file(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, path)): PathNames<(String, FilePath)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let content_type = given_type(&parts.headers)?;
    let precondition = Precondition::of(&parts.headers)?;
    let content = read_bytes(&parts.headers, body, MAX_FILE_BYTES).await?;
    let present = context.store.file(app.id, &path).await.map_err(from_store)?;
    precondition.check(present.as_ref().map(tag).as_ref())?;
    let version = present.as_ref().map_or(FileVersion::ABSENT, |file| file.version);
    let expected = (!precondition.is_empty()).then_some(version);
    write(&context, &app, &path, FileWrite::set(&path, content, content_type), expected).await?;
    let file = find(&context, app.id, &path).await?;
    let status = if present.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    let tag = tag(&file).header();
    Ok((status, [tag], Json(FileView::from(FileRow { path, file }))).into_response())
}

/// Removes a file.
#[utoipa::path(delete, path = "/api/v1/apps/{app}/files/{path}", tag = "files",
    params(("if-match" = Option<String>, Header, description = "The `etag` that the change is based on.")),
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete_file(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, path)): PathNames<(String, FilePath)>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let precondition = Precondition::of(&headers)?;
    let file = find(&context, app.id, &path).await?;
    precondition.check(Some(&tag(&file)))?;
    let expected = (!precondition.is_empty()).then_some(file.version);
    write(&context, &app, &path, FileWrite::Delete, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The type that a request gives its file. That of a form is what curl sends where nothing is said.
fn given_type(headers: &HeaderMap) -> Result<Option<ContentType>, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let refused = |problem: String| ApiError::new(ErrorCode::Invalid, problem).field("content-type");
    let text = value.to_str().map_err(|_| refused("content type is not ASCII text".into()))?;
    let given = ContentType::new(text).map_err(|error| refused(error.to_string()))?;
    Ok(Some(given).filter(|given| given.essence() != "application/x-www-form-urlencoded"))
}
