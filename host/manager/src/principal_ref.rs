//! How calls name a principal: by its id or by its name. No name has the form of an id.

use std::str::FromStr;

use picloud_core::{ErrorCode, NameError, PrincipalId, PrincipalName};
use picloud_store::Principal;
use serde::{Deserialize, Deserializer, de};

use crate::{context::Context, error::ApiError, store_error::from_store};

/// An id or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PrincipalRef {
    /// By its id.
    Id(PrincipalId),
    /// By its name.
    Name(PrincipalName),
}

impl PrincipalRef {
    /// The principal, if there is one.
    pub(crate) async fn find(&self, context: &Context) -> Result<Principal, ApiError> {
        let found = match self {
            Self::Id(id) => context.store.principal(*id).await,
            Self::Name(name) => context.store.principal_by_name(name).await,
        };
        found.map_err(from_store)?.ok_or_else(|| self.not_found())
    }

    /// Whether it names this principal.
    pub(crate) fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Id(id) => *id == principal.id,
            Self::Name(name) => *name == principal.name,
        }
    }

    pub(crate) fn not_found(&self) -> ApiError {
        let detail = match self {
            Self::Id(id) => format!("no principal {id}"),
            Self::Name(name) => format!("no principal \"{name}\""),
        };
        ApiError::new(ErrorCode::NotFound, detail)
    }
}

impl FromStr for PrincipalRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl<'de> Deserialize<'de> for PrincipalRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
