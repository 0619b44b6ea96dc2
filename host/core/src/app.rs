//! An app: the unit of ownership, isolation and limits.

use time::OffsetDateTime;

use crate::{AppId, AppName, Limits};

/// An app with the limits in force for it.
#[derive(Clone, Debug)]
pub struct App {
    /// Its id, which never changes.
    pub id: AppId,
    /// Its name: the first label of its host name.
    pub name: AppName,
    /// Its limits, at or under the platform's ceiling.
    pub limits: Limits,
    /// When it was made.
    pub created_at: OffsetDateTime,
}
