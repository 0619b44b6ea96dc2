//! Error codes: the stable names that clients, logs and tests know a failure by.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A stable, machine-readable name of a failure (`snake_case` on the wire).
        ///
        /// The HTTP status of each code is decided at the edge, not here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as clients see it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    // How an invocation can fail.
    /// The script threw, or used a value wrongly.
    ScriptError = "script_error";
    /// The script has no handler for this kind of event.
    NoHandler = "no_handler";
    /// The fuel of the invocation is used up.
    OutOfFuel = "out_of_fuel";
    /// The memory limit is reached, or a value is larger than it.
    OutOfMemory = "out_of_memory";
    /// Calls are nested too deeply.
    StackOverflow = "stack_overflow";
    /// The wall-clock limit is reached.
    DeadlineExceeded = "deadline_exceeded";
    /// Too many host calls, or too many bytes through them.
    HostCallBudget = "host_call_budget";
    /// The interpreter itself failed.
    GuestPanic = "guest_panic";
    /// The script's answer is not a valid response.
    BadResponse = "bad_response";
    /// `app::invoke` is nested more than four deep.
    InvokeDepth = "invoke_depth_exceeded";
    /// Another invocation changed what this one had read, again and again.
    Conflict = "kv_conflict";
    /// Its client went away before there was an answer, so that it was stopped.
    ClientGone = "client_gone";
    /// The process that handled the event was lost, and no attempt is left or its caller is gone.
    WorkerLost = "worker_lost";
    /// The event was cancelled while it waited.
    EventCancelled = "event_cancelled";
    /// The event that is to be taken back is being handled.
    EventRunning = "event_running";
    /// The event is deeper in its chain than events may be.
    TriggerDepth = "trigger_depth_exceeded";
    /// The trigger that was to handle the event is gone.
    TriggerNotFound = "trigger_not_found";
    /// The trigger that was to handle the event is disabled.
    TriggerDisabled = "trigger_disabled";
    /// The principal that registered the trigger is gone or disabled.
    PrincipalGone = "principal_gone";
    /// The principal that registered the trigger may not manage triggers any more.
    PrincipalPowerless = "principal_powerless";
    /// Nothing is set up that sends e-mails.
    MailNotConfigured = "mail_not_configured";
    /// The relay refuses the e-mail or one of its receivers.
    MailRejected = "mail_rejected";
    /// The relay could not take the e-mail.
    MailFailed = "mail_failed";
    /// A host call was made while the image is built.
    NotAvailableAtBuild = "not_available_at_build";
    /// The script reads a secret that its source does not declare.
    SecretNotDeclared = "secret_not_declared";
    /// The app has no secret of this name.
    SecretNotFound = "secret_not_found";
    /// The secret is encrypted with a key that this node does not have.
    SecretUnreadable = "secret_unreadable";
    /// The app's allow-list does not have what a script calls.
    EgressDenied = "egress_denied";
    /// The host that a script calls has no address that scripts may reach.
    EgressAddressDenied = "egress_address_denied";
    /// What a script called did not answer in time.
    EgressTimeout = "egress_timeout";
    /// What a script called could not be reached, or did not answer as HTTP has it.
    EgressFailed = "egress_failed";
    /// The script has made as many calls as it may.
    EgressBudget = "egress_budget";
    /// What a script called answered more than may come.
    ResponseTooLarge = "response_too_large";
    /// The invocation ended while the call was under way.
    EgressStopped = "egress_stopped";

    // Values given to the platform.
    /// The script does not compile.
    CompileError = "compile_error";
    /// A name, key or other field is not of the allowed form.
    Invalid = "invalid";
    /// A value is larger than its limit.
    TooLarge = "too_large";
    /// A limit is above the platform's ceiling.
    AboveCeiling = "above_ceiling";
    /// The app's kv data would exceed its quota.
    KvQuota = "kv_quota_exceeded";
    /// The same request is under way, or another was made under its key.
    IdempotencyConflict = "idempotency_conflict";
    /// As many keys of requests are remembered as may be.
    KeysFull = "idempotency_keys_full";
    /// As many events of the app wait as may.
    OutboxFull = "outbox_full";
    /// The app has sent as many e-mails as it may in a day.
    MailQuota = "mail_quota_exceeded";
    /// The app's files would be more, or larger, than its quota.
    FileQuota = "file_quota_exceeded";

    // Requests.
    /// The request is malformed.
    BadRequest = "bad_request";
    /// No valid credentials were given.
    Unauthenticated = "unauthenticated";
    /// The credentials do not allow this.
    Forbidden = "forbidden";
    /// The app accepts no requests from this address.
    AddressDenied = "address_denied";
    /// No app of this name or host.
    AppNotFound = "app_not_found";
    /// No script of this name.
    ScriptNotFound = "script_not_found";
    /// No route for this path.
    RouteNotFound = "route_not_found";
    /// Nothing of this id, key or path.
    NotFound = "not_found";
    /// No file of this path.
    FileNotFound = "file_not_found";
    /// The path has no route for this method.
    MethodNotAllowed = "method_not_allowed";
    /// It exists already, or was changed in the meantime.
    AlreadyExists = "already_exists";
    /// The last owner who is not disabled cannot be disabled, demoted or deleted.
    LastOwner = "last_owner";
    /// The app does not grant what the version uses.
    NotGranted = "not_granted";
    /// The proof that a host belongs to whoever claims it was not found.
    DomainUnproven = "domain_unproven";
    /// A script that something else needs cannot be deleted.
    ScriptInUse = "script_in_use";
    /// The range that is asked for lies outside of the file.
    RangeNotSatisfiable = "range_not_satisfiable";
    /// `If-Match` names another version.
    PreconditionFailed = "precondition_failed";
    /// The body has a media type that is not accepted here.
    UnsupportedMediaType = "unsupported_media_type";
    /// The body is larger than the limit.
    BodyTooLarge = "body_too_large";
    /// The header block is larger than the limit.
    HeadersTooLarge = "headers_too_large";
    /// The request did not arrive in time.
    RequestTimeout = "request_timeout";
    /// Host is not one this listener answers for.
    Misdirected = "misdirected_request";

    // Load and state of the platform.
    /// Too many sign-ins failed under this name or from this address.
    SignInLimited = "sign_in_limited";
    /// The issuer that signs users in does not answer, or not as it should.
    IssuerUnavailable = "issuer_unavailable";
    /// Requests come faster than the app, the route or the client may make them.
    RateLimited = "rate_limited";
    /// The app has used up its fuel of the hour or the day.
    FuelBudget = "fuel_budget_exceeded";
    /// The app's own concurrency is used up.
    AppBusy = "app_busy";
    /// The node's queue is full.
    NodeBusy = "node_busy";
    /// The node is shutting down.
    Draining = "draining";
    /// The database does not answer.
    DatabaseUnavailable = "database_unavailable";
    /// A failure of the platform itself; details are in its own log.
    Internal = "internal";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for ErrorCode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().copied().find(|code| code.as_str() == text);
        known.ok_or_else(|| format!("unknown error code {text:?}"))
    }
}

/// Where in a script something went wrong. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePosition {
    /// The script, or the imported library, that the position is in.
    pub script: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1; 0 where only the line is known.
    pub column: u32,
    /// The text of that line, cut at 200 characters.
    pub source_line: String,
}

/// Why an invocation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Fault {
    /// Its kind.
    pub code: ErrorCode,
    /// For people; may quote the script's own values, so it is shown only to those who may read logs.
    pub message: String,
    /// Where, if it is known.
    pub position: Option<SourcePosition>,
}

impl Fault {
    /// A fault without a position.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), position: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_round_trip() {
        for (i, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(ErrorCode::ALL[i + 1..].iter().all(|other| other.as_str() != code.as_str()));
        }
    }
}
