//! Files that a route serves.

mod conditions;
mod encoding;

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG,
        LAST_MODIFIED, LOCATION, RANGE, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};
use picloud_core::{AppId, ErrorCode, FileListed, FilePath, RouteAccess, StaticFiles, StoredFile};
use picloud_edge::Problem;
use picloud_files::{Compression, Content};
use picloud_store::StoreError;

use super::{
    Answered,
    reply::Reply,
    response::{Origin, guard_page},
};
use crate::{files::Files, host::describe};
use conditions::{Asked, Conditions, Tag};

/// The file that stands for its folder.
const INDEX: &str = "index.html";

/// Shorter contents gain nothing from compression.
const LEAST_COMPRESSED: u64 = 1_024;

/// A request for a file.
pub(super) struct FileRequest<'a> {
    pub(super) app: AppId,
    pub(super) served: &'a StaticFiles,
    /// The path below the route's own, decoded.
    pub(super) rest: &'a str,
    /// The whole path as it came, that of the app included.
    pub(super) raw_path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    pub(super) origin: Origin,
    pub(super) access: RouteAccess,
}

/// Answers with a file, or says that there is none.
pub(super) async fn serve(files: &Files, request: &FileRequest<'_>) -> Result<Answered, Problem> {
    let candidates = candidates(request);
    // Once more where the file was replaced between its row and its content.
    for _ in 0..2 {
        let Some(found) = files.first(request.app, &candidates).await.map_err(|error| failed(&error))? else {
            break;
        };
        if is_index_of(&found, request) {
            return Ok(to_folder(request));
        }
        if let Some(answer) = answer(files, request, &found.file).await? {
            return Ok(answer);
        }
    }
    Err(Problem::new(ErrorCode::FileNotFound))
}

/// Where to look, in this order. What cannot be the path of a file is none, such as one that leads out of the folder.
fn candidates(request: &FileRequest<'_>) -> Vec<FilePath> {
    let (folder, rest) = (&request.served.folder, request.rest);
    let mut candidates = Vec::with_capacity(3);
    let mut add = |path: String| candidates.extend(FilePath::new(path));
    if rest.is_empty() || rest.ends_with('/') {
        add(format!("{folder}{rest}{INDEX}"));
    } else {
        add(format!("{folder}{rest}"));
        add(format!("{folder}{rest}/{INDEX}"));
    }
    if let Some(fallback) = request.served.fallback.as_ref().filter(|_| is_for_a_page(request)) {
        candidates.push(fallback.clone());
    }
    candidates
}

/// Whether a page is asked for: not the picture or the script of one, which had better be missed.
fn is_for_a_page(request: &FileRequest<'_>) -> bool {
    let name = request.rest.rsplit('/').next().unwrap_or_default();
    let accept = request.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    !name.contains('.') || accept.contains("text/html")
}

/// Whether it was found as the index of a folder that was named without its slash.
fn is_index_of(found: &FileListed, request: &FileRequest<'_>) -> bool {
    let (folder, rest) = (&request.served.folder, request.rest);
    let slash = if rest.is_empty() { "" } else { "/" };
    !request.raw_path.is_empty()
        && !request.raw_path.ends_with('/')
        && !rest.ends_with('/')
        && found.path.as_str() == format!("{folder}{rest}{slash}{INDEX}")
}

/// Leads to the folder with its slash, so that what its page names is looked for in it. Relative to where it is, so that
/// no path makes another host of it.
fn to_folder(request: &FileRequest<'_>) -> Answered {
    let name = request.raw_path.rsplit('/').next().unwrap_or_default();
    let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(Reply::default());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(location) = HeaderValue::try_from(format!("./{name}/{query}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The answer with a file that is there; `None` if its content is gone.
async fn answer(
    files: &Files,
    request: &FileRequest<'_>,
    file: &StoredFile,
) -> Result<Option<Answered>, Problem> {
    let may_compress = file.content_type.is_compressible() && file.size >= LEAST_COMPRESSED;
    let wants_part = request.headers.contains_key(RANGE);
    let compression = if may_compress && !wants_part { encoding::preferred(request.headers) } else { None };
    let tag = Tag::of(&file.hash, compression);
    let mut headers = headers(request, file, &tag);
    if may_compress {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    let conditions = Conditions { tag: &tag, modified: file.modified, size: file.size };
    let (from, to) = match conditions.check(request.headers) {
        Asked::Nothing => {
            headers.remove(CONTENT_TYPE);
            return Ok(Some(with(StatusCode::NOT_MODIFIED, headers, Reply::default())));
        }
        Asked::Outside => {
            let size = HeaderValue::try_from(format!("bytes */{}", file.size));
            let problem = Problem::new(ErrorCode::RangeNotSatisfiable);
            return Err(size.map_or(problem.clone(), |size| problem.header(CONTENT_RANGE, size)));
        }
        Asked::Part { from, to } => (from, to),
        Asked::Whole => (0, u64::MAX),
    };
    let is_part = to != u64::MAX;
    if is_part && let Ok(range) = HeaderValue::try_from(format!("bytes {from}-{}/{}", to - 1, file.size)) {
        headers.insert(CONTENT_RANGE, range);
    }
    let Some(content) = load(files, request.app, file, compression).await? else { return Ok(None) };
    match compression {
        Some(compression) => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(compression.as_str()));
        }
        None => _ = headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes")),
    }
    let size = content.size();
    let part = content.part(from, to.min(size)).await.map_err(|error| {
        tracing::error!(%error, app = %request.app, hash = %file.hash, "a file cannot be read");
        Problem::new(ErrorCode::Internal)
    })?;
    let status = if is_part { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    Ok(Some(with(status, headers, part.into())))
}

async fn load(
    files: &Files,
    app: AppId,
    file: &StoredFile,
    compression: Option<Compression>,
) -> Result<Option<Content>, Problem> {
    match compression {
        Some(compression) => files.compressed(app, file.hash, compression).await,
        None => files.content(app, file.hash).await,
    }
    .map_err(|error| failed(&error))
}

fn headers(request: &FileRequest<'_>, file: &StoredFile, tag: &Tag) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(10);
    // Every type that is stored can be a header's value.
    let content_type = HeaderValue::from_str(file.content_type.as_str());
    let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(ETAG, tag.header());
    if let Some(modified) = conditions::http_date(file.modified) {
        headers.insert(LAST_MODIFIED, modified);
    }
    headers.insert(CACHE_CONTROL, cache_control(request, file));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    guard_page(&mut headers, request.origin);
    headers
}

/// Pages are asked for again each time, so that what they name is what belongs together. What a route does not give to
/// everybody is nothing for caches that everybody asks.
fn cache_control(request: &FileRequest<'_>, file: &StoredFile) -> HeaderValue {
    let whose = if request.access == RouteAccess::Public { "" } else { "private, " };
    let how = match request.served.max_age.filter(|_| !file.content_type.is_page()) {
        Some(age) => format!("max-age={}", age.as_secs()),
        None => "no-cache".to_owned(),
    };
    HeaderValue::try_from(format!("{whose}{how}")).unwrap_or(HeaderValue::from_static("no-cache"))
}

fn with(status: StatusCode, headers: HeaderMap, body: Reply) -> Answered {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn failed(error: &StoreError) -> Problem {
    Problem::new(describe(error).0)
}
