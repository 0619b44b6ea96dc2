//! Uploading a version.

use std::sync::Arc;

use picloud_core::{AppId, ImageKey, PrincipalId, ScriptId, ScriptName, ScriptVersionId, SourceHash, Uses};
use sqlx::{PgConnection, types::Json};

use super::{Script, versions::activate};
use crate::{Store, StoreError, apps::lock_app, changes::notify, grants::check_granted};

/// How many versions of a script are kept, beside the active one and those that another script pins.
const KEPT_VERSIONS: i32 = 100;

/// The most scripts of an app: a node keeps all of their names and routes in memory.
const MAX_SCRIPTS: i64 = 1_000;

/// A version to be uploaded, as the sandbox has built it.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// The script.
    pub name: ScriptName,
    /// Its source.
    pub source: Arc<str>,
    /// The image that was built of it and of its libraries.
    pub image: ImageKey,
    /// What handles its events, as the sandbox says.
    pub handlers: Vec<String>,
    /// What it and its libraries use, as the sandbox says.
    pub uses: Uses,
    /// The versions of the libraries that went into the image, directly or not.
    pub imports: Vec<ScriptVersionId>,
    /// Who uploads it.
    pub created_by: Option<PrincipalId>,
}

/// What must hold before a version is put (`If-Match` and `If-None-Match`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionCondition {
    /// Anything.
    #[default]
    None,
    /// The script does not exist.
    Absent,
    /// This is the number of its active version.
    Active(i32),
}

/// What an upload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutVersion {
    /// The script is new.
    Created(Script),
    /// It has a new version, which is now active.
    Updated {
        /// The script.
        script: Script,
        /// What the version used that was active before; `None` where that was not noted.
        used_before: Option<Uses>,
    },
    /// Source, libraries, handlers and uses are those of the active version: nothing was done.
    Unchanged(Script),
}

impl PutVersion {
    /// The script as it is now.
    pub fn script(&self) -> &Script {
        match self {
            Self::Created(script) | Self::Updated { script, .. } | Self::Unchanged(script) => script,
        }
    }
}

impl Store {
    /// Stores a version and makes it active, unless the active version has the same source, image, handlers and uses.
    ///
    /// [`StoreError::Conflict`] if `condition` does not hold or a pinned library is gone; [`StoreError::NotGranted`] if
    /// the app is strict and does not grant what the version uses; 100 versions are
    /// kept beside those in use, older ones are removed.
    pub async fn put_version(
        &self,
        app: AppId,
        version: &NewVersion,
        condition: VersionCondition,
    ) -> Result<PutVersion, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Uploads of one app take turns, so that a library cannot be deleted while a version pins it.
        lock_app(&mut transaction, app).await?;
        let put = put(&mut transaction, app, version, condition).await?;
        if put.kind != PutKind::Unchanged {
            notify(&mut transaction, app).await?;
        }
        transaction.commit().await?;
        self.put_answer(app, &version.name, put.kind).await
    }

    /// What an upload did, with the script as it is once that is committed.
    pub(super) async fn put_answer(
        &self,
        app: AppId,
        name: &ScriptName,
        kind: PutKind,
    ) -> Result<PutVersion, StoreError> {
        let script = self.script(app, name).await?.ok_or(StoreError::Conflict)?;
        Ok(match kind {
            PutKind::Created => PutVersion::Created(script),
            PutKind::Updated { used_before } => PutVersion::Updated { script, used_before },
            PutKind::Unchanged => PutVersion::Unchanged(script),
        })
    }
}

/// What an upload did, within its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PutKind {
    Created,
    Updated { used_before: Option<Uses> },
    Unchanged,
}

/// A version that an upload has made active, or has found so.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) version: ScriptVersionId,
    pub(super) kind: PutKind,
}

/// Uploads a version under the app's lock.
pub(super) async fn put(
    connection: &mut PgConnection,
    app: AppId,
    version: &NewVersion,
    condition: VersionCondition,
) -> Result<Put, StoreError> {
    if version.source.contains('\0') {
        return Err(StoreError::Invalid(
            "the source contains U+0000, which cannot be stored; write \\u0000 in a string instead".into(),
        ));
    }
    let current = current(connection, app, &version.name).await?;
    let holds = match condition {
        VersionCondition::None => true,
        VersionCondition::Absent => current.is_none(),
        VersionCondition::Active(number) => current.as_ref().is_some_and(|now| now.number == number),
    };
    if !holds {
        return Err(StoreError::Conflict);
    }
    if let Some(current) = current.as_ref().filter(|current| current.is_same(version)) {
        return Ok(Put { version: ScriptVersionId::from_uuid(current.id), kind: PutKind::Unchanged });
    }
    check_granted(connection, app, &version.name, Some(&version.uses)).await?;
    if current.is_none() {
        check_count(connection, app).await?;
    }
    let (script, number) = next_number(connection, app, &version.name).await?;
    let id = insert(connection, app, script, number, version).await?;
    activate(connection, script, id, version.created_by).await?;
    prune(connection, script, number).await?;
    let kind = match current {
        Some(current) => PutKind::Updated { used_before: current.uses.map(|uses| uses.0) },
        None => PutKind::Created,
    };
    Ok(Put { version: id, kind })
}

