//! The files that a deployment brings: those below `static/`.

use std::collections::BTreeMap;

use bytes::Bytes;
use picloud_core::{AppId, ContentType, FileHash, FilePath, FileQuota, STATIC_FOLDER};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::commit::{BlobSource, Change, FileSet, change};
use crate::{
    OtherScripts, StoreError,
    kv::KeyRange,
    text::{digest, parse},
};

/// The files of a bundle.
#[derive(Clone, Debug)]
pub struct BundleFiles {
    /// By path; all of them below [`STATIC_FOLDER`].
    pub files: BTreeMap<FilePath, BundleFile>,
    /// What the app's files may be, this bundle included.
    pub quota: FileQuota,
}

/// A file of a bundle.
#[derive(Clone, Debug)]
pub struct BundleFile {
    /// The hash of its content.
    pub hash: FileHash,
    /// The content; may be left out where the app has a file of this content.
    pub content: Option<Bytes>,
    /// Its media type.
    pub content_type: ContentType,
}

/// What became of the files of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutFiles {
    /// Files that are new or have another content or type now, by path.
    pub written: Vec<FilePath>,
    /// How many were as they are.
    pub unchanged: usize,
    /// Files below `static/` that are not of the bundle, and stayed or were deleted as it says.
    pub others: Vec<FilePath>,
}

/// Writes the files of a bundle under the app's lock of files.
pub(crate) async fn put_files(
    connection: &mut PgConnection,
    app: AppId,
    bundle: &BundleFiles,
    others: OtherScripts,
) -> Result<PutFiles, StoreError> {
    let present = present(connection, app).await?;
    let is_same = |path: &FilePath, file: &BundleFile| {
        let there = present.get(path);
        there.is_some_and(|(hash, content_type)| *hash == file.hash && *content_type == file.content_type)
    };
    let wanted: Vec<_> = bundle.files.iter().filter(|(path, file)| !is_same(path, file)).collect();
    let sizes = sizes_of(connection, app, &wanted).await?;
    let now = OffsetDateTime::now_utc();
    let mut all = Change::default();
    for (path, file) in &wanted {
        let source = match &file.content {
            Some(content) => BlobSource::Content(content),
            None => match sizes.get(&file.hash) {
                Some(size) => BlobSource::Present { size: *size },
                None => return Err(missing(path, &file.hash)),
            },
        };
        let content_type = &file.content_type;
        all.set.push(FileSet { path, hash: file.hash, source, content_type, modified: now });
    }
    let gone: Vec<FilePath> = present.into_keys().filter(|path| !bundle.files.contains_key(path)).collect();
    if others == OtherScripts::Delete {
        all.delete = gone.iter().map(FilePath::as_str).collect();
    }
    change(connection, app, &all, bundle.quota).await?;
    let written: Vec<FilePath> = wanted.iter().map(|(path, _)| (*path).clone()).collect();
    Ok(PutFiles { unchanged: bundle.files.len() - written.len(), written, others: gone })
}

fn missing(path: &FilePath, hash: &FileHash) -> StoreError {
    StoreError::Invalid(format!(
        "the file {path} has no content, and no file of the app has a content of the hash {hash}; send its content"
    ))
}

/// Hash and type of the app's files below `static/`.
async fn present(
    connection: &mut PgConnection,
    app: AppId,
) -> Result<BTreeMap<FilePath, (FileHash, ContentType)>, StoreError> {
    let Some(range) = KeyRange::new(STATIC_FOLDER, None) else { return Ok(BTreeMap::new()) };
    let rows = sqlx::query!(
        "SELECT path, sha256, content_type FROM files WHERE app_id = $1 AND path >= $2 AND path < $3",
        app.as_uuid(),
        range.first,
        range.end,
    );
    let rows = rows.fetch_all(connection).await?.into_iter();
    rows.map(|row| {
        Ok((parse(&row.path)?, (FileHash::from_bytes(digest(row.sha256)?), parse(&row.content_type)?)))
    })
    .collect()
}

/// The sizes of the contents that the app has, of those that are named without one.
async fn sizes_of(
    connection: &mut PgConnection,
    app: AppId,
    wanted: &[(&FilePath, &BundleFile)],
) -> Result<BTreeMap<FileHash, i32>, StoreError> {
    let named = wanted.iter().filter(|(_, file)| file.content.is_none());
    let hashes: Vec<&[u8]> = named.map(|(_, file)| file.hash.as_bytes().as_slice()).collect();
    if hashes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query!(
        r#"SELECT sha256, octet_length(content) AS "size!" FROM blobs WHERE app_id = $1 AND sha256 = ANY ($2)"#,
        app.as_uuid(),
        &hashes as _,
    );
    let rows = rows.fetch_all(connection).await?.into_iter();
    rows.map(|row| Ok((FileHash::from_bytes(digest(row.sha256)?), row.size))).collect()
}
