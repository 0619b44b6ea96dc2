//! What can go wrong between a caller and the database.

use std::error::Error as StdError;

use picloud_core::{MailboxName, QueueName, TriggerName, Uses};

use crate::NewRoute;

/// A failure of the store. Only the texts of `NotFound`, `AlreadyExists`, `RouteOverlaps`, `RouteTwice`, `QueueTaken`, `AddressTaken`, `LastOwner`,
/// `InUse`, `NotGranted`, `FileQuota`, `OutboxFull`, `KeysFull`, `MailQuota`, `TooLarge` and `Invalid` are for clients; the sources of the others are for the platform's own log.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What the call names does not exist.
    #[error("no such {what}")]
    NotFound {
        /// Its kind: `app`, `script`, ...
        what: &'static str,
    },
    /// What the call makes exists already.
    #[error("this {what} exists already")]
    AlreadyExists {
        /// Its kind: `app`, `domain`, ...
        what: &'static str,
    },
    /// Another route of the same paths answers some of the methods of the one that the call makes.
    #[error("the route {route} exists already: it leads to {} and shares methods with this one", .route.target)]
    RouteOverlaps {
        /// The route that is there, or comes before it in the same call.
        route: Box<NewRoute>,
    },
    /// The same route twice in one call.
    #[error("the route {route} is given twice")]
    RouteTwice {
        /// The second of the two.
        route: Box<NewRoute>,
    },
    /// The queue of a trigger that is made has another one: a message is handled by one script.
    #[error("the queue {queue} has a trigger already, {trigger}; a queue has one")]
    QueueTaken {
        /// The queue.
        queue: QueueName,
        /// The trigger that it has.
        trigger: TriggerName,
    },
    /// Another trigger, of this app or of another one, has the address.
    #[error("the address {address} is taken; choose another one")]
    AddressTaken {
        /// The address, without what is after the `@`.
        address: MailboxName,
    },
    /// It was changed in the meantime, or is not in the state that the caller expected.
    #[error("it was changed in the meantime")]
    Conflict,
    /// It would leave the installation without an owner who is not disabled.
    #[error("it is the last owner who is not disabled; make another principal an owner first")]
    LastOwner,
    /// It cannot be removed, because something needs it.
    #[error("the {what} is in use by {}", .by.join(", "))]
    InUse {
        /// What was to be removed.
        what: &'static str,
        /// What needs it.
        by: Vec<String>,
    },
    /// A version that imports a library which has been removed since, so that its image cannot be built.
    #[error("version {number} of script {script} imports a library that was deleted since")]
    LibraryGone {
        /// The script.
        script: String,
        /// The version.
        number: i32,
    },
    /// The app is strict and does not grant what a version uses.
    #[error("the script \"{script}\" uses what its app does not grant{}", in_words(.uses))]
    NotGranted {
        /// The script.
        script: String,
        /// What is not granted; nothing where it is not known what the version uses.
        uses: Uses,
    },
    /// The app's files would be more than its quota allows.
    #[error("{message}")]
    FileQuota {
        /// The limit, as the API names it.
        limit: &'static str,
        /// What they would be, and what is allowed.
        message: String,
        /// The limit's value.
        most: u64,
    },
    /// More events of the app would wait than may.
    #[error("{message}")]
    OutboxFull {
        /// How many wait, and what is allowed.
        message: String,
        /// The limit.
        limit: u64,
    },
    /// As many keys of requests are remembered as may be.
    #[error("{message}")]
    KeysFull {
        /// How many, and what is allowed.
        message: String,
        /// The limit.
        limit: u64,
    },
    /// The app would send more e-mails in a day than it may.
    #[error(
        "the app would send more e-mails today (UTC) than its limit mails_per_day allows, which is {limit}"
    )]
    MailQuota {
        /// The limit.
        limit: u64,
    },
    /// Something is larger than it may be.
    #[error("{0}")]
    TooLarge(String),
    /// A value that the database cannot hold.
    #[error("{0}")]
    Invalid(String),
    /// The database does not answer, or not in time: try again later.
    #[error("the database does not answer: {0}")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// This database cannot be used by this program: it is newer, was tampered with, or is set up wrongly.
    #[error("this database cannot be used: {0}")]
    Incompatible(String),
    /// Any other failure, which is a defect of the platform.
    #[error("a statement failed: {0}")]
    Database(#[source] Box<dyn StdError + Send + Sync>),
}

