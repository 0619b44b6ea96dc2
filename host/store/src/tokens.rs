//! Tokens: secrets that stand for a principal. Only their hashes are stored.

use std::fmt;

use picloud_core::{AppId, AppName, PrincipalId, Scope, TokenId};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    Principal, Store, StoreError,
    principals::PrincipalRow,
    text::{parse, printable},
};

/// The most tokens of a principal that have not expired.
const MAX_TOKENS: i64 = 100;

/// SHA-256 of the secret of a token or a session: what is stored and looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// For people; at most 128 bytes.
    pub name: String,
    /// The hash of its secret.
    pub hash: TokenHash,
    /// What it allows; at least one.
    pub scopes: Vec<Scope>,
    /// The only app it is good for, if it is not for all.
    pub app: Option<AppId>,
    /// When it ends, if it does.
    pub expires_at: Option<OffsetDateTime>,
}

/// With what a token is made, beside an administrator's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMaker {
    /// Another token: the new one ends with it.
    Token(TokenId),
    /// A session, which the new one outlasts.
    Session,
}

/// A token as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Whom it stands for.
    pub principal: PrincipalId,
    /// Its name.
    pub name: String,
    /// The token that it was made with, and ends with.
    pub made_by: Option<TokenId>,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// The only app it is good for.
    pub app: Option<AppId>,
    /// The name of that app.
    pub app_name: Option<AppName>,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last used, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
}

/// What the holder of a valid token is and may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    /// The token.
    pub token: TokenId,
    /// Whom it stands for; never a disabled one.
    pub principal: Principal,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// The only app it is good for.
    pub app: Option<AppId>,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
}

impl TokenHash {
    /// The hash of a secret.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl Store {
    /// Stores a token of a principal that nobody's credential limits.
    pub async fn create_token(&self, principal: PrincipalId, token: &NewToken) -> Result<Token, StoreError> {
        let mut connection = self.pool.acquire().await?;
        insert_token(&mut connection, principal, token, None).await
    }

    /// Stores a token that a client of the API made. Its principal has at most 100 that have not expired, and those
    /// that expired more than 30 days ago are removed.
    ///
    /// [`StoreError::NotFound`] also if the token that it is made with was revoked in the meantime.
    pub async fn issue_token(
        &self,
        principal: PrincipalId,
        token: &NewToken,
        maker: TokenMaker,
    ) -> Result<Token, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Makes those who do the same for this principal take turns.
        let locked = sqlx::query_scalar!(
            "SELECT id FROM principals WHERE id = $1 FOR NO KEY UPDATE",
            principal.as_uuid()
        );
        if locked.fetch_optional(&mut *transaction).await?.is_none() {
            return Err(StoreError::NotFound { what: "principal" });
        }
        let removed = sqlx::query!(
            "DELETE FROM tokens WHERE principal_id = $1 AND expires_at < now() - interval '30 days'",
            principal.as_uuid(),
        );
        removed.execute(&mut *transaction).await?;
        let held = sqlx::query_scalar!(
            r#"SELECT count(*) AS "held!" FROM tokens
            WHERE principal_id = $1 AND (expires_at IS NULL OR expires_at > now())"#,
            principal.as_uuid(),
        );
        if held.fetch_one(&mut *transaction).await? >= MAX_TOKENS {
            let problem = format!("a principal has at most {MAX_TOKENS} tokens; revoke one that is not used");
            return Err(StoreError::Invalid(problem));
        }
        let made_by = match maker {
            TokenMaker::Token(id) => Some(id),
            TokenMaker::Session => None,
        };
        let token = insert_token(&mut transaction, principal, token, made_by).await?;
        transaction.commit().await?;
        Ok(token)
    }

    /// What the holder of a secret may do; `None` if no token has this hash, or it has expired, or its
    /// principal is disabled. Notes that it was used, at most once a minute.
    pub async fn authenticate(&self, hash: TokenHash) -> Result<Option<TokenGrant>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT t.id AS token_id, t.scopes, t.app_id, t.expires_at,
                (t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute') AS "stale!",
                p.id, p.name, p.kind, p.role, p.disabled_at, p.created_at
            FROM tokens t JOIN principals p ON p.id = t.principal_id
            WHERE t.hash = $1 AND (t.expires_at IS NULL OR t.expires_at > now()) AND p.disabled_at IS NULL"#,
            hash.bytes(),
        );
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        if row.stale {
            self.touch_token(TokenId::from_uuid(row.token_id)).await?;
        }
        let principal = PrincipalRow {
            id: row.id,
            name: row.name,
            kind: row.kind,
            role: row.role,
            disabled_at: row.disabled_at,
            created_at: row.created_at,
        };
        Ok(Some(TokenGrant {
            token: TokenId::from_uuid(row.token_id),
            principal: principal.try_into()?,
            scopes: scopes(&row.scopes)?,
            app: row.app_id.map(AppId::from_uuid),
            expires_at: row.expires_at,
        }))
    }

    /// The tokens of a principal, oldest first.
    pub async fn tokens(&self, principal: PrincipalId) -> Result<Vec<Token>, StoreError> {
        let rows = sqlx::query_as!(
            TokenRow,
            r#"SELECT t.id, t.principal_id, t.name, t.made_by, t.scopes, t.app_id, a.name AS "app_name?",
                t.expires_at, t.created_at, t.last_used_at
            FROM tokens t LEFT JOIN apps a ON a.id = t.app_id WHERE t.principal_id = $1 ORDER BY t.id"#,
            principal.as_uuid(),
        );
        rows.fetch_all(&self.pool).await?.into_iter().map(Token::try_from).collect()
    }

    /// A token by its id.
    pub async fn token(&self, id: TokenId) -> Result<Option<Token>, StoreError> {
        let row = sqlx::query_as!(
            TokenRow,
            r#"SELECT t.id, t.principal_id, t.name, t.made_by, t.scopes, t.app_id, a.name AS "app_name?",
                t.expires_at, t.created_at, t.last_used_at
            FROM tokens t LEFT JOIN apps a ON a.id = t.app_id WHERE t.id = $1"#,
            id.as_uuid(),
        );
        row.fetch_optional(&self.pool).await?.map(Token::try_from).transpose()
    }

    /// Removes a token and those that were made with it: from the next request on they are unknown.
    pub async fn revoke_token(&self, id: TokenId) -> Result<(), StoreError> {
        let deleted = sqlx::query!("DELETE FROM tokens WHERE id = $1", id.as_uuid());
        match deleted.execute(&self.pool).await?.rows_affected() {
            0 => Err(StoreError::NotFound { what: "token" }),
            _ => Ok(()),
        }
    }

    pub(crate) async fn touch_token(&self, id: TokenId) -> Result<(), StoreError> {
        // The condition again, since many requests may have found the same stale row.
        let touched = sqlx::query!(
            "UPDATE tokens SET last_used_at = now()
            WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')",
            id.as_uuid(),
        );
        touched.execute(&self.pool).await?;
        Ok(())
    }
}

