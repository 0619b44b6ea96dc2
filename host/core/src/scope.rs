//! Scopes: what an API token allows its holder to do.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// One of the seven things a token can allow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Scope {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Scope {
            /// Every scope there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The scope as tokens and clients name it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

scopes! {
    /// See apps, scripts, routes and domains.
    ScriptRead = "script:read";
    /// Deploy scripts, routes and domains; run a script.
    ScriptWrite = "script:write";
    /// Read an app's data.
    DataRead = "data:read";
    /// Change an app's data.
    DataWrite = "data:write";
    /// Read executions, logs and usage.
    LogRead = "log:read";
    /// Change an app itself, its limits and its members.
    AppAdmin = "app:admin";
    /// Make and remove apps and principals; see the platform's state.
    InstanceAdmin = "instance:admin";
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A scope that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown scope {0:?}; allowed are script:read, script:write, data:read, data:write, log:read, app:admin \
     and instance:admin"
)]
pub struct UnknownScope(String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let known = Self::ALL.iter().copied().find(|scope| scope.as_str() == text);
        known.ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_round_trip_and_the_error_names_all_of_them() {
        let error = "root".parse::<Scope>().unwrap_err().to_string();
        assert_eq!(Scope::ALL.len(), 7);
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(*scope));
            assert_eq!(serde_json::to_string(scope).unwrap(), format!("\"{scope}\""));
            assert!(error.contains(scope.as_str()), "{scope}");
        }
    }
}
