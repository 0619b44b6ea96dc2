//! The status and the title of every error code.

use http::StatusCode;
use picloud_core::ErrorCode;

/// The status and the title of an error.
const fn entry(code: ErrorCode) -> (StatusCode, &'static str) {
    use ErrorCode as E;
    use StatusCode as S;
    match code {
        E::ScriptError => (S::INTERNAL_SERVER_ERROR, "The script failed"),
        E::NoHandler => (S::NOT_FOUND, "The script has no handler for this event"),
        E::OutOfFuel => (S::BAD_GATEWAY, "The script used up its fuel"),
        E::OutOfMemory => (S::BAD_GATEWAY, "The script used up its memory"),
        E::StackOverflow => (S::BAD_GATEWAY, "The script's calls are nested too deeply"),
        E::DeadlineExceeded => (S::GATEWAY_TIMEOUT, "The script did not answer in time"),
        E::HostCallBudget => (S::BAD_GATEWAY, "The script used up its host calls"),
        E::GuestPanic => (S::BAD_GATEWAY, "The interpreter failed"),
        E::BadResponse => (S::BAD_GATEWAY, "The script's answer is not a valid response"),
        E::InvokeDepth => (S::BAD_GATEWAY, "Scripts invoke each other too deeply"),
        E::Conflict => (S::CONFLICT, "The data was changed by another invocation"),
        E::ClientGone => (S::REQUEST_TIMEOUT, "The client went away"),
        E::EventRunning => (S::CONFLICT, "The event is being handled"),
        E::EventCancelled => (S::GONE, "The event was cancelled while it waited"),
        E::WorkerLost => (S::SERVICE_UNAVAILABLE, "The process that handled the event was lost"),
        E::TriggerDepth => (S::CONFLICT, "The event is too deep in its chain"),
        E::TriggerNotFound => (S::NOT_FOUND, "The trigger of the event is gone"),
        E::TriggerDisabled => (S::CONFLICT, "The trigger of the event is disabled"),
        E::PrincipalGone => (S::FORBIDDEN, "Who registered the trigger is gone"),
        E::PrincipalPowerless => (S::FORBIDDEN, "Who registered the trigger may not do so any more"),
        E::NotAvailableAtBuild => (S::UNPROCESSABLE_ENTITY, "Not available while a script is built"),
        E::SecretNotDeclared => {
            (S::INTERNAL_SERVER_ERROR, "The script reads a secret that it does not declare")
        }
        E::SecretNotFound => (S::INTERNAL_SERVER_ERROR, "The script reads a secret that is not set"),
        E::SecretUnreadable => (S::INTERNAL_SERVER_ERROR, "A secret cannot be decrypted"),
        E::EgressDenied => (S::INTERNAL_SERVER_ERROR, "The script calls what its app may not"),
        E::EgressAddressDenied => {
            (S::INTERNAL_SERVER_ERROR, "The script calls an address that scripts may not reach")
        }
        E::EgressTimeout => (S::GATEWAY_TIMEOUT, "A service that the script calls did not answer in time"),
        E::EgressFailed => (S::BAD_GATEWAY, "A service that the script calls could not be reached"),
        E::EgressBudget => (S::BAD_GATEWAY, "The script used up its calls to other services"),
        E::ResponseTooLarge => (S::BAD_GATEWAY, "A service that the script calls answered too much"),
        E::EgressStopped => (S::GATEWAY_TIMEOUT, "The invocation ended during a call"),
        E::MailNotConfigured => (S::INTERNAL_SERVER_ERROR, "Nothing is set up that sends e-mails"),
        E::MailRejected => (S::BAD_GATEWAY, "The relay refuses the e-mail"),
        E::MailFailed => (S::BAD_GATEWAY, "The relay could not take the e-mail"),
        E::CompileError => (S::UNPROCESSABLE_ENTITY, "The script does not compile"),
        E::Invalid => (S::UNPROCESSABLE_ENTITY, "A value is not allowed"),
        E::TooLarge => (S::PAYLOAD_TOO_LARGE, "A value is larger than its limit"),
        E::AboveCeiling => (S::UNPROCESSABLE_ENTITY, "A limit is above the platform's ceiling"),
        E::KvQuota => (S::TOO_MANY_REQUESTS, "The app's data is at its quota"),
        E::IdempotencyConflict => (S::CONFLICT, "The key stands for another request, or one under way"),
        E::KeysFull => (S::TOO_MANY_REQUESTS, "The app remembers as many keys as it may"),
        E::OutboxFull => (S::TOO_MANY_REQUESTS, "The app's outbox is full"),
        E::MailQuota => (S::TOO_MANY_REQUESTS, "The app has sent as many e-mails as it may today"),
        E::FileQuota => (S::TOO_MANY_REQUESTS, "The app's files are at their quota"),
        E::BadRequest => (S::BAD_REQUEST, "The request is malformed"),
        E::Unauthenticated => (S::UNAUTHORIZED, "No valid credentials were given"),
        E::Forbidden => (S::FORBIDDEN, "The credentials do not allow this"),
        E::AddressDenied => (S::FORBIDDEN, "Requests from this address are not accepted"),
        E::AppNotFound => (S::NOT_FOUND, "No such app"),
        E::ScriptNotFound => (S::NOT_FOUND, "No such script"),
        E::RouteNotFound => (S::NOT_FOUND, "No route has this path"),
        E::NotFound => (S::NOT_FOUND, "Not found"),
        E::FileNotFound => (S::NOT_FOUND, "No such file"),
        E::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "The method is not allowed here"),
        E::AlreadyExists => (S::CONFLICT, "It exists already or was changed in the meantime"),
        E::LastOwner => (S::CONFLICT, "It is the last owner"),
        E::NotGranted => (S::FORBIDDEN, "The app does not grant what the script uses"),
        E::DomainUnproven => (S::UNPROCESSABLE_ENTITY, "The host is not proved"),
        E::ScriptInUse => (S::CONFLICT, "The script is in use"),
        E::RangeNotSatisfiable => (S::RANGE_NOT_SATISFIABLE, "The range is not in the file"),
        E::PreconditionFailed => (S::PRECONDITION_FAILED, "A precondition does not hold"),
        E::UnsupportedMediaType => (S::UNSUPPORTED_MEDIA_TYPE, "The media type is not accepted here"),
        E::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "The body is too large"),
        E::HeadersTooLarge => (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "The header block is too large"),
        E::RequestTimeout => (S::REQUEST_TIMEOUT, "The request did not arrive in time"),
        E::Misdirected => (S::MISDIRECTED_REQUEST, "This host is not served here"),
        E::SignInLimited => (S::TOO_MANY_REQUESTS, "Too many sign-ins failed"),
        E::IssuerUnavailable => (S::BAD_GATEWAY, "The issuer does not answer as it should"),
        E::RateLimited => (S::TOO_MANY_REQUESTS, "Requests come too fast"),
        E::FuelBudget => (S::TOO_MANY_REQUESTS, "The app has used up its fuel of the hour or the day"),
        E::AppBusy => (S::TOO_MANY_REQUESTS, "The app is at its concurrency limit"),
        E::NodeBusy => (S::SERVICE_UNAVAILABLE, "The node is busy"),
        E::Draining => (S::SERVICE_UNAVAILABLE, "The node is shutting down"),
        E::DatabaseUnavailable => (S::SERVICE_UNAVAILABLE, "The database does not answer"),
        E::Internal => (S::INTERNAL_SERVER_ERROR, "The platform failed"),
    }
}