impl StoreError {
    /// What the database holds is not what the domain allows.
    pub(crate) fn corrupt(error: impl StdError + Send + Sync + 'static) -> Self {
        Self::Database(Box::new(error))
    }

    /// Names what already exists where `error` is a violation of uniqueness.
    pub(crate) fn unique(error: sqlx::Error, what: &'static str) -> Self {
        match error.as_database_error() {
            Some(database) if database.is_unique_violation() => Self::AlreadyExists { what },
            _ => error.into(),
        }
    }

    /// Names what is missing where `error` is a violation of a foreign key.
    pub(crate) fn foreign(error: sqlx::Error, what: &'static str) -> Self {
        match error.as_database_error() {
            Some(database) if database.is_foreign_key_violation() => Self::NotFound { what },
            _ => error.into(),
        }
    }
}

/// `: secrets "stripe", kv by any name`; nothing where nothing is known.
fn in_words(uses: &Uses) -> String {
    let mut words = Vec::new();
    for (kind, used) in uses.iter() {
        words.extend(used.names.iter().map(|name| format!("{kind} \"{name}\"")));
        words.extend(used.any.then(|| format!("{kind} by any name")));
    }
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}

impl StoreError {
    /// Whether a statement took longer than it may, or than a lock is waited for: a smaller one may be in time.
    pub fn is_timeout(&self) -> bool {
        let Self::Unavailable(source) = self else { return false };
        let Some(sqlx::Error::Database(error)) = source.downcast_ref() else { return false };
        matches!(error.code().as_deref(), Some("57014" | "55P03"))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_) => Self::Unavailable(Box::new(error)),
            sqlx::Error::Configuration(_) => {
                Self::Invalid(format!("the database's address is wrong: {error}"))
            }
            sqlx::Error::Migrate(error) => (*error).into(),
            sqlx::Error::Database(ref database) => match database.code().as_deref() {
                Some(code) => by_sqlstate(code)(error),
                None => Self::Database(Box::new(error)),
            },
            other => Self::Database(Box::new(other)),
        }
    }
}

/// Classes of <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn by_sqlstate(code: &str) -> fn(sqlx::Error) -> StoreError {
    match code {
        // Serialization failure, deadlock, and a deferred foreign key whose other side went at the same time.
        "40001" | "40P01" | "23503" => |_| StoreError::Conflict,
        // Cancelled by the statement timeout; a lock that was not had in time.
        "57014" | "55P03" => |error| StoreError::Unavailable(Box::new(error)),
        // Wrong password, no such role, no such database.
        "28000" | "28P01" | "3D000" => |error| StoreError::Incompatible(error.to_string()),
        // Connection exceptions, out of resources (disk full, too many clients), administrator's intervention.
        _ if ["08", "53", "57"].contains(&&code[..2]) => |error| StoreError::Unavailable(Box::new(error)),
        _ => |error| StoreError::Database(Box::new(error)),
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) => error.into(),
            MigrateError::VersionMissing(version) => Self::Incompatible(format!(
                "it has migration {version}, which this version of PiCloud does not know; a newer version has \
                 used it, so run that one or a later one"
            )),
            MigrateError::VersionMismatch(version) => Self::Incompatible(format!(
                "its migration {version} is not the one of this version of PiCloud"
            )),
            MigrateError::ExecuteMigration(error, version) => match error.into() {
                Self::Database(source) => {
                    Self::Incompatible(format!("migration {version} does not apply to it: {source}"))
                }
                other => other,
            },
            other => Self::Database(Box::new(other)),
        }
    }
}