pub(crate) async fn insert_token(
    connection: &mut PgConnection,
    principal: PrincipalId,
    token: &NewToken,
    made_by: Option<TokenId>,
) -> Result<Token, StoreError> {
    const MAX_NAME_BYTES: usize = 128;
    if token.scopes.is_empty() {
        return Err(StoreError::Invalid("a token needs at least one scope".into()));
    }
    if token.name.is_empty() || printable(&token.name, MAX_NAME_BYTES) != token.name {
        let problem = format!("a token's name has 1 to {MAX_NAME_BYTES} bytes, without U+0000");
        return Err(StoreError::Invalid(problem));
    }
    let scopes: Vec<String> = token.scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
    let row = sqlx::query_as!(
        TokenRow,
        r#"INSERT INTO tokens (id, principal_id, name, hash, scopes, app_id, expires_at, made_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        RETURNING id, principal_id, name, made_by, scopes, app_id,
            (SELECT a.name FROM apps a WHERE a.id = app_id) AS "app_name?", expires_at, created_at, last_used_at"#,
        TokenId::generate().as_uuid(),
        principal.as_uuid(),
        token.name,
        token.hash.bytes(),
        &scopes,
        token.app.map(AppId::as_uuid),
        token.expires_at,
        made_by.map(TokenId::as_uuid),
    );
    let row = row.fetch_one(connection).await;
    let row = row.map_err(|error| StoreError::foreign(error, "app, principal or token to make it with"))?;
    row.try_into()
}

struct TokenRow {
    id: uuid::Uuid,
    principal_id: uuid::Uuid,
    name: String,
    made_by: Option<uuid::Uuid>,
    scopes: Vec<String>,
    app_id: Option<uuid::Uuid>,
    app_name: Option<String>,
    expires_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
    last_used_at: Option<OffsetDateTime>,
}

impl TryFrom<TokenRow> for Token {
    type Error = StoreError;

    fn try_from(row: TokenRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: TokenId::from_uuid(row.id),
            principal: PrincipalId::from_uuid(row.principal_id),
            name: row.name,
            made_by: row.made_by.map(TokenId::from_uuid),
            scopes: scopes(&row.scopes)?,
            app: row.app_id.map(AppId::from_uuid),
            app_name: row.app_name.map(|name| parse(&name)).transpose()?,
            expires_at: row.expires_at,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
        })
    }
}

fn scopes(texts: &[String]) -> Result<Vec<Scope>, StoreError> {
    texts.iter().map(|text| parse(text)).collect()
}
