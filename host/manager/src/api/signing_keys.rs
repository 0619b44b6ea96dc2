//! Keys that callers of a route sign with.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use picloud_core::{ErrorCode, RouteId, SigningKeyId};
use picloud_store::SigningKeyInfo;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    access::TargetApp,
    context::Context,
    error::ApiError,
    extract::{JsonBody, PathNames},
    store_error::from_store,
    token::new_signing_key,
};

/// The longest time for the key before to stay good, in seconds: 30 days.
const LONGEST_KEEP: u32 = 30 * 24 * 3600;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// How long the key before stays good: 0 to 2,592,000, a day if left out. One that was replaced already ends now.
    #[serde(default = "a_day")]
    keep_seconds: u32,
}

fn a_day() -> u32 {
    24 * 3600
}

/// A new key. It is not shown again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    /// The key: its text is what is signed with.
    key: String,
    /// What is shown of it from now on.
    #[serde(flatten)]
    shown: SigningKeyView,
}

/// A key of a route, without the key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SigningKeyView {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: SigningKeyId,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it ends, if a newer one has taken its place.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

impl From<SigningKeyInfo> for SigningKeyView {
    fn from(key: SigningKeyInfo) -> Self {
        Self { id: key.id, created_at: key.created_at, expires_at: key.expires_at }
    }
}

/// Gives a route with `hmac` a new key to sign with. The one before stays good for a while.
#[utoipa::path(post, path = "/api/v1/apps/{app}/routes/{id}/keys", tag = "routes", request_body = NewKey,
    responses((status = 201, description = "The key, shown this once", body = CreatedKey)))]
pub(crate) async fn create_key(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, route)): PathNames<(String, RouteId)>,
    JsonBody(new): JsonBody<NewKey>,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    if new.keep_seconds > LONGEST_KEEP {
        let detail = format!("keep_seconds is {}; allowed is 0 to {LONGEST_KEEP}", new.keep_seconds);
        return Err(ApiError::new(ErrorCode::Invalid, detail).field("keep_seconds"));
    }
    let key = new_signing_key().map_err(|error| ApiError::internal("a signing key", &error))?;
    let keep = Duration::from_secs(new.keep_seconds.into());
    let info = context.store.add_signing_key(app.id, route, &key, keep).await.map_err(from_store)?;
    context.app_changed(app.id).await;
    Ok((StatusCode::CREATED, Json(CreatedKey { key: key.reveal().to_owned(), shown: info.into() })))
}
