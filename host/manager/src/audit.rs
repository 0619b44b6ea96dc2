//! The audit log as it is written: every call that changes something gets one entry, at the one place that every call
//! passes. What only the handler knows, it says with an [`AuditNote`].

use std::net::IpAddr;

use axum::{
    extract::{FromRequestParts as _, RawPathParams},
    http::{Method, request::Parts},
    response::Response,
};
use picloud_core::{AppId, AppName, ErrorCode, PrincipalId, PrincipalName, RequestId, SessionId};
use picloud_store::NewAuditEntry;

use crate::{
    access::{Access, Caller, Credential, Gate, TargetApp},
    context::Context,
    error::ApiError,
};

/// The outcome of a call that did what was asked.
const OK: &str = "ok";

/// The client's address, as far as its proxies are trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// What a handler says of its call, as an extension of its answer. It replaces what the path says.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditNote {
    /// Who signed in.
    pub(crate) signed_in: Option<(PrincipalId, PrincipalName, SessionId)>,
    /// The app.
    pub(crate) app: Option<(AppId, AppName)>,
    /// What it was about.
    pub(crate) target: Option<String>,
    /// What was done to it.
    pub(crate) detail: Option<String>,
}

/// An entry whose outcome is not known yet. Dropped before that, it says that the client went away: what the handler
/// had done by then is done.
pub(crate) struct OpenEntry {
    context: Context,
    /// `None` once it is on its way.
    entry: Option<NewAuditEntry>,
    kept: Kept,
}

/// Which entries are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Always,
    /// Where the handler says something: what strangers send must not fill the log.
    WithNote,
}

/// Begins the entry of a call; `None` for one that only reads. An open call may sign somebody in whatever its method.
pub(crate) async fn begin(gate: &Gate, parts: &mut Parts) -> Option<OpenEntry> {
    let is_read = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if is_read && !matches!(gate.access, Access::Open) {
        return None;
    }
    let params = RawPathParams::from_request_parts(parts, &gate.context).await.ok();
    let params: Vec<(&str, &str)> = params.iter().flatten().collect();
    let named_app = params.iter().find(|(name, _)| *name == "app");
    let named_app = named_app.and_then(|(_, name)| Some((None, AppName::new(*name).ok()?)));
    let target: Vec<&str> =
        params.iter().filter(|(name, _)| *name != "app").map(|(_, value)| *value).collect();
    let app = parts.extensions.get::<TargetApp>().map(|TargetApp(app)| (Some(app.id), app.name.clone()));
    let caller = parts.extensions.get::<Caller>();
    let (token, session) = match caller.map(|caller| caller.credential) {
        Some(Credential::Token(id)) => (Some(id), None),
        Some(Credential::Session(id)) => (None, Some(id)),
        None => (None, None),
    };
    let entry = NewAuditEntry {
        request: parts.extensions.get().copied().unwrap_or_else(RequestId::generate),
        principal: caller.map(|caller| (caller.principal.id, caller.principal.name.clone())),
        token,
        session,
        address: parts.extensions.get::<ClientAddress>().map(|address| address.0),
        action: gate.action,
        capability: gate.access.capability().map(picloud_core::Capability::name),
        app: app.or(named_app),
        target: (!target.is_empty()).then(|| target.join("/")),
        detail: None,
        outcome: ErrorCode::ClientGone.as_str(),
    };
    let kept = if matches!(gate.access, Access::Open) { Kept::WithNote } else { Kept::Always };
    Some(OpenEntry { context: gate.context.clone(), entry: Some(entry), kept })
}

impl OpenEntry {
    /// Writes the entry, and answers when it is written. A failure to write it is logged: the call is done by then.
    pub(crate) async fn finish(mut self, mut response: Response) -> Response {
        let note = response.extensions_mut().remove::<AuditNote>();
        let Some(mut entry) = self.entry.take() else { return response };
        if note.is_none() && self.kept == Kept::WithNote {
            return response;
        }
        entry.outcome = response.extensions().get::<ApiError>().map_or(OK, |error| error.code().as_str());
        if let Some(note) = note {
            if let Some((id, name, session)) = note.signed_in {
                entry.principal = Some((id, name));
                entry.session = Some(session);
            }
            entry.app = note.app.map(|(id, name)| (Some(id), name)).or(entry.app);
            entry.target = note.target.or(entry.target);
            entry.detail = note.detail.or(entry.detail);
        }
        // In a task of its own, so that a client that goes away now does not take the entry with it.
        let written = self.context.audits.spawn(write(self.context.clone(), entry));
        // A task that panicked has said so.
        let _ = written.await;
        response
    }
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take()
            && self.kept == Kept::Always
            && tokio::runtime::Handle::try_current().is_ok()
        {
            self.context.audits.spawn(write(self.context.clone(), entry));
        }
    }
}

async fn write(context: Context, entry: NewAuditEntry) {
    if let Err(error) = context.store.append_audit(&entry).await {
        tracing::error!(%error, ?entry, "an entry of the audit log could not be written");
    }
}
