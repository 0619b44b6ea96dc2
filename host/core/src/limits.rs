//! Limits of an app and the platform's ceiling over them. Every number here is public (docs/SEMANTICS.md).

use serde::{Deserialize, Serialize};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident, $variant:ident, $env:literal, $least:expr, $default:expr, $ceiling:expr;)*) => {
        /// The limits in force for an app.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Limits {
            $($(#[$doc])* pub $field: u64,)*
        }

        /// A change of limits: what is named is replaced, the rest stays.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct LimitsPatch {
            $($(#[$doc])* #[serde(
                default,
                deserialize_with = "whole_number",
                skip_serializing_if = "Option::is_none"
            )] pub $field: Option<u64>,)*
        }

        /// Names one limit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LimitField {
            $($(#[$doc])* $variant,)*
        }

        impl LimitField {
            /// Every limit there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name as the API has it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($field),)* }
            }

            /// The environment variable that sets the platform's ceiling.
            pub const fn env(self) -> &'static str {
                match self { $(Self::$variant => $env,)* }
            }

            /// The least value with which anything can run.
            pub const fn least(self) -> u64 {
                match self { $(Self::$variant => $least,)* }
            }

            /// The value for an app that sets none.
            pub const fn default(self) -> u64 {
                match self { $(Self::$variant => $default,)* }
            }

            /// The ceiling where the environment sets none.
            pub const fn default_ceiling(self) -> u64 {
                match self { $(Self::$variant => $ceiling,)* }
            }
        }

        impl Limits {
            /// The value of one limit.
            pub const fn get(&self, field: LimitField) -> u64 {
                match field { $(LimitField::$variant => self.$field,)* }
            }

            fn set(&mut self, field: LimitField, value: u64) {
                match field { $(LimitField::$variant => self.$field = value,)* }
            }
        }

        impl LimitsPatch {
            /// The new value of one limit, if the patch names it.
            pub const fn get(&self, field: LimitField) -> Option<u64> {
                match field { $(LimitField::$variant => self.$field,)* }
            }

            /// Names a limit in the patch.
            pub fn set(&mut self, field: LimitField, value: u64) {
                match field { $(LimitField::$variant => self.$field = Some(value),)* }
            }
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

limits! {
    /// Fuel of one invocation, nested calls included. One simple Rhai operation takes 1,500 to 5,000 units.
    fuel, Fuel, "PICLOUD_SANDBOX_MAX_FUEL", 50_000, 500_000_000, 20_000_000_000;
    /// Linear memory of one instance, in bytes.
    memory_bytes, MemoryBytes, "PICLOUD_SANDBOX_MAX_MEMORY_BYTES", 4 * MIB, 16 * MIB, 64 * MIB;
    /// Wall-clock time of one invocation, re-runs and host calls included, in milliseconds.
    wall_ms, WallMs, "PICLOUD_SANDBOX_MAX_WALL_MS", 10, 10_000, 60_000;
    /// Number of host calls of one invocation.
    host_calls, HostCalls, "PICLOUD_SANDBOX_MAX_HOST_CALLS", 0, 1_000, 10_000;
    /// Bytes through host calls of one invocation, both ways.
    host_call_bytes, HostCallBytes, "PICLOUD_SANDBOX_MAX_HOST_CALL_BYTES", 0, 4 * MIB, 32 * MIB;
    /// Number of calls of one invocation to other services over HTTP.
    egress_calls, EgressCalls, "PICLOUD_SANDBOX_MAX_EGRESS_CALLS", 0, 50, 200;
    /// Body of one such call, and body of its answer, in bytes.
    egress_bytes, EgressBytes, "PICLOUD_SANDBOX_MAX_EGRESS_BYTES", 0, MIB, 8 * MIB;
    /// Body of a request, in bytes.
    request_body_bytes, RequestBodyBytes, "PICLOUD_SANDBOX_MAX_REQUEST_BODY_BYTES", 0, MIB, 8 * MIB;
    /// Body of a response, in bytes.
    response_bytes, ResponseBytes, "PICLOUD_SANDBOX_MAX_RESPONSE_BYTES", 0, MIB, 8 * MIB;
    /// Number of response headers.
    response_headers, ResponseHeaders, "PICLOUD_SANDBOX_MAX_RESPONSE_HEADERS", 1, 100, 100;
    /// Log text of one invocation, in bytes. What exceeds it is cut with a marker.
    log_bytes, LogBytes, "PICLOUD_SANDBOX_MAX_LOG_BYTES", 0, 64 * KIB, MIB;
    /// Source of one script, in bytes.
    source_bytes, SourceBytes, "PICLOUD_SANDBOX_MAX_SOURCE_BYTES", 1, 256 * KIB, MIB;
    /// One kv value as JSON text, in bytes.
    kv_value_bytes, KvValueBytes, "PICLOUD_SANDBOX_MAX_KV_VALUE_BYTES", 1, 256 * KIB, 4 * MIB;
    /// All kv keys and values of the app, in bytes.
    kv_bytes, KvBytes, "PICLOUD_SANDBOX_MAX_KV_BYTES", 0, 256 * MIB, 1024 * 1024 * MIB;
    /// Contents of all files of the app, in bytes.
    file_bytes, FileBytes, "PICLOUD_SANDBOX_MAX_FILE_BYTES", 0, 64 * MIB, 16 * 1024 * MIB;
    /// Number of files of the app.
    files, Files, "PICLOUD_SANDBOX_MAX_FILES", 0, 10_000, 1_000_000;
    /// Invocations of the app that run at once on one node; more wait in its queue.
    concurrency, Concurrency, "PICLOUD_SANDBOX_MAX_CONCURRENCY", 1, 16, 256;
}

/// A limit that is named has a number: `null` is refused, not read as "not named".
fn whole_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(deserializer).map(Some)
}

