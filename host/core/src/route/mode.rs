//! How a route's invocations run.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How a route's invocations run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteMode {
    /// While the client waits, and only then.
    #[default]
    Sync,
    /// While the client waits, and to the end whether it waits or not: the request is on disk before it runs.
    Durable,
    /// Later: the client is told at once that the request is on disk, and where it can ask for the answer.
    Async,
}

impl RouteMode {
    /// Every mode.
    pub const ALL: &[Self] = &[Self::Sync, Self::Durable, Self::Async];

    /// The mode as storage and clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Durable => "durable",
            Self::Async => "async",
        }
    }
}

impl fmt::Display for RouteMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode of a route {0:?}; allowed: sync, durable, async")]
pub struct UnknownRouteMode(pub String);

impl FromStr for RouteMode {
    type Err = UnknownRouteMode;

    fn from_str(text: &str) -> Result<Self, UnknownRouteMode> {
        let mode = Self::ALL.iter().find(|mode| mode.as_str() == text);
        mode.copied().ok_or_else(|| UnknownRouteMode(text.to_owned()))
    }
}