/// The status of an error, as docs/SEMANTICS.md has it.
pub const fn status_of(code: ErrorCode) -> StatusCode {
    entry(code).0
}

/// The status of a failed invocation. What the script did wrongly is not its client's fault: a value that the
/// script itself made too large is a server error to whoever called it.
pub const fn status_of_run(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Invalid
        | ErrorCode::TooLarge
        | ErrorCode::ScriptNotFound
        | ErrorCode::NotFound
        | ErrorCode::FileNotFound
        | ErrorCode::CompileError
        | ErrorCode::NotAvailableAtBuild => StatusCode::INTERNAL_SERVER_ERROR,
        other => status_of(other),
    }
}

/// What happened, in words that are the same every time.
pub const fn title_of(code: ErrorCode) -> &'static str {
    entry(code).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_an_error_status() {
        for code in ErrorCode::ALL {
            for status in [status_of(*code), status_of_run(*code)] {
                assert!(status.is_client_error() || status.is_server_error(), "{code}");
            }
            assert!(!title_of(*code).is_empty());
        }
    }

    #[test]
    fn the_documentation_has_the_status_of_every_code() {
        let semantics = include_str!("../../../docs/SEMANTICS.md");
        for code in ErrorCode::ALL {
            let row = format!("| `{code}` | {} |", status_of(*code).as_u16());
            assert!(semantics.contains(&row), "docs/SEMANTICS.md has no row {row}");
        }
    }

    #[test]
    fn a_value_that_the_script_made_is_no_fault_of_the_client() {
        assert_eq!(status_of_run(ErrorCode::TooLarge), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status_of_run(ErrorCode::OutOfFuel), status_of(ErrorCode::OutOfFuel));
    }
}
