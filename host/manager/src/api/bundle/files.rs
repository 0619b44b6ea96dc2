//! The files of a bundle.

use std::collections::BTreeMap;

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use picloud_core::{
    App, ContentType, ErrorCode, FileHash, FilePath, FileQuota, LimitsPatch, MAX_FILE_BYTES, STATIC_FOLDER,
    content_type_of,
};
use picloud_store::{BundleFile, BundleFiles, PutFiles};
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;

use super::unique::UniqueNames;
use crate::{context::Context, error::ApiError, extract::Object};

/// The most files of a bundle.
const MOST_FILES: usize = 10_000;

/// A file of a bundle.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundledFile {
    /// Its content in base64. May be left out where the app has a file of this content already: then `sha256` names it.
    #[schema(value_type = Option<String>)]
    #[serde(default, deserialize_with = "base64")]
    content: Option<Bytes>,
    /// SHA-256 of its content, in hexadecimal.
    #[schema(value_type = Option<String>)]
    #[serde(default, deserialize_with = "hash")]
    sha256: Option<FileHash>,
    /// Its media type; the one that its path tells, if it is left out.
    #[schema(value_type = Option<String>)]
    #[serde(default, rename = "type")]
    content_type: Option<ContentType>,
}

/// What became of the files of a bundle.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct FilesAnswer {
    /// Files that are new, or have another content or type now.
    #[schema(value_type = Vec<String>)]
    written: Vec<FilePath>,
    /// How many were as they are already.
    unchanged: usize,
    /// Files below `static/` that are not in the bundle and stayed as they were.
    #[schema(value_type = Vec<String>)]
    others: Vec<FilePath>,
    /// Files that were deleted, since they are not in the bundle.
    #[schema(value_type = Vec<String>)]
    deleted: Vec<FilePath>,
}

impl FilesAnswer {
    pub(super) fn of(put: PutFiles, is_pruned: bool) -> Self {
        let PutFiles { written, unchanged, others } = put;
        let (others, deleted) = if is_pruned { (Vec::new(), others) } else { (others, Vec::new()) };
        Self { written, unchanged, others, deleted }
    }
}

/// Files by their paths, as the bundle has them.
pub(super) type Given = BTreeMap<FilePath, Object<BundledFile>>;

pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Given>, D::Error> {
    UniqueNames { what: "file", values: "files", most: MOST_FILES }.read(deserializer).map(Some)
}

/// Checks what the database cannot know.
pub(super) fn checked(given: Given) -> Result<BTreeMap<FilePath, BundleFile>, ApiError> {
    given.into_iter().map(|(path, Object(file))| check(path, file)).collect()
}

/// The files as the store takes them, under the limits that the bundle leaves the app with.
pub(super) fn for_store(
    context: &Context,
    app: &App,
    limits: &LimitsPatch,
    files: &BTreeMap<FilePath, BundleFile>,
) -> BundleFiles {
    let ceiling = context.config.ceiling.limits();
    let bytes = limits.file_bytes.unwrap_or(app.limits.file_bytes).min(ceiling.file_bytes);
    let count = limits.files.unwrap_or(app.limits.files).min(ceiling.files);
    BundleFiles { files: files.clone(), quota: FileQuota { bytes, files: count } }
}

fn check(path: FilePath, file: BundledFile) -> Result<(FilePath, BundleFile), ApiError> {
    let BundledFile { content, sha256, content_type } = file;
    let refused = |code, problem: String| {
        Err(ApiError::new(code, format!("the file {path} {problem}")).field(format!("files.{path}")))
    };
    if !path.as_str().starts_with(STATIC_FOLDER) {
        return refused(
            ErrorCode::Invalid,
            format!("is not below {STATIC_FOLDER}, where those of a bundle are"),
        );
    }
    let size = content.as_ref().map_or(0, |content| content.len() as u64);
    if size > MAX_FILE_BYTES {
        return refused(
            ErrorCode::TooLarge,
            format!("has {size} bytes; at most {MAX_FILE_BYTES} are allowed"),
        );
    }
    let hash = match (&content, sha256) {
        (None, None) => return refused(ErrorCode::Invalid, "needs a content, or the sha256 of one".into()),
        (None, Some(hash)) => hash,
        (Some(content), given) => {
            let hash = FileHash::of(content);
            if given.is_some_and(|given| given != hash) {
                return refused(
                    ErrorCode::Invalid,
                    format!("has a content of the sha256 {hash}, not of the given one"),
                );
            }
            hash
        }
    };
    let content_type = content_type.unwrap_or_else(|| content_type_of(path.as_str()));
    Ok((path, BundleFile { hash, content, content_type }))
}

/// Decodes at once, so that the text is not kept beside it.
fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD.decode(text).map_err(|_| de::Error::custom("it is not base64"))?;
    Ok(Some(bytes.into()))
}

fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FileHash>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
}
