//! Reading files.

use bytes::Bytes;
use picloud_core::{
    AppId, FileGeneration, FileHash, FileList, FileListQuery, FileListed, FilePath, FileVersion, StoredFile,
};
use time::OffsetDateTime;

use crate::{
    Page, PageSize, Store, StoreError,
    kv::KeyRange,
    text::{digest, parse, unsigned},
};

/// A file with its path, as a list has it.
pub type FileRow = FileListed;

impl Store {
    /// What is known of a file; `None` if there is none of this path.
    pub async fn file(&self, app: AppId, path: &FilePath) -> Result<Option<StoredFile>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            "SELECT path, sha256, size, content_type, version, modified_at FROM files
            WHERE app_id = $1 AND path = $2",
            app.as_uuid(),
            path.as_str(),
        );
        row.fetch_optional(&self.pool).await?.map(StoredFile::try_from).transpose()
    }

    /// What is known of the first of `paths` that there is, and which of them it is.
    pub async fn first_file(&self, app: AppId, paths: &[FilePath]) -> Result<Option<FileListed>, StoreError> {
        let paths: Vec<&str> = paths.iter().map(FilePath::as_str).collect();
        let row = sqlx::query_as!(
            Row,
            "SELECT f.path, f.sha256, f.size, f.content_type, f.version, f.modified_at
            FROM unnest($2::text[]) WITH ORDINALITY AS wanted (path, ord)
            JOIN files f ON f.app_id = $1 AND f.path = wanted.path
            ORDER BY wanted.ord LIMIT 1",
            app.as_uuid(),
            &paths as _,
        );
        row.fetch_optional(&self.pool).await?.map(listed).transpose()
    }

    /// The content of an app's file; `None` if no file of this app has it any more.
    pub async fn blob(&self, app: AppId, hash: &FileHash) -> Result<Option<Bytes>, StoreError> {
        let content = sqlx::query_scalar!(
            "SELECT content FROM blobs WHERE app_id = $1 AND sha256 = $2",
            app.as_uuid(),
            hash.as_bytes(),
        );
        Ok(content.fetch_optional(&self.pool).await?.map(Bytes::from))
    }

    /// The files whose path starts with `prefix` and comes after `after`, in byte order.
    pub async fn files(
        &self,
        app: AppId,
        prefix: &str,
        after: Option<&FilePath>,
        size: PageSize,
    ) -> Result<Page<FileRow>, StoreError> {
        let Some(range) = KeyRange::new(prefix, after.map(FilePath::as_str)) else {
            return Ok(Page { items: Vec::new(), more: false });
        };
        let rows = sqlx::query_as!(
            Row,
            "SELECT path, sha256, size, content_type, version, modified_at FROM files
            WHERE app_id = $1 AND path >= $2 AND path < $3 ORDER BY path LIMIT $4",
            app.as_uuid(),
            range.first,
            range.end,
            size.and_one(),
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, listed)
    }

    /// The files that `query` asks for and the generation they are of, from one snapshot.
    pub async fn file_list(&self, app: AppId, query: &FileListQuery) -> Result<FileList, StoreError> {
        let range = KeyRange::new(&query.prefix, query.after.as_deref());
        let limit = if range.is_some() { i64::from(query.limit) } else { 0 };
        let (first, end) = range.map_or_else(Default::default, |range| (range.first, range.end));
        let rows = sqlx::query!(
            r#"SELECT coalesce((SELECT generation FROM file_usage WHERE app_id = $1), 0) AS "generation!",
                f.path AS "path?", f.sha256 AS "sha256?", f.size AS "size?", f.content_type AS "content_type?",
                f.version AS "version?", f.modified_at AS "modified_at?"
            FROM (SELECT 1) AS one LEFT JOIN (
                SELECT path, sha256, size, content_type, version, modified_at FROM files
                WHERE app_id = $1 AND path >= $2 AND path < $3 ORDER BY path LIMIT $4
            ) AS f ON true ORDER BY f.path"#,
            app.as_uuid(),
            first,
            end,
            limit,
        );
        let mut list = FileList { files: Vec::new(), generation: FileGeneration::default() };
        for row in rows.fetch_all(&self.pool).await? {
            list.generation = FileGeneration(row.generation);
            let (Some(path), Some(sha256), Some(size), Some(content_type), Some(version), Some(modified_at)) =
                (row.path, row.sha256, row.size, row.content_type, row.version, row.modified_at)
            else {
                continue;
            };
            list.files.push(listed(Row { path, sha256, size, content_type, version, modified_at })?);
        }
        Ok(list)
    }

    /// Number and bytes of an app's files.
    pub async fn file_usage(&self, app: AppId) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query!("SELECT files, bytes FROM file_usage WHERE app_id = $1", app.as_uuid());
        let row = row.fetch_optional(&self.pool).await?;
        Ok(row.map_or((0, 0), |row| (unsigned(row.files), unsigned(row.bytes))))
    }
}

/// A row of `files`.
pub(super) struct Row {
    pub(super) path: String,
    pub(super) sha256: Vec<u8>,
    pub(super) size: i32,
    pub(super) content_type: String,
    pub(super) version: i64,
    pub(super) modified_at: OffsetDateTime,
}

impl TryFrom<Row> for StoredFile {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            hash: FileHash::from_bytes(digest(row.sha256)?),
            size: unsigned(row.size.into()),
            content_type: parse(&row.content_type)?,
            version: FileVersion::from_i64(row.version),
            modified: row.modified_at,
        })
    }
}

fn listed(row: Row) -> Result<FileListed, StoreError> {
    Ok(FileListed { path: parse(&row.path)?, file: row.try_into()? })
}