/// Why limits were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Above the platform's ceiling.
    #[error("{field} is {value}, above this platform's ceiling of {ceiling}")]
    AboveCeiling {
        /// The limit.
        field: &'static str,
        /// What was asked for.
        value: u64,
        /// The most that is allowed.
        ceiling: u64,
    },
    /// Too small for anything to run.
    #[error("{field} is {value}; the least allowed is {least}")]
    TooSmall {
        /// The limit.
        field: &'static str,
        /// What was asked for.
        value: u64,
        /// The least that is allowed.
        least: u64,
    },
}

/// The most that any app of this platform may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SandboxCeiling {
    limits: Limits,
}

/// A ceiling in the environment that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is {value:?}; allowed is a whole number from {least} to {most}")]
pub struct CeilingError {
    /// The environment variable.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// The least that is allowed.
    pub least: u64,
    /// The most that is allowed.
    pub most: u64,
}

impl Default for SandboxCeiling {
    fn default() -> Self {
        let mut limits = Limits::default();
        for field in LimitField::ALL {
            limits.set(*field, field.default_ceiling());
        }
        Self { limits }
    }
}

impl SandboxCeiling {
    /// The ceiling that the process's environment sets (`PICLOUD_SANDBOX_MAX_*`).
    pub fn from_env() -> Result<Self, CeilingError> {
        Self::from_vars(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// The ceiling that `var` sets, a look-up of environment variables.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, CeilingError> {
        let mut ceiling = Self::default();
        for field in LimitField::ALL {
            let Some(value) = var(field.env()) else { continue };
            let (least, most) = (field.least(), Self::most(*field));
            match value.trim().parse::<u64>() {
                Ok(number) if (least..=most).contains(&number) => ceiling.limits.set(*field, number),
                _ => return Err(CeilingError { variable: field.env(), value, least, most }),
            }
        }
        Ok(ceiling)
    }

    /// The most that a ceiling itself can be: what a wasm32 instance, a signed 64-bit column or the listener
    /// can hold at all.
    const fn most(field: LimitField) -> u64 {
        match field {
            LimitField::MemoryBytes => 1024 * MIB,
            LimitField::WallMs => 15 * 60 * 1000,
            LimitField::Concurrency => 10_000,
            LimitField::ResponseHeaders | LimitField::EgressCalls => 1_000,
            LimitField::RequestBodyBytes
            | LimitField::ResponseBytes
            | LimitField::LogBytes
            | LimitField::SourceBytes
            | LimitField::KvValueBytes
            | LimitField::EgressBytes
            | LimitField::HostCallBytes => 256 * MIB,
            LimitField::Files => i32::MAX as u64,
            LimitField::Fuel | LimitField::HostCalls | LimitField::KvBytes | LimitField::FileBytes => {
                i64::MAX as u64
            }
        }
    }

    /// The ceilings as limits.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// `stored` limits, or the defaults, cut to this ceiling: what is in force where the ceiling was lowered
    /// after the limits were set.
    pub fn clamp(&self, stored: &LimitsPatch) -> Limits {
        let mut limits = Limits::default();
        for field in LimitField::ALL {
            let value = stored.get(*field).unwrap_or(field.default());
            limits.set(*field, value.min(self.limits.get(*field)));
        }
        limits
    }

    /// Checks every limit that `patch` names.
    pub fn check(&self, patch: &LimitsPatch) -> Result<(), LimitError> {
        for field in LimitField::ALL {
            let Some(value) = patch.get(*field) else { continue };
            let (name, least, ceiling) = (field.as_str(), field.least(), self.limits.get(*field));
            if value > ceiling {
                return Err(LimitError::AboveCeiling { field: name, value, ceiling });
            }
            if value < least {
                return Err(LimitError::TooSmall { field: name, value, least });
            }
        }
        Ok(())
    }
}

impl LimitsPatch {
    /// This patch with what `newer` names laid over it.
    pub fn merged(mut self, newer: &Self) -> Self {
        for field in LimitField::ALL {
            if let Some(value) = newer.get(*field) {
                self.set(*field, value);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_lie_between_least_and_ceiling() {
        for field in LimitField::ALL {
            assert!(field.least() <= field.default(), "{field:?}");
            assert!(field.default() <= field.default_ceiling(), "{field:?}");
            assert!(field.default_ceiling() <= SandboxCeiling::most(*field), "{field:?}");
        }
    }

    #[test]
    fn a_wrong_ceiling_is_refused_by_name() {
        for value in ["", "x", "-1", "0", "1.5", "18446744073709551616"] {
            let vars = |name: &str| (name == "PICLOUD_SANDBOX_MAX_FUEL").then(|| value.to_owned());
            let error = SandboxCeiling::from_vars(vars).expect_err(value);
            assert!(error.to_string().starts_with("PICLOUD_SANDBOX_MAX_FUEL is "), "{error}");
        }
    }

    #[test]
    fn the_ceiling_bounds_what_an_app_gets() {
        let vars = |name: &str| (name == "PICLOUD_SANDBOX_MAX_FUEL").then(|| "1000000".to_owned());
        let ceiling = SandboxCeiling::from_vars(vars).unwrap();
        let patch = LimitsPatch { fuel: Some(2_000_000), ..LimitsPatch::default() };
        assert_eq!(
            ceiling.check(&patch),
            Err(LimitError::AboveCeiling { field: "fuel", value: 2_000_000, ceiling: 1_000_000 })
        );
        assert_eq!(ceiling.clamp(&patch).fuel, 1_000_000);
        assert_eq!(ceiling.clamp(&LimitsPatch::default()).fuel, 1_000_000);
        let small = LimitsPatch { fuel: Some(1), ..LimitsPatch::default() };
        assert!(matches!(ceiling.check(&small), Err(LimitError::TooSmall { field: "fuel", .. })));
    }

    #[test]
    fn a_named_limit_is_a_whole_number() {
        for bad in
            [r#"{"fuel":null}"#, r#"{"fuel":-1}"#, r#"{"fuel":1.5}"#, r#"{"fuel":"1"}"#, r#"{"fule":1}"#]
        {
            assert!(serde_json::from_str::<LimitsPatch>(bad).is_err(), "{bad}");
        }
        let patch: LimitsPatch = serde_json::from_str(r#"{"fuel":1}"#).unwrap();
        assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"fuel":1}"#);
    }

    #[test]
    fn a_patch_replaces_only_what_it_names() {
        let old = LimitsPatch { fuel: Some(1), wall_ms: Some(2), ..LimitsPatch::default() };
        let new = LimitsPatch { fuel: Some(3), ..LimitsPatch::default() };
        assert_eq!(
            old.merged(&new),
            LimitsPatch { fuel: Some(3), wall_ms: Some(2), ..LimitsPatch::default() }
        );
    }
}
