//! Keys that callers of a route sign with.

use std::{fmt, ops::RangeInclusive, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use picloud_core::{ErrorCode, RouteId, SigningKeyId};
use picloud_store::{SigningKey, SigningKeyInfo};
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
    /// The key, where the sender has made it: 16 to 1,024 bytes of text without control characters. The platform makes one
    /// if it is left out.
    #[schema(value_type = Option<String>, min_length = 16, max_length = 1024)]
    key: Option<GivenKey>,
    /// How long the key before stays good: 0 to 2,592,000, a day if left out. One that was replaced already ends now.
    #[serde(default = "a_day")]
    keep_seconds: u32,
}

/// A key that a sender has made. Its `Debug` form hides it.
#[derive(Deserialize)]
struct GivenKey(String);

impl fmt::Debug for GivenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenKey(..)")
    }
}

impl GivenKey {
    /// What is stored holds as many bytes.
    const BYTES: RangeInclusive<usize> = 16..=1024;

    fn checked(self) -> Result<SigningKey, ApiError> {
        let bytes = self.0.len();
        if Self::BYTES.contains(&bytes) && !self.0.contains(char::is_control) {
            return Ok(SigningKey::from_text(self.0));
        }
        let (least, most) = (Self::BYTES.start(), Self::BYTES.end());
        let detail = format!(
            "the key has {bytes} bytes; allowed are {least} to {most} of text without control characters"
        );
        Err(ApiError::new(ErrorCode::Invalid, detail).field("key"))
    }
}

fn a_day() -> u32 {
    24 * 3600
}

/// A new key. It is not shown again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    /// The key: its text is what is signed with. Null where it was given.
    key: Option<String>,
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
    let is_given = new.key.is_some();
    let key = match new.key {
        Some(given) => given.checked()?,
        None => new_signing_key().map_err(|error| ApiError::internal("a signing key", &error))?,
    };
    let keep = Duration::from_secs(new.keep_seconds.into());
    let info = context.store.add_signing_key(app.id, route, &key, keep).await.map_err(from_store)?;
    context.app_changed(app.id).await;
    let key = (!is_given).then(|| key.reveal().to_owned());
    Ok((StatusCode::CREATED, Json(CreatedKey { key, shown: info.into() })))
}
