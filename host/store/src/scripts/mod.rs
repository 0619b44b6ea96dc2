//! Scripts, their versions and the libraries that a version pins.

mod bundle;
mod delete;
mod limits;
mod put;
mod sources;
mod versions;

use std::collections::BTreeMap;

use picloud_core::{
    AppId, ImageKey, LimitsPatch, PrincipalId, ScriptId, ScriptName, ScriptVersionId, SourceHash, Uses,
};
use sqlx::types::Json;
use time::OffsetDateTime;

use crate::{
    Page, PageSize, Store, StoreError,
    apps::limits,
    text::{digest, parse},
};

/// The version in a row that has its columns beside others. Each statement's rows have a type of their own, so that a
/// function cannot take them.
macro_rules! version_of {
    ($row:ident) => {
        crate::scripts::ScriptVersion::try_from(crate::scripts::VersionRow {
            id: $row.id,
            number: $row.number,
            source_hash: $row.source_hash,
            image_key: $row.image_key,
            size: $row.size,
            handlers: $row.handlers,
            uses: $row.uses,
            created_at: $row.created_at,
            created_by: $row.created_by,
        })
    };
}

use version_of;

pub use bundle::{Bundle, BundleTarget, BundleVersion, OtherScripts, PutBundle};
pub use put::{NewVersion, PutVersion, VersionCondition};
pub use sources::{LibrarySource, ScriptSource};
pub use versions::{Activation, ListedVersion, RollBack};

/// A script and its active version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its id.
    pub id: ScriptId,
    /// Its name.
    pub name: ScriptName,
    /// The version that answers.
    pub active: ScriptVersion,
    /// The limits it sets for itself; `Limits::for_script` makes those in force of them.
    pub limits: LimitsPatch,
    /// When its first version was uploaded.
    pub created_at: OffsetDateTime,
}

/// A version of a script, without its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptVersion {
    /// Its id.
    pub id: ScriptVersionId,
    /// Its number: 1, 2, ...
    pub number: i32,
    /// The hash of its source.
    pub source_hash: SourceHash,
    /// The image it runs in.
    pub image: ImageKey,
    /// The size of its source, in bytes.
    pub size: u32,
    /// What handles its events: `on_request` and its like, or `body`; empty where nothing does, as in a library.
    pub handlers: Vec<String>,
    /// What its source and its libraries use; `None` where it was uploaded before that was noted.
    pub uses: Option<Uses>,
    /// When it was uploaded.
    pub created_at: OffsetDateTime,
    /// Who uploaded it; `None` where that principal is gone.
    pub created_by: Option<PrincipalId>,
}

impl Store {
    /// The scripts whose name comes after `after`, by name.
    pub async fn scripts(
        &self,
        app: AppId,
        after: Option<&ScriptName>,
        size: PageSize,
    ) -> Result<Page<Script>, StoreError> {
        let rows = sqlx::query_as!(
            ScriptRow,
            r#"SELECT s.id AS script_id, s.name, s.created_at AS script_created_at, v.id, v.number, v.source_hash,
                v.image_key, v.size, v.handlers, v.uses AS "uses: Json<Uses>", v.created_at, v.created_by,
                ARRAY(SELECT l.name FROM script_limits l WHERE l.script_id = s.id ORDER BY l.name) AS "limit_names!",
                ARRAY(SELECT l.value FROM script_limits l WHERE l.script_id = s.id ORDER BY l.name) AS "limit_values!"
            FROM scripts s JOIN script_versions v ON v.id = s.active_version_id
            WHERE s.app_id = $1 AND s.name > $2 ORDER BY s.name LIMIT $3"#,
            app.as_uuid(),
            after.map_or("", ScriptName::as_str),
            size.and_one(),
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, Script::try_from)
    }

