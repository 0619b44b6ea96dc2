//! What a failure of the store means to a client.

use picloud_core::ErrorCode;
use picloud_store::StoreError;

use crate::error::ApiError;

/// Only texts that the store writes for clients go out; the rest goes to the log.
pub(crate) fn from_store(error: StoreError) -> ApiError {
    let text = error.to_string();
    match error {
        StoreError::NotFound { what } => {
            let code = match what {
                "app" => ErrorCode::AppNotFound,
                "script" => ErrorCode::ScriptNotFound,
                _ => ErrorCode::NotFound,
            };
            ApiError::new(code, text)
        }
        StoreError::InUse { by, .. } => {
            let detail = format!(
                "{text}; remove the route or the trigger, or deploy the script without the import, first"
            );
            ApiError::new(ErrorCode::ScriptInUse, detail).with("used_by", by)
        }
        StoreError::NotGranted { uses, .. } => {
            let detail =
                format!("{text}; who may change the app's settings can grant it (`picloud grant add`)");
            ApiError::new(ErrorCode::NotGranted, detail).with("not_granted", uses)
        }
        StoreError::LibraryGone { .. } => {
            let detail = format!("{text}; deploy its source anew, with the library or without the import");
            ApiError::new(ErrorCode::CompileError, detail)
        }
        StoreError::AlreadyExists { .. } | StoreError::RouteTwice { .. } | StoreError::Conflict => {
            ApiError::new(ErrorCode::AlreadyExists, text)
        }
        StoreError::RouteOverlaps { .. } => ApiError::new(
            ErrorCode::AlreadyExists,
            format!("{text}; remove it first, or give this one the same methods to replace it"),
        ),
        StoreError::QueueTaken { trigger, .. } => {
            ApiError::new(ErrorCode::AlreadyExists, text).field("queue").with("trigger", trigger)
        }
        StoreError::AddressTaken { .. } => ApiError::new(ErrorCode::AlreadyExists, text).field("address"),
        StoreError::LastOwner => ApiError::new(ErrorCode::LastOwner, text),
        StoreError::FileQuota { limit, most, .. } => {
            ApiError::new(ErrorCode::FileQuota, text).field(limit).with("limit", most)
        }
        StoreError::OutboxFull { limit, .. } => {
            ApiError::new(ErrorCode::OutboxFull, text).field("outbox_events").with("limit", limit)
        }
        StoreError::KeysFull { limit, .. } => ApiError::new(ErrorCode::KeysFull, text).with("limit", limit),
        StoreError::MailQuota { limit } => {
            ApiError::new(ErrorCode::MailQuota, text).field("mails_per_day").with("limit", limit)
        }
        StoreError::TooLarge(_) => ApiError::new(ErrorCode::TooLarge, text),
        StoreError::Invalid(_) => ApiError::new(ErrorCode::Invalid, text),
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "the database does not answer");
            ApiError::new(ErrorCode::DatabaseUnavailable, "the database does not answer; try again later")
        }
        StoreError::Incompatible(_) | StoreError::Database(_) => ApiError::internal("a statement", &error),
    }
}
