//! The versions of a script, and which of them was active when.

use std::collections::BTreeMap;

use picloud_core::{AppId, ImageKey, PrincipalId, ScriptId, ScriptName, ScriptVersionId, Uses};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Script, ScriptVersion, sources::sources_of, version_of};
use crate::{
    Page, PageSize, Store, StoreError,
    apps::lock_app,
    changes::notify,
    grants::check_granted,
    text::{bigint, digest, parse},
};

/// From when on a version was active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// The version's number.
    pub number: i32,
    /// Since when.
    pub activated_at: OffsetDateTime,
    /// Who made it so.
    pub activated_by: Option<PrincipalId>,
}

/// A version in the list of a script's versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVersion {
    /// The version.
    pub version: ScriptVersion,
    /// The libraries it was built from, and the numbers of their pinned versions.
    pub imports: BTreeMap<ScriptName, i32>,
}

/// What a rollback did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollBack {
    /// The version is active now.
    Activated(Script),
    /// It was active already.
    Unchanged(Script),
}

impl Store {
    /// The versions of a script whose number is below `before`, newest first.
    pub async fn versions(
        &self,
        app: AppId,
        name: &ScriptName,
        before: Option<i32>,
        size: PageSize,
    ) -> Result<Page<ListedVersion>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT v.id, v.number, v.source_hash, v.image_key, v.size, v.handlers,
                v.uses AS "uses: Json<Uses>", v.created_at, v.created_by,
                ARRAY(SELECT l.name FROM script_imports i JOIN script_versions lv ON lv.id = i.library_version_id
                    JOIN scripts l ON l.id = lv.script_id WHERE i.version_id = v.id ORDER BY l.name)
                    AS "import_names!",
                ARRAY(SELECT lv.number FROM script_imports i JOIN script_versions lv ON lv.id = i.library_version_id
                    JOIN scripts l ON l.id = lv.script_id WHERE i.version_id = v.id ORDER BY l.name)
                    AS "import_numbers!"
            FROM scripts s JOIN script_versions v ON v.script_id = s.id
            WHERE s.app_id = $1 AND s.name = $2 AND v.number < $3 ORDER BY v.number DESC LIMIT $4"#,
            app.as_uuid(),
            name.as_str(),
            before.unwrap_or(i32::MAX),
            size.and_one(),
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, |row| {
            let imports = row.import_names.iter().zip(row.import_numbers);
            Ok(ListedVersion {
                version: version_of!(row)?,
                imports: imports
                    .map(|(name, number)| Ok((parse(name)?, number)))
                    .collect::<Result<_, StoreError>>()?,
            })
        })
    }

    /// The latest changes of the active version, newest first.
    pub async fn activations(
        &self,
        app: AppId,
        name: &ScriptName,
        size: PageSize,
    ) -> Result<Vec<Activation>, StoreError> {
        let rows = sqlx::query!(
            "SELECT v.number, a.activated_at, a.activated_by
            FROM scripts s
            JOIN script_activations a ON a.script_id = s.id
            JOIN script_versions v ON v.id = a.version_id
            WHERE s.app_id = $1 AND s.name = $2 ORDER BY a.id DESC LIMIT $3",
            app.as_uuid(),
            name.as_str(),
            bigint(size.get()),
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        Ok(rows
            .map(|row| Activation {
                number: row.number,
                activated_at: row.activated_at,
                activated_by: row.activated_by.map(PrincipalId::from_uuid),
            })
            .collect())
    }

    /// Makes an older version active again. [`StoreError::LibraryGone`] if a library that it imports was deleted;
    /// [`StoreError::NotGranted`] if the app is strict and does not grant what the version uses.
    pub async fn roll_back(
        &self,
        app: AppId,
        name: &ScriptName,
        number: i32,
        by: Option<PrincipalId>,
    ) -> Result<RollBack, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let found = sqlx::query!(
            r#"SELECT s.id AS script_id, v.id AS "version_id?", v.image_key AS "image_key?",
                v.uses AS "uses: Json<Uses>"
            FROM scripts s LEFT JOIN script_versions v ON v.script_id = s.id AND v.number = $3
            WHERE s.app_id = $1 AND s.name = $2"#,
            app.as_uuid(),
            name.as_str(),
            number,
        );
        let found = found.fetch_optional(&mut *transaction).await?;
        let found = found.ok_or(StoreError::NotFound { what: "script" })?;
        let (version, image) =
            found.version_id.zip(found.image_key).ok_or(StoreError::NotFound { what: "version" })?;
        let (script, version) = (ScriptId::from_uuid(found.script_id), ScriptVersionId::from_uuid(version));
        let image = ImageKey::from_bytes(digest(image)?);
        if sources_of(&mut transaction, version, image).await?.is_none() {
            return Err(StoreError::LibraryGone { script: name.to_string(), number });
        }
        check_granted(&mut transaction, app, name, found.uses.as_deref()).await?;
        let activated = activate(&mut transaction, script, version, by).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        let script = self.script(app, name).await?.ok_or(StoreError::NotFound { what: "script" })?;
        Ok(match activated {
            Activated::Now => RollBack::Activated(script),
            Activated::Before => RollBack::Unchanged(script),
        })
    }
}

/// Since when a version is the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activated {
    Now,
    Before,
}

/// Makes `version` the active one, and notes it, unless it is so already.
pub(super) async fn activate(
    connection: &mut PgConnection,
    script: ScriptId,
    version: ScriptVersionId,
    by: Option<PrincipalId>,
) -> Result<Activated, StoreError> {
    let activated = sqlx::query!(
        "WITH activated AS (
            UPDATE scripts SET active_version_id = $2
            WHERE id = $1 AND active_version_id IS DISTINCT FROM $2 RETURNING id
        )
        INSERT INTO script_activations (script_id, version_id, activated_by) SELECT id, $2, $3 FROM activated",
        script.as_uuid(),
        version.as_uuid(),
        by.map(PrincipalId::as_uuid),
    );
    Ok(match activated.execute(connection).await?.rows_affected() {
        0 => Activated::Before,
        _ => Activated::Now,
    })
}
