//! Secrets of apps, as ciphertexts. What decrypts them is not here.

use picloud_core::{AppId, ScriptName, SealedSecret, SecretKeyId, SecretName, SecretPlace, SecretVersion};
use time::OffsetDateTime;

use crate::{Store, StoreError, apps::lock_app, changes::notify, text::parse};

/// The most secrets of an app.
const MAX_SECRETS: i64 = 100;

/// A secret as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRow {
    /// Its name.
    pub name: SecretName,
    /// When it was first set.
    pub created_at: OffsetDateTime,
    /// When it was last set.
    pub updated_at: OffsetDateTime,
    /// The scripts whose active version declares it, by name.
    pub used_by: Vec<ScriptName>,
}

/// The ciphertext of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSecret {
    /// Which of its values it is.
    pub version: SecretVersion,
    /// The ciphertext.
    pub sealed: SealedSecret,
}

/// A ciphertext with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedSecret {
    /// The app.
    pub app: AppId,
    /// The name.
    pub name: SecretName,
    /// The ciphertext.
    pub stored: StoredSecret,
}

impl PlacedSecret {
    /// What the ciphertext is bound to.
    pub fn place(&self) -> SecretPlace<'_> {
        SecretPlace { app: self.app, name: &self.name, version: self.stored.version }
    }
}

impl Store {
    /// A version that no secret has had: to be taken before a value is encrypted, which binds it to its version.
    pub async fn next_secret_version(&self) -> Result<SecretVersion, StoreError> {
        let version = sqlx::query_scalar!(r#"SELECT nextval('secret_version') AS "version!""#);
        Ok(SecretVersion::from_i64(version.fetch_one(&self.pool).await?))
    }

    /// Sets a secret; answers whether it is new. Of two that are set at once, the one with the later version stays.
    pub async fn put_secret(
        &self,
        app: AppId,
        name: &SecretName,
        secret: &StoredSecret,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let others = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM secrets WHERE app_id = $1 AND name <> $2"#,
            app.as_uuid(),
            name.as_str(),
        );
        if others.fetch_one(&mut *transaction).await? >= MAX_SECRETS {
            return Err(StoreError::Invalid(format!("an app has at most {MAX_SECRETS} secrets")));
        }
        let put = sqlx::query_scalar!(
            r#"INSERT INTO secrets (app_id, name, key_id, nonce, ciphertext, version)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (app_id, name) DO UPDATE SET key_id = excluded.key_id, nonce = excluded.nonce,
                ciphertext = excluded.ciphertext, version = excluded.version, updated_at = now()
            WHERE secrets.version < excluded.version
            RETURNING xmax = 0 AS "is_new!""#,
            app.as_uuid(),
            name.as_str(),
            secret.sealed.key.as_str(),
            &secret.sealed.nonce[..],
            &secret.sealed.ciphertext,
            secret.version.as_i64(),
        );
        let is_new = put.fetch_optional(&mut *transaction).await?.unwrap_or(false);
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(is_new)
    }

    /// The ciphertext of a secret, if it is set.
    pub async fn secret(&self, app: AppId, name: &SecretName) -> Result<Option<StoredSecret>, StoreError> {
        let row = sqlx::query_as!(
            SealedRow,
            "SELECT key_id, nonce, ciphertext, version FROM secrets WHERE app_id = $1 AND name = $2",
            app.as_uuid(),
            name.as_str(),
        );
        row.fetch_optional(&self.pool).await?.map(StoredSecret::try_from).transpose()
    }

    /// The secrets of an app, by name, without their values.
    pub async fn secrets(&self, app: AppId) -> Result<Vec<SecretRow>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT name, created_at, updated_at,
                ARRAY(SELECT s.name FROM scripts s JOIN script_versions v ON v.id = s.active_version_id
                    WHERE s.app_id = $1 AND v.uses -> 'secrets' -> 'names' ? secrets.name ORDER BY s.name)
                    AS "used_by!"
            FROM secrets WHERE app_id = $1 ORDER BY name"#,
            app.as_uuid(),
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        rows.map(|row| {
            Ok(SecretRow {
                name: parse(&row.name)?,
                created_at: row.created_at,
                updated_at: row.updated_at,
                used_by: row.used_by.iter().map(|name| parse(name)).collect::<Result<_, _>>()?,
            })
        })
        .collect()
    }

    /// Removes a secret.
    pub async fn delete_secret(&self, app: AppId, name: &SecretName) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let deleted =
            sqlx::query!("DELETE FROM secrets WHERE app_id = $1 AND name = $2", app.as_uuid(), name.as_str());
        if deleted.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Err(StoreError::NotFound { what: "secret" });
        }
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Every key that something is encrypted with.
    pub async fn secret_keys_in_use(&self) -> Result<Vec<SecretKeyId>, StoreError> {
        let keys = sqlx::query_scalar!("SELECT DISTINCT key_id FROM secrets ORDER BY key_id");
        keys.fetch_all(&self.pool).await?.iter().map(|key| parse(key)).collect()
    }

    /// The first secrets behind `after`, by app and name, that are encrypted with another key than `key`.
    pub async fn secrets_under_other_keys(
        &self,
        key: &SecretKeyId,
        after: Option<&PlacedSecret>,
        limit: u32,
    ) -> Result<Vec<PlacedSecret>, StoreError> {
        let rows = sqlx::query!(
            "SELECT app_id, name, key_id, nonce, ciphertext, version FROM secrets
            WHERE key_id <> $1 AND (app_id, name) > ($2, $3) ORDER BY app_id, name LIMIT $4",
            key.as_str(),
            after.map_or(uuid::Uuid::nil(), |secret| secret.app.as_uuid()),
            after.map_or("", |secret| secret.name.as_str()),
            i64::from(limit),
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        rows.map(|row| {
            let sealed = SealedRow {
                key_id: row.key_id,
                nonce: row.nonce,
                ciphertext: row.ciphertext,
                version: row.version,
            };
            Ok(PlacedSecret {
                app: AppId::from_uuid(row.app_id),
                name: parse(&row.name)?,
                stored: sealed.try_into()?,
            })
        })
        .collect()
    }

    /// Stores the same value encrypted anew; answers whether it was still the value of that secret.
    pub async fn reseal_secret(
        &self,
        secret: &PlacedSecret,
        sealed: &SealedSecret,
    ) -> Result<bool, StoreError> {
        let resealed = sqlx::query!(
            "UPDATE secrets SET key_id = $4, nonce = $5, ciphertext = $6
            WHERE app_id = $1 AND name = $2 AND version = $3",
            secret.app.as_uuid(),
            secret.name.as_str(),
            secret.stored.version.as_i64(),
            sealed.key.as_str(),
            &sealed.nonce[..],
            &sealed.ciphertext,
        );
        Ok(resealed.execute(&self.pool).await?.rows_affected() == 1)
    }
}

struct SealedRow {
    key_id: String,
    nonce: Vec<u8>,
    ciphertext: Vec<u8>,
    version: i64,
}

impl TryFrom<SealedRow> for StoredSecret {
    type Error = StoreError;

    fn try_from(row: SealedRow) -> Result<Self, StoreError> {
        let nonce =
            row.nonce.try_into().map_err(|_| StoreError::Database("a nonce is not 24 bytes long".into()))?;
        let sealed = SealedSecret { key: parse(&row.key_id)?, nonce, ciphertext: row.ciphertext };
        Ok(Self { version: SecretVersion::from_i64(row.version), sealed })
    }
}
