//! What a commit does to files, under the app's lock of files.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use picloud_core::{AppId, ContentType, FileHash, FilePath, FileQuota, FileReads, FileVersion, FileWrite};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    StoreError,
    changes::notify,
    text::{bigint, digest},
};

/// A file that gets a content.
#[derive(Clone, Debug)]
pub(crate) struct FileSet<'a> {
    pub(crate) path: &'a FilePath,
    pub(crate) hash: FileHash,
    pub(crate) source: BlobSource<'a>,
    pub(crate) content_type: &'a ContentType,
    pub(crate) modified: OffsetDateTime,
}

/// Where a content comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BlobSource<'a> {
    /// It is given.
    Content(&'a Bytes),
    /// The app has it, and it has this many bytes.
    Present { size: i32 },
}

/// What is done to an app's files at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change<'a> {
    pub(crate) set: Vec<FileSet<'a>>,
    pub(crate) delete: Vec<&'a str>,
}

/// Whether what was read is still so.
pub(crate) async fn agree(
    connection: &mut PgConnection,
    app: AppId,
    reads: &FileReads,
) -> Result<bool, StoreError> {
    if reads.is_empty() {
        return Ok(true);
    }
    if reads.lists_differ {
        return Ok(false);
    }
    let paths: Vec<&str> = reads.entries.keys().map(FilePath::as_str).collect();
    let rows = sqlx::query!(
        r#"SELECT coalesce((SELECT generation FROM file_usage WHERE app_id = $1), 0) AS "generation!",
            f.path AS "path?", f.version AS "version?"
        FROM (SELECT 1) AS one LEFT JOIN files f ON f.app_id = $1 AND f.path = ANY ($2)"#,
        app.as_uuid(),
        &paths as _,
    );
    let mut versions = BTreeMap::new();
    for row in rows.fetch_all(connection).await? {
        if reads.listed.is_some_and(|listed| listed.0 != row.generation) {
            return Ok(false);
        }
        if let (Some(path), Some(version)) = (row.path, row.version) {
            versions.insert(path, FileVersion::from_i64(version));
        }
    }
    let now = |path: &FilePath| versions.get(path.as_str()).copied().unwrap_or(FileVersion::ABSENT);
    Ok(reads.entries.iter().all(|(path, seen)| now(path) == *seen))
}

/// Does what a run has written.
pub(crate) async fn write(
    connection: &mut PgConnection,
    app: AppId,
    writes: &BTreeMap<FilePath, FileWrite>,
    quota: FileQuota,
) -> Result<(), StoreError> {
    let mut all = Change::default();
    for (path, write) in writes {
        match write {
            FileWrite::Set { content, hash, content_type, modified } => all.set.push(FileSet {
                path,
                hash: *hash,
                source: BlobSource::Content(content),
                content_type,
                modified: *modified,
            }),
            FileWrite::Delete => all.delete.push(path.as_str()),
        }
    }
    change(connection, app, &all, quota).await
}

/// Changes files under the app's lock of files, if the quota allows what it adds.
pub(crate) async fn change(
    connection: &mut PgConnection,
    app: AppId,
    change: &Change<'_>,
    quota: FileQuota,
) -> Result<(), StoreError> {
    if change.set.is_empty() && change.delete.is_empty() {
        return Ok(());
    }
    // First, so that who deletes the app waits at its row, and not in the middle of what was changed here.
    let locked = sqlx::query!("SELECT id FROM apps WHERE id = $1 FOR KEY SHARE", app.as_uuid());
    if locked.fetch_optional(&mut *connection).await?.is_none() {
        return Err(StoreError::NotFound { what: "app" });
    }
    let replaced = Replaced::load(connection, app, change).await?;
    insert_blobs(connection, app, &change.set).await?;
    upsert(connection, app, &change.set).await?;
    delete(connection, app, &change.delete).await?;
    count(connection, app, change, &replaced, quota).await?;
    collect_blobs(connection, app, &replaced.hashes).await
}

/// What is there of the files that are changed.
struct Replaced {
    files: i64,
    bytes: i64,
    hashes: BTreeSet<FileHash>,
}

impl Replaced {
    async fn load(
        connection: &mut PgConnection,
        app: AppId,
        change: &Change<'_>,
    ) -> Result<Self, StoreError> {
        let set = change.set.iter().map(|set| set.path.as_str());
        let paths: Vec<&str> = set.chain(change.delete.iter().copied()).collect();
        let rows = sqlx::query!(
            "SELECT sha256, size FROM files WHERE app_id = $1 AND path = ANY ($2)",
            app.as_uuid(),
            &paths as _,
        );
        let mut replaced = Self { files: 0, bytes: 0, hashes: BTreeSet::new() };
        for row in rows.fetch_all(connection).await? {
            replaced.files += 1;
            replaced.bytes += i64::from(row.size);
            replaced.hashes.insert(FileHash::from_bytes(digest(row.sha256)?));
        }
        Ok(replaced)
    }
}

impl FileSet<'_> {
    fn size(&self) -> Result<i32, StoreError> {
        match self.source {
            BlobSource::Present { size } => Ok(size),
            BlobSource::Content(content) => i32::try_from(content.len())
                .map_err(|_| StoreError::Invalid(format!("{} is larger than a file can be", self.path))),
        }
    }
}

