//! Typed ids: one newtype per table, so that no bare `Uuid` crosses a crate border.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

/// A text that is no id. It says what ids look like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id; ids look like 0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b")]
pub struct IdError(String);

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id: UUID version 7, so that ids made later sort later.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// Wraps an id read from storage.
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The id as storage keeps it.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError(text.to_owned()))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// Identifies an app (table `apps`).
    AppId;
    /// Identifies an entry of the audit log (table `audit_log`).
    AuditId;
    /// Identifies an event that was given up (table `dead_letters`).
    DeadLetterId;
    /// Identifies a custom domain of an app (table `domains`).
    DomainId;
    /// Identifies an event (table `outbox`): receivers know it by this id, again after a retry.
    EventId;
    /// Identifies one invocation in the history (table `executions`).
    ExecutionId;
    /// Identifies a caller that waits for the answer to an event.
    InboxId;
    /// Identifies a user or service principal (table `principals`).
    PrincipalId;
    /// Identifies one request to a listener; shown to clients as `picloud-request-id`.
    RequestId;
    /// Identifies a route of an app (table `routes`).
    RouteId;
    /// Identifies a script (table `scripts`).
    ScriptId;
    /// Identifies a trigger (table `triggers`).
    TriggerId;
    /// Identifies a process that handles events (table `outbox_workers`), from its start to its end.
    WorkerId;
    /// Identifies one version of a script (table `script_versions`).
    ScriptVersionId;
    /// Identifies what an issuer knows a principal by (table `principal_identities`).
    IdentityId;
    /// Identifies a session of somebody who signed in (table `sessions`).
    SessionId;
    /// Identifies a key that callers of a route sign with (table `route_signing_keys`).
    SigningKeyId;
    /// Identifies an API token (table `tokens`).
    TokenId;
}