struct Current {
    id: uuid::Uuid,
    number: i32,
    source_hash: Vec<u8>,
    image_key: Vec<u8>,
    handlers: Vec<String>,
    uses: Option<Json<Uses>>,
}

impl Current {
    /// Handlers and uses may differ where another version of the interpreter read the same source.
    fn is_same(&self, version: &NewVersion) -> bool {
        self.source_hash == SourceHash::of(&version.source).as_bytes()
            && self.image_key == version.image.as_bytes()
            && self.handlers == version.handlers
            && self.uses.as_ref().is_some_and(|uses| uses.0 == version.uses)
    }
}

async fn current(
    connection: &mut PgConnection,
    app: AppId,
    name: &ScriptName,
) -> Result<Option<Current>, StoreError> {
    let row = sqlx::query_as!(
        Current,
        r#"SELECT v.id, v.number, v.source_hash, v.image_key, v.handlers, v.uses AS "uses: Json<Uses>"
        FROM scripts s JOIN script_versions v ON v.id = s.active_version_id
        WHERE s.app_id = $1 AND s.name = $2"#,
        app.as_uuid(),
        name.as_str(),
    );
    Ok(row.fetch_optional(connection).await?)
}

/// Refuses one more script where an app has all it may have, under its lock.
async fn check_count(connection: &mut PgConnection, app: AppId) -> Result<(), StoreError> {
    let count =
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM scripts WHERE app_id = $1"#, app.as_uuid());
    if count.fetch_one(connection).await? >= MAX_SCRIPTS {
        return Err(StoreError::Invalid(format!("an app has at most {MAX_SCRIPTS} scripts")));
    }
    Ok(())
}

/// Makes the script if it is new, and takes its next version number.
async fn next_number(
    connection: &mut PgConnection,
    app: AppId,
    name: &ScriptName,
) -> Result<(ScriptId, i32), StoreError> {
    let row = sqlx::query!(
        "INSERT INTO scripts (id, app_id, name, last_number) VALUES ($1, $2, $3, 1)
        ON CONFLICT (app_id, name) DO UPDATE SET last_number = scripts.last_number + 1
        RETURNING id, last_number",
        ScriptId::generate().as_uuid(),
        app.as_uuid(),
        name.as_str(),
    );
    let row = row.fetch_one(connection).await?;
    Ok((ScriptId::from_uuid(row.id), row.last_number))
}

async fn insert(
    connection: &mut PgConnection,
    app: AppId,
    script: ScriptId,
    number: i32,
    version: &NewVersion,
) -> Result<ScriptVersionId, StoreError> {
    let id = ScriptVersionId::generate();
    let hash = SourceHash::of(&version.source);
    let inserted = sqlx::query!(
        "INSERT INTO script_versions
            (id, script_id, app_id, number, source, source_hash, image_key, handlers, created_by, uses)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        id.as_uuid(),
        script.as_uuid(),
        app.as_uuid(),
        number,
        &version.source,
        &hash.as_bytes()[..],
        &version.image.as_bytes()[..],
        &version.handlers,
        version.created_by.map(PrincipalId::as_uuid),
        Json(&version.uses) as _,
    );
    inserted.execute(&mut *connection).await?;
    // Only libraries of the same app: an id from elsewhere finds nothing.
    let imports: Vec<uuid::Uuid> = version.imports.iter().map(|id| id.as_uuid()).collect();
    let pinned = sqlx::query!(
        "INSERT INTO script_imports (version_id, library_version_id)
        SELECT $1, id FROM script_versions WHERE app_id = $2 AND id = ANY ($3)",
        id.as_uuid(),
        app.as_uuid(),
        &imports,
    );
    if pinned.execute(connection).await?.rows_affected() != imports.len() as u64 {
        return Err(StoreError::Conflict);
    }
    Ok(id)
}

async fn prune(connection: &mut PgConnection, script: ScriptId, number: i32) -> Result<(), StoreError> {
    let pruned = sqlx::query!(
        "DELETE FROM script_versions v WHERE v.script_id = $1 AND v.number <= $2
            AND NOT EXISTS (SELECT FROM scripts s WHERE s.active_version_id = v.id)
            AND NOT EXISTS (SELECT FROM script_imports i WHERE i.library_version_id = v.id)",
        script.as_uuid(),
        number - KEPT_VERSIONS,
    );
    pruned.execute(connection).await?;
    Ok(())
}
