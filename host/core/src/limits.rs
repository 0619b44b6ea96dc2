//! Limits of an app and of a script, and the platform's ceiling over them. Every number here is public
//! (docs/SEMANTICS.md), and a limit is added by one line of the table: the ceiling's setting, the API, the command line
//! and `picloud.toml` follow from it. What is left is to enforce it.

mod ceiling;
mod json;

pub use ceiling::{CeilingError, LimitError, SandboxCeiling};
pub use json::ScriptLimitsPatch;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The value of a limit that does not limit: `null` in JSON. It is the most that a column of the database holds.
pub const UNLIMITED: u64 = i64::MAX as u64;

macro_rules! limits {
    (
        $($(#[$doc:meta])* $field:ident, $variant:ident, $env:literal,
            $least:expr, $default:expr, $ceiling:expr, $most:expr;)*
    ) => {
        /// The limits in force for an app or a script.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[$doc])* pub $field: u64,)*
        }

        /// A change of limits: what is named is replaced, the rest stays.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct LimitsPatch {
            $($(#[$doc])* pub $field: Option<u64>,)*
        }

        /// Names one limit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum LimitField {
            $($(#[$doc])* $variant,)*
        }

        impl LimitField {
            /// Every limit there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The names of all.
            pub(crate) const NAMES: &'static [&'static str] = &[$(stringify!($field),)*];

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

            /// The most that a ceiling itself can be: what a wasm32 instance, a signed 64-bit column or the listener
            /// can hold at all.
            pub const fn most(self) -> u64 {
                match self { $(Self::$variant => $most,)* }
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

// The name; the variable of the ceiling; least, default, the ceiling's default, and the most that it can be.
limits! {
    /// Fuel of one invocation, nested calls included. One simple Rhai operation takes 1,500 to 5,000 units.
    fuel, Fuel, "PICLOUD_SANDBOX_MAX_FUEL", 50_000, 500_000_000, 20_000_000_000, UNLIMITED;
    /// Linear memory of one instance, in bytes.
    memory_bytes, MemoryBytes, "PICLOUD_SANDBOX_MAX_MEMORY_BYTES", 4 * MIB, 16 * MIB, 64 * MIB, 1024 * MIB;
    /// Wall-clock time of one invocation, re-runs and host calls included, in milliseconds.
    wall_ms, WallMs, "PICLOUD_SANDBOX_MAX_WALL_MS", 10, 10_000, 60_000, 15 * 60 * 1000;
    /// Number of host calls of one invocation.
    host_calls, HostCalls, "PICLOUD_SANDBOX_MAX_HOST_CALLS", 0, 1_000, 10_000, UNLIMITED;
    /// Bytes through host calls of one invocation, both ways.
    host_call_bytes, HostCallBytes, "PICLOUD_SANDBOX_MAX_HOST_CALL_BYTES", 0, 4 * MIB, 32 * MIB, 256 * MIB;
    /// Number of calls of one invocation to other services over HTTP.
    egress_calls, EgressCalls, "PICLOUD_SANDBOX_MAX_EGRESS_CALLS", 0, 50, 200, 1_000;
    /// Body of one such call, and body of its answer, in bytes.
    egress_bytes, EgressBytes, "PICLOUD_SANDBOX_MAX_EGRESS_BYTES", 0, MIB, 8 * MIB, 256 * MIB;
    /// Body of a request, in bytes.
    request_body_bytes, RequestBodyBytes, "PICLOUD_SANDBOX_MAX_REQUEST_BODY_BYTES", 0, MIB, 8 * MIB, 256 * MIB;
    /// Body of a response, in bytes.
    response_bytes, ResponseBytes, "PICLOUD_SANDBOX_MAX_RESPONSE_BYTES", 0, MIB, 8 * MIB, 256 * MIB;
    /// Number of response headers.
    response_headers, ResponseHeaders, "PICLOUD_SANDBOX_MAX_RESPONSE_HEADERS", 1, 100, 100, 1_000;
    /// Log text of one invocation, in bytes. What exceeds it is cut with a marker.
    log_bytes, LogBytes, "PICLOUD_SANDBOX_MAX_LOG_BYTES", 0, 64 * KIB, MIB, 256 * MIB;
    /// Source of one script, in bytes.
    source_bytes, SourceBytes, "PICLOUD_SANDBOX_MAX_SOURCE_BYTES", 1, 256 * KIB, MIB, 256 * MIB;
    /// One kv value as JSON text, in bytes.
    kv_value_bytes, KvValueBytes, "PICLOUD_SANDBOX_MAX_KV_VALUE_BYTES", 1, 256 * KIB, 4 * MIB, 256 * MIB;
    /// The key of a kv entry that is written, in bytes.
    kv_key_bytes, KvKeyBytes, "PICLOUD_SANDBOX_MAX_KV_KEY_BYTES", 1, 512, 512, 512;
    /// All kv keys and values of the app, in bytes.
    kv_bytes, KvBytes, "PICLOUD_SANDBOX_MAX_KV_BYTES", 0, 256 * MIB, 1024 * 1024 * MIB, UNLIMITED;
    /// Contents of all files of the app, in bytes.
    file_bytes, FileBytes, "PICLOUD_SANDBOX_MAX_FILE_BYTES", 0, 64 * MIB, 16 * 1024 * MIB, UNLIMITED;
    /// Number of files of the app.
    files, Files, "PICLOUD_SANDBOX_MAX_FILES", 0, 10_000, 1_000_000, i32::MAX as u64;
    /// Body of an event that a script sends, as JSON text, or the texts of an e-mail, in bytes.
    event_bytes, EventBytes, "PICLOUD_SANDBOX_MAX_EVENT_BYTES", 1, 256 * KIB, MIB, 16 * MIB;
    /// Events of the app that wait to be handled.
    outbox_events, OutboxEvents, "PICLOUD_SANDBOX_MAX_OUTBOX_EVENTS", 0, 100_000, 1_000_000, UNLIMITED;
    /// Events of the app that wait to be handled, and its dead letters: what they say, in bytes on disk.
    outbox_bytes, OutboxBytes, "PICLOUD_SANDBOX_MAX_OUTBOX_BYTES", 0, 256 * MIB, 16 * 1024 * MIB, UNLIMITED;
    /// E-mails that the app sends in a day (UTC).
    mails_per_day, MailsPerDay, "PICLOUD_SANDBOX_MAX_MAILS_PER_DAY", 0, 200, 10_000, UNLIMITED;
    /// Invocations of the app that run at once on one node; more wait in its queue.
    concurrency, Concurrency, "PICLOUD_SANDBOX_MAX_CONCURRENCY", 1, 16, 256, 10_000;
    /// Requests to the app's endpoints that one node takes a second.
    requests_per_second, RequestsPerSecond, "PICLOUD_SANDBOX_MAX_REQUESTS_PER_SECOND",
        1, 100_000, 100_000, 1_000_000;
    /// Fuel of all the app's invocations in an hour of the clock (UTC).
    fuel_per_hour, FuelPerHour, "PICLOUD_SANDBOX_MAX_FUEL_PER_HOUR", 50_000, UNLIMITED, UNLIMITED, UNLIMITED;
    /// Fuel of all the app's invocations in a day (UTC).
    fuel_per_day, FuelPerDay, "PICLOUD_SANDBOX_MAX_FUEL_PER_DAY", 50_000, UNLIMITED, UNLIMITED, UNLIMITED;
}

impl LimitField {
    /// Those that a script can have lower than its app.
    pub const OF_SCRIPTS: &[Self] = &[Self::Fuel, Self::MemoryBytes, Self::WallMs];

    /// The limit of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.as_str() == name)
    }

    /// Whether an app can do without it: `null` says so.
    pub const fn is_optional(self) -> bool {
        self.default() == UNLIMITED
    }
}

impl Limits {
    /// What is in force for a script of an app with these limits: the lesser of the app's and the script's own.
    pub fn for_script(mut self, own: &LimitsPatch) -> Self {
        for field in LimitField::OF_SCRIPTS {
            let least = own.get(*field).map_or(self.get(*field), |own| own.min(self.get(*field)));
            self.set(*field, least);
        }
        self
    }

    /// Checks what a script of an app with these limits wants to set for itself.
    pub fn check_script(&self, patch: &ScriptLimitsPatch) -> Result<(), LimitError> {
        patch.set_values().try_for_each(|(field, value)| {
            let limit = self.get(field);
            if value > limit {
                return Err(LimitError::AboveApp { field: field.as_str(), value, limit });
            }
            ceiling::check_least(field, value)
        })
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
            assert!(field.default_ceiling() <= field.most(), "{field:?}");
            assert!(field.most() <= UNLIMITED, "{field:?}: a column holds no more");
            assert_eq!(LimitField::of_name(field.as_str()), Some(*field));
        }
    }

    #[test]
    fn a_script_has_the_lesser_of_its_own_and_the_apps() {
        let app = Limits { fuel: 1_000_000, wall_ms: 500, ..Limits::default() };
        let own = LimitsPatch {
            fuel: Some(60_000),
            wall_ms: Some(900),
            // Not a script's to set; it is left alone.
            log_bytes: Some(1),
            ..LimitsPatch::default()
        };
        assert_eq!(app.for_script(&own), Limits { fuel: 60_000, ..app });
        assert_eq!(app.for_script(&LimitsPatch::default()), app);
        let check = |json: &str| app.check_script(&serde_json::from_str(json).unwrap());
        assert_eq!(check(r#"{"fuel":1000000,"memory_bytes":null}"#), Ok(()));
        assert_eq!(
            check(r#"{"fuel":1000001}"#),
            Err(LimitError::AboveApp { field: "fuel", value: 1_000_001, limit: 1_000_000 })
        );
        assert!(matches!(check(r#"{"fuel":0}"#), Err(LimitError::TooSmall { field: "fuel", .. })));
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