async fn insert_blobs(
    connection: &mut PgConnection,
    app: AppId,
    set: &[FileSet<'_>],
) -> Result<(), StoreError> {
    let mut contents: BTreeMap<FileHash, &[u8]> = BTreeMap::new();
    for file in set {
        if let BlobSource::Content(content) = file.source {
            contents.insert(file.hash, content);
        }
    }
    if contents.is_empty() {
        return Ok(());
    }
    let hashes: Vec<&[u8]> = contents.keys().map(|hash| hash.as_bytes().as_slice()).collect();
    let contents: Vec<&[u8]> = contents.values().copied().collect();
    let inserted = sqlx::query!(
        "INSERT INTO blobs (app_id, sha256, content)
        SELECT $1, sha256, content FROM unnest($2::bytea[], $3::bytea[]) AS new (sha256, content)
        ON CONFLICT DO NOTHING",
        app.as_uuid(),
        &hashes as _,
        &contents as _,
    );
    inserted.execute(connection).await?;
    Ok(())
}

async fn upsert(connection: &mut PgConnection, app: AppId, set: &[FileSet<'_>]) -> Result<(), StoreError> {
    if set.is_empty() {
        return Ok(());
    }
    let paths: Vec<&str> = set.iter().map(|file| file.path.as_str()).collect();
    let hashes: Vec<&[u8]> = set.iter().map(|file| file.hash.as_bytes().as_slice()).collect();
    let sizes: Vec<i32> = set.iter().map(FileSet::size).collect::<Result<_, _>>()?;
    let types: Vec<&str> = set.iter().map(|file| file.content_type.as_str()).collect();
    let times: Vec<OffsetDateTime> = set.iter().map(|file| file.modified).collect();
    let upserted = sqlx::query!(
        "INSERT INTO files (app_id, path, sha256, size, content_type, modified_at)
        SELECT $1, path, sha256, size, content_type, modified_at
        FROM unnest($2::text[], $3::bytea[], $4::integer[], $5::text[], $6::timestamptz[])
            AS new (path, sha256, size, content_type, modified_at)
        ON CONFLICT (app_id, path) DO UPDATE SET sha256 = excluded.sha256, size = excluded.size,
            content_type = excluded.content_type, version = excluded.version, modified_at = excluded.modified_at",
        app.as_uuid(),
        &paths as _,
        &hashes as _,
        &sizes,
        &types as _,
        &times,
    );
    upserted.execute(connection).await.map_err(|error| StoreError::foreign(error, "app"))?;
    Ok(())
}

async fn delete(connection: &mut PgConnection, app: AppId, paths: &[&str]) -> Result<(), StoreError> {
    if paths.is_empty() {
        return Ok(());
    }
    let deleted =
        sqlx::query!("DELETE FROM files WHERE app_id = $1 AND path = ANY ($2)", app.as_uuid(), paths as _);
    deleted.execute(connection).await?;
    Ok(())
}

/// Counts what was changed. What grows must be within the quota; what is over it already may shrink.
async fn count(
    connection: &mut PgConnection,
    app: AppId,
    change: &Change<'_>,
    replaced: &Replaced,
    quota: FileQuota,
) -> Result<(), StoreError> {
    let sizes: Vec<i32> = change.set.iter().map(FileSet::size).collect::<Result<_, _>>()?;
    let bytes = sizes.iter().map(|size| i64::from(*size)).sum::<i64>() - replaced.bytes;
    let files = bigint(change.set.len()) - replaced.files;
    let now = sqlx::query!(
        "INSERT INTO file_usage (app_id, files, bytes, generation) VALUES ($1, greatest($2::bigint, 0), greatest($3::bigint, 0), 1)
        ON CONFLICT (app_id) DO UPDATE SET files = file_usage.files + $2, bytes = file_usage.bytes + $3,
            generation = file_usage.generation + 1
        RETURNING files, bytes",
        app.as_uuid(),
        files,
        bytes,
    );
    let now = now.fetch_one(&mut *connection).await?;
    if files > 0 && now.files > bigint(quota.files) {
        return Err(StoreError::FileQuota {
            limit: "files",
            message: format!("the app would have {} files; its limit files is {}", now.files, quota.files),
            most: quota.files,
        });
    }
    if bytes > 0 && now.bytes > bigint(quota.bytes) {
        return Err(StoreError::FileQuota {
            limit: "file_bytes",
            message: format!(
                "the app's files would take {} bytes; its limit file_bytes is {}",
                now.bytes, quota.bytes
            ),
            most: quota.bytes,
        });
    }
    // Nodes keep in mind whether an app has files at all.
    if (now.files == 0) != (now.files == files) {
        notify(connection, app).await?;
    }
    Ok(())
}

/// Removes contents that no file has any more.
async fn collect_blobs(
    connection: &mut PgConnection,
    app: AppId,
    hashes: &BTreeSet<FileHash>,
) -> Result<(), StoreError> {
    let hashes: Vec<&[u8]> = hashes.iter().map(|hash| hash.as_bytes().as_slice()).collect();
    if hashes.is_empty() {
        return Ok(());
    }
    let removed = sqlx::query!(
        "DELETE FROM blobs b WHERE b.app_id = $1 AND b.sha256 = ANY ($2)
            AND NOT EXISTS (SELECT FROM files f WHERE f.app_id = b.app_id AND f.sha256 = b.sha256)",
        app.as_uuid(),
        &hashes as _,
    );
    removed.execute(connection).await?;
    Ok(())
}
