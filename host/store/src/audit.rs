//! The audit log: who did what, when, from where, and how it ended. Entries are added and never changed; the database
//! itself refuses anything else (`migrations/0013_identity.sql`).

use std::net::IpAddr;

use picloud_core::{AppId, AppName, AuditId, PrincipalId, PrincipalName, RequestId, SessionId, TokenId};
use time::OffsetDateTime;

use crate::{Page, PageSize, Store, StoreError, text::printable};

/// The longest text of what an entry is about.
const MAX_TEXT_BYTES: usize = 1024;

/// An entry to be added.
#[derive(Clone, Debug)]
pub struct NewAuditEntry {
    /// The request.
    pub request: RequestId,
    /// Who, if that is known.
    pub principal: Option<(PrincipalId, PrincipalName)>,
    /// The token that was shown.
    pub token: Option<TokenId>,
    /// The session that was shown or begun.
    pub session: Option<SessionId>,
    /// From where.
    pub address: Option<IpAddr>,
    /// The operation of the API.
    pub action: &'static str,
    /// The capability that it needed.
    pub capability: Option<&'static str>,
    /// The app that it was about.
    pub app: Option<(Option<AppId>, AppName)>,
    /// What in the app or the installation. Cut at 1,024 bytes.
    pub target: Option<String>,
    /// What was done to it. Cut at 1,024 bytes.
    pub detail: Option<String>,
    /// `ok`, or the error code.
    pub outcome: &'static str,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its id.
    pub id: AuditId,
    /// When.
    pub at: OffsetDateTime,
    /// The request.
    pub request: RequestId,
    /// Who, if that is known.
    pub principal: Option<PrincipalId>,
    /// The name it had.
    pub principal_name: Option<String>,
    /// The token that was shown.
    pub token: Option<TokenId>,
    /// The session that was shown or begun.
    pub session: Option<SessionId>,
    /// From where.
    pub address: Option<String>,
    /// The operation of the API.
    pub action: String,
    /// The capability that it needed.
    pub capability: Option<String>,
    /// The app that it was about, if there was one.
    pub app: Option<AppId>,
    /// The name of that app, as it was called.
    pub app_name: Option<String>,
    /// What in the app or the installation.
    pub target: Option<String>,
    /// What was done to it.
    pub detail: Option<String>,
    /// `ok`, or the error code.
    pub outcome: String,
}

/// Which entries are wanted; without any condition, all.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// About the app of this name.
    pub app: Option<AppName>,
    /// Of this principal.
    pub principal: Option<PrincipalId>,
    /// Of principals that had this name.
    pub principal_name: Option<PrincipalName>,
    /// Of this operation.
    pub action: Option<String>,
    /// Not before this.
    pub since: Option<OffsetDateTime>,
    /// Before this.
    pub until: Option<OffsetDateTime>,
}

impl Store {
    /// Adds an entry.
    pub async fn append_audit(&self, entry: &NewAuditEntry) -> Result<(), StoreError> {
        let text =
            |text: &Option<String>| text.as_deref().map(|text| printable(text, MAX_TEXT_BYTES).into_owned());
        let (target, detail) = (text(&entry.target), text(&entry.detail));
        let (app_id, app_name) = match &entry.app {
            Some((id, name)) => (*id, Some(name.as_str())),
            None => (None, None),
        };
        let added = sqlx::query!(
            "INSERT INTO audit_log (id, request_id, principal_id, principal_name, token_id, session_id, address,
                action, capability, app_id, app_name, target, detail, outcome)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            AuditId::generate().as_uuid(),
            entry.request.as_uuid(),
            entry.principal.as_ref().map(|(id, _)| id.as_uuid()),
            entry.principal.as_ref().map(|(_, name)| name.as_str()),
            entry.token.map(TokenId::as_uuid),
            entry.session.map(SessionId::as_uuid),
            entry.address.map(|address| address.to_string()),
            entry.action,
            entry.capability,
            app_id.map(AppId::as_uuid),
            app_name,
            target,
            detail,
            entry.outcome,
        );
        added.execute(&self.pool).await?;
        Ok(())
    }

    /// The entries that `filter` lets through, older than `before`, the newest first.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<AuditId>,
        size: PageSize,
    ) -> Result<Page<AuditEntry>, StoreError> {
        let rows = sqlx::query!(
            "SELECT id, at, request_id, principal_id, principal_name, token_id, session_id, address, action,
                capability, app_id, app_name, target, detail, outcome
            FROM audit_log
            WHERE ($1::uuid IS NULL OR id < $1) AND ($2::text IS NULL OR app_name = $2)
                AND ($3::uuid IS NULL OR principal_id = $3) AND ($4::text IS NULL OR action = $4)
                AND ($5::timestamptz IS NULL OR at >= $5) AND ($6::timestamptz IS NULL OR at < $6)
                AND ($8::text IS NULL OR principal_name = $8)
            ORDER BY id DESC LIMIT $7",
            before.map(AuditId::as_uuid),
            filter.app.as_ref().map(AppName::as_str),
            filter.principal.map(PrincipalId::as_uuid),
            filter.action,
            filter.since,
            filter.until,
            size.and_one(),
            filter.principal_name.as_ref().map(PrincipalName::as_str),
        );
        Page::of(rows.fetch_all(&self.pool).await?, size, |row| {
            Ok(AuditEntry {
                id: AuditId::from_uuid(row.id),
                at: row.at,
                request: RequestId::from_uuid(row.request_id),
                principal: row.principal_id.map(PrincipalId::from_uuid),
                principal_name: row.principal_name,
                token: row.token_id.map(TokenId::from_uuid),
                session: row.session_id.map(SessionId::from_uuid),
                address: row.address,
                action: row.action,
                capability: row.capability,
                app: row.app_id.map(AppId::from_uuid),
                app_name: row.app_name,
                target: row.target,
                detail: row.detail,
                outcome: row.outcome,
            })
        })
    }

    /// Removes at most `most` entries that are older than `days` (at least one), and answers how many.
    pub async fn remove_old_audit(&self, days: u16, most: u32) -> Result<u64, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let days = i32::from(days.max(1));
        // The table's trigger refuses every other removal.
        sqlx::query!("SELECT set_config('picloud.audit_retention_days', $1, true)", days.to_string())
            .fetch_one(&mut *transaction)
            .await?;
        let removed = sqlx::query!(
            "DELETE FROM audit_log WHERE id IN (
                SELECT id FROM audit_log WHERE at < now() - make_interval(days => $1) ORDER BY at LIMIT $2)",
            days,
            i64::from(most),
        );
        let removed = removed.execute(&mut *transaction).await?.rows_affected();
        transaction.commit().await?;
        Ok(removed)
    }
}
