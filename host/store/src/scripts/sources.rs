//! Sources, for people and for building images.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use picloud_core::{AppId, ImageKey, ScriptName, ScriptSources, ScriptVersionId, SecretName, Uses};
use sqlx::{PgConnection, types::Json};

use super::{ScriptVersion, version_of};
use crate::{
    Store, StoreError,
    text::{digest, parse},
};

/// A version with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptSource {
    /// The version.
    pub version: ScriptVersion,
    /// Its source.
    pub source: Arc<str>,
    /// The libraries it was built from, and the numbers of their pinned versions.
    pub imports: BTreeMap<ScriptName, i32>,
}

/// A library as an import finds it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibrarySource {
    /// The active version, to be pinned.
    pub version: ScriptVersionId,
    /// Its source.
    pub source: Arc<str>,
}

impl Store {
    /// The source of a version of a script; of the active one if no number is given.
    pub async fn script_source(
        &self,
        app: AppId,
        name: &ScriptName,
        number: Option<i32>,
    ) -> Result<Option<ScriptSource>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT v.id, v.number, v.source_hash, v.image_key, v.size, v.handlers,
                v.uses AS "uses: Json<Uses>", v.created_at, v.created_by, v.source
            FROM scripts s JOIN script_versions v ON v.script_id = s.id
            WHERE s.app_id = $1 AND s.name = $2
                AND CASE WHEN $3::integer IS NULL THEN v.id = s.active_version_id ELSE v.number = $3 END"#,
            app.as_uuid(),
            name.as_str(),
            number,
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        let imports = sqlx::query!(
            "SELECT s.name, v.number
            FROM script_imports i
            JOIN script_versions v ON v.id = i.library_version_id
            JOIN scripts s ON s.id = v.script_id
            WHERE i.version_id = $1",
            row.id,
        );
        let imports = imports.fetch_all(&self.pool).await?;
        Ok(Some(ScriptSource {
            version: version_of!(row)?,
            source: row.source.into(),
            imports: imports
                .into_iter()
                .map(|row| Ok((parse(&row.name)?, row.number)))
                .collect::<Result<_, StoreError>>()?,
        }))
    }

    /// What `import "name"` means in an app now: the active version of that script.
    pub async fn library(&self, app: AppId, name: &ScriptName) -> Result<Option<LibrarySource>, StoreError> {
        let row = sqlx::query!(
            "SELECT v.id, v.source FROM scripts s JOIN script_versions v ON v.id = s.active_version_id
            WHERE s.app_id = $1 AND s.name = $2",
            app.as_uuid(),
            name.as_str(),
        );
        let row = row.fetch_optional(&self.pool).await?;
        Ok(row.map(|row| LibrarySource {
            version: ScriptVersionId::from_uuid(row.id),
            source: row.source.into(),
        }))
    }

    /// Everything that an image of an app is built from: the script's source and those of its pinned
    /// libraries. `None` if the app has no version with this image, or a library of it was deleted.
    pub async fn image_sources(
        &self,
        app: AppId,
        image: ImageKey,
    ) -> Result<Option<ScriptSources>, StoreError> {
        // The newest of the versions with this image: where a library was deleted and made again with the same
        // source, the older ones have lost it.
        let version = sqlx::query_scalar!(
            "SELECT id FROM script_versions WHERE app_id = $1 AND image_key = $2 ORDER BY number DESC LIMIT 1",
            app.as_uuid(),
            &image.as_bytes()[..],
        );
        let mut connection = self.pool.acquire().await?;
        match version.fetch_optional(&mut *connection).await? {
            Some(version) => sources_of(&mut connection, ScriptVersionId::from_uuid(version), image).await,
            None => Ok(None),
        }
    }

    /// The image of a version of a script, and the secrets that it may read. `None` if there is none of this number.
    pub async fn version_image(
        &self,
        app: AppId,
        script: &ScriptName,
        number: i32,
    ) -> Result<Option<(ImageKey, BTreeSet<SecretName>)>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT v.image_key, CASE WHEN v.uses ? 'secrets' THEN v.uses END AS "uses: Json<Uses>"
            FROM script_versions v JOIN scripts s ON s.id = v.script_id
            WHERE s.app_id = $1 AND s.name = $2 AND v.number = $3"#,
            app.as_uuid(),
            script.as_str(),
            number,
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        let secrets = row.uses.map(|Json(uses)| uses.secrets()).unwrap_or_default();
        Ok(Some((ImageKey::from_bytes(digest(row.image_key)?), secrets)))
    }
}

/// The source of a version and of the libraries that it pins, if they are still those that `image` was built from.
/// What a deleted library was is not known any more, but the key covers its source: without it, it is another key.
pub(super) async fn sources_of(
    connection: &mut PgConnection,
    version: ScriptVersionId,
    image: ImageKey,
) -> Result<Option<ScriptSources>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT s.name, v.source, v.id = $1 AS "is_script!"
        FROM script_versions v JOIN scripts s ON s.id = v.script_id
        WHERE v.id = $1 OR v.id IN (SELECT library_version_id FROM script_imports WHERE version_id = $1)"#,
        version.as_uuid(),
    );
    let mut script = None;
    let mut libraries = BTreeMap::new();
    for row in rows.fetch_all(connection).await? {
        let (name, source) = (parse::<ScriptName>(&row.name)?, Arc::<str>::from(row.source));
        if row.is_script {
            script = Some((name, source));
        } else {
            libraries.insert(name, source);
        }
    }
    let sources = script.map(|(name, source)| ScriptSources { name, source, libraries });
    Ok(sources.filter(|sources| ImageKey::of(sources) == image))
}
