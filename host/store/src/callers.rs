//! Callers of an app's endpoints: what the holder of a token may do in that app, in one query.

use picloud_core::{AppId, AppRole, Capability, InstanceRole, Scope, TokenId, role_satisfies};

use crate::{Store, StoreError, TokenHash, text::parse};

/// The holder of a valid token, at an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppCaller {
    scopes: Vec<Scope>,
    instance_role: InstanceRole,
    app_role: Option<AppRole>,
    /// The only app that the token is good for.
    only: Option<AppId>,
}

/// What a caller lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The token has not this scope.
    Scope(Scope),
    /// The token is good for another app only.
    App,
    /// Its holder's role in the app is too low, or it has none.
    Role,
}

impl AppCaller {
    /// Whether it may do this; if not, what it lacks.
    pub fn may(&self, capability: Capability) -> Result<(), Lack> {
        if !self.scopes.contains(&capability.scope()) {
            return Err(Lack::Scope(capability.scope()));
        }
        if self.only.is_some_and(|only| capability.app() != Some(only)) {
            return Err(Lack::App);
        }
        if !role_satisfies(self.instance_role, self.app_role, capability) {
            return Err(Lack::Role);
        }
        Ok(())
    }
}

impl Store {
    /// What the holder of a secret is at an app; `None` if no token has this hash, or it has expired, or its principal
    /// is disabled. Notes that it was used, at most once a minute.
    pub async fn authenticate_at(
        &self,
        hash: TokenHash,
        app: AppId,
    ) -> Result<Option<AppCaller>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT t.id, t.scopes, t.app_id,
                (t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute') AS "stale!",
                p.role, m.role AS "app_role?"
            FROM tokens t JOIN principals p ON p.id = t.principal_id
                LEFT JOIN app_members m ON m.app_id = $2 AND m.principal_id = p.id
            WHERE t.hash = $1 AND (t.expires_at IS NULL OR t.expires_at > now()) AND p.disabled_at IS NULL"#,
            hash.bytes(),
            app.as_uuid(),
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        if row.stale {
            self.touch_token(TokenId::from_uuid(row.id)).await?;
        }
        Ok(Some(AppCaller {
            scopes: row.scopes.iter().map(|scope| parse(scope)).collect::<Result<_, _>>()?,
            instance_role: parse(&row.role)?,
            app_role: row.app_role.map(|role| parse(&role)).transpose()?,
            only: row.app_id.map(AppId::from_uuid),
        }))
    }
}