    /// A script by its name.
    pub async fn script(&self, app: AppId, name: &ScriptName) -> Result<Option<Script>, StoreError> {
        let row = sqlx::query_as!(
            ScriptRow,
            r#"SELECT s.id AS script_id, s.name, s.created_at AS script_created_at, v.id, v.number, v.source_hash,
                v.image_key, v.size, v.handlers, v.uses AS "uses: Json<Uses>", v.created_at, v.created_by,
                ARRAY(SELECT l.name FROM script_limits l WHERE l.script_id = s.id ORDER BY l.name) AS "limit_names!",
                ARRAY(SELECT l.value FROM script_limits l WHERE l.script_id = s.id ORDER BY l.name) AS "limit_values!"
            FROM scripts s JOIN script_versions v ON v.id = s.active_version_id
            WHERE s.app_id = $1 AND s.name = $2"#,
            app.as_uuid(),
            name.as_str(),
        );
        row.fetch_optional(&self.pool).await?.map(Script::try_from).transpose()
    }

    /// Of each of `names`, the scripts whose active version was built with another source of it than the one that
    /// is active now. Those without such scripts are left out.
    ///
    /// The sources are compared, not the versions: where a library has its old source again, deploying who imports
    /// it would change nothing.
    pub async fn outdated_importers(
        &self,
        app: AppId,
        names: &[ScriptName],
    ) -> Result<BTreeMap<ScriptName, Vec<ScriptName>>, StoreError> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let rows = sqlx::query!(
            "SELECT DISTINCT library.name AS library, importer.name AS importer
            FROM scripts library
            JOIN script_versions active ON active.id = library.active_version_id
            JOIN script_versions pinned ON pinned.script_id = library.id AND pinned.source_hash <> active.source_hash
            JOIN script_imports i ON i.library_version_id = pinned.id
            JOIN scripts importer ON importer.active_version_id = i.version_id
            WHERE library.app_id = $1 AND library.name = ANY ($2) ORDER BY 1, 2",
            app.as_uuid(),
            &names,
        );
        let mut importers: BTreeMap<ScriptName, Vec<ScriptName>> = BTreeMap::new();
        for row in rows.fetch_all(&self.pool).await? {
            importers.entry(parse(&row.library)?).or_default().push(parse(&row.importer)?);
        }
        Ok(importers)
    }
}

struct ScriptRow {
    script_id: uuid::Uuid,
    name: String,
    script_created_at: OffsetDateTime,
    id: uuid::Uuid,
    number: i32,
    source_hash: Vec<u8>,
    image_key: Vec<u8>,
    size: Option<i32>,
    handlers: Vec<String>,
    uses: Option<Json<Uses>>,
    created_at: OffsetDateTime,
    created_by: Option<uuid::Uuid>,
    limit_names: Vec<String>,
    limit_values: Vec<i64>,
}

impl TryFrom<ScriptRow> for Script {
    type Error = StoreError;

    fn try_from(row: ScriptRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: ScriptId::from_uuid(row.script_id),
            name: parse(&row.name)?,
            active: version_of!(row)?,
            limits: limits(row.limit_names.into_iter().zip(row.limit_values)),
            created_at: row.script_created_at,
        })
    }
}

/// The columns of a version.
struct VersionRow {
    id: uuid::Uuid,
    number: i32,
    source_hash: Vec<u8>,
    image_key: Vec<u8>,
    size: Option<i32>,
    handlers: Vec<String>,
    uses: Option<Json<Uses>>,
    created_at: OffsetDateTime,
    created_by: Option<uuid::Uuid>,
}

impl TryFrom<VersionRow> for ScriptVersion {
    type Error = StoreError;

    fn try_from(row: VersionRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: ScriptVersionId::from_uuid(row.id),
            number: row.number,
            source_hash: SourceHash::from_bytes(digest(row.source_hash)?),
            image: ImageKey::from_bytes(digest(row.image_key)?),
            size: row.size.unwrap_or_default().unsigned_abs(),
            handlers: row.handlers,
            uses: row.uses.map(|uses| uses.0),
            created_at: row.created_at,
            created_by: row.created_by.map(PrincipalId::from_uuid),
        })
    }
}
