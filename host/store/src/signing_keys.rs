//! Keys that callers of a route sign with.

use std::{collections::BTreeMap, fmt, time::Duration};

use picloud_core::{AppId, RouteAccess, RouteId, SigningKeyId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Store, StoreError, apps::lock_app, changes::notify};

/// A key in clear: the text that its holder has, whose bytes are the key. Its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(String);

/// What is shown of a key after it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigningKeyInfo {
    /// Its id.
    pub id: SigningKeyId,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends, if a newer one has taken its place.
    pub expires_at: Option<OffsetDateTime>,
}

impl SigningKey {
    /// A key of this text.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// A key as it is stored. This and [`opened`] are the only places that know how keys are kept.
fn sealed(key: &SigningKey) -> Vec<u8> {
    key.0.as_bytes().to_vec()
}

/// A key that was stored.
pub(crate) fn opened(stored: Vec<u8>) -> Result<SigningKey, StoreError> {
    String::from_utf8(stored).map(SigningKey).map_err(StoreError::corrupt)
}

impl Store {
    /// Gives a route a new key. The one that it had is good for `keep` longer, one that had been replaced already for
    /// no longer: at most two are good at a time.
    pub async fn add_signing_key(
        &self,
        app: AppId,
        route: RouteId,
        key: &SigningKey,
        keep: Duration,
    ) -> Result<SigningKeyInfo, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let access = sqlx::query_scalar!(
            "SELECT access FROM routes WHERE app_id = $1 AND id = $2",
            app.as_uuid(),
            route.as_uuid(),
        );
        match access.fetch_optional(&mut *transaction).await? {
            None => return Err(StoreError::NotFound { what: "route" }),
            Some(access) if access != RouteAccess::Hmac.as_str() => {
                let problem = format!("the access of the route is {access}; only a route with hmac has keys");
                return Err(StoreError::Invalid(problem));
            }
            Some(_) => {}
        }
        sqlx::query!(
            "DELETE FROM route_signing_keys WHERE route_id = $1 AND (expires_at IS NOT NULL OR $2 = 0.0::float8)",
            route.as_uuid(),
            keep.as_secs_f64(),
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE route_signing_keys SET expires_at = now() + make_interval(secs => $2) WHERE route_id = $1",
            route.as_uuid(),
            keep.as_secs_f64(),
        )
        .execute(&mut *transaction)
        .await?;
        let id = SigningKeyId::generate();
        let created_at = sqlx::query_scalar!(
            "INSERT INTO route_signing_keys (id, route_id, key) VALUES ($1, $2, $3) RETURNING created_at",
            id.as_uuid(),
            route.as_uuid(),
            sealed(key),
        );
        let created_at = created_at.fetch_one(&mut *transaction).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(SigningKeyInfo { id, created_at, expires_at: None })
    }
}

/// What is shown of the keys of an app's routes that are good now, the newest of each route first.
pub(crate) async fn keys_of(
    connection: &mut PgConnection,
    app: AppId,
) -> Result<BTreeMap<RouteId, Vec<SigningKeyInfo>>, StoreError> {
    let rows = sqlx::query!(
        "SELECT k.route_id, k.id, k.created_at, k.expires_at
        FROM route_signing_keys k JOIN routes r ON r.id = k.route_id
        WHERE r.app_id = $1 AND (k.expires_at IS NULL OR k.expires_at > now()) ORDER BY k.id DESC",
        app.as_uuid(),
    );
    let mut keys: BTreeMap<RouteId, Vec<SigningKeyInfo>> = BTreeMap::new();
    for row in rows.fetch_all(connection).await? {
        let info = SigningKeyInfo {
            id: SigningKeyId::from_uuid(row.id),
            created_at: row.created_at,
            expires_at: row.expires_at,
        };
        keys.entry(RouteId::from_uuid(row.route_id)).or_default().push(info);
    }
    Ok(keys)
}
