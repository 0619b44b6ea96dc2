//! Scripts and versions as clients see them.

use std::{collections::BTreeMap, sync::Arc};

use picloud_core::{App, PrincipalId, ScriptName, answers_requests};
use picloud_store::{ListedVersion, Route, Script};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::uses::{UsedView, UsesView, view};
use crate::{
    api::script_limits::ScriptLimitsView, context::Context, error::ApiError, store_error::from_store,
};

/// A script, as its active version is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScriptView {
    /// Its name.
    #[schema(value_type = String)]
    pub(super) name: ScriptName,
    /// Number of the active version.
    pub(super) version: i32,
    /// SHA-256 of the active version's source.
    sha256: String,
    /// Size of the source, in bytes.
    pub(super) size: u32,
    /// Where it answers: its first route's, or `/NAME` of its app. Null where it answers no requests, as a library.
    pub(super) url: Option<String>,
    /// What handles its events: `on_request` and its like, or `body` where its body does. Empty in a library.
    pub(super) handlers: Vec<String>,
    /// What it and its libraries use, by kind (`kv`, `secrets`, `env`, `scripts`), as far as the source tells. Null
    /// where it was uploaded before that was noted.
    #[schema(value_type = Option<std::collections::HashMap<String, UsedView>>)]
    pub(super) uses: Option<UsesView>,
    /// The limits in force for invocations that begin with it.
    limits: ScriptLimitsView,
    /// When the script was first uploaded.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) created_at: OffsetDateTime,
    /// When the active version was uploaded.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) updated_at: OffsetDateTime,
}

/// What an upload did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PutAnswer {
    /// The script.
    #[serde(flatten)]
    pub(super) script: ScriptView,
    /// The libraries that this version imports, directly or not, pinned as they are now.
    #[schema(value_type = Vec<String>)]
    pub(super) imports: Vec<ScriptName>,
    /// What it uses that the version before did not; null where that is not known.
    #[schema(value_type = Option<std::collections::HashMap<String, UsedView>>)]
    pub(super) newly_uses: Option<UsesView>,
    /// What its author probably did not mean, in plain words.
    pub(super) warnings: Vec<String>,
    /// Whether source, libraries and handlers were those of the active version already, so that nothing was done.
    pub(super) unchanged: bool,
    /// Scripts that import this one and keep the version they were built with until they are uploaded again.
    #[schema(value_type = Vec<String>)]
    pub(super) imported_by: Vec<ScriptName>,
}

/// A script with its source.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScriptDetail {
    /// The script.
    #[serde(flatten)]
    pub(super) script: ScriptView,
    /// The source.
    #[schema(value_type = String)]
    pub(super) source: Arc<str>,
    /// Names of the pinned libraries with the numbers of their versions.
    pub(super) imports: Vec<PinnedImport>,
}

/// A library as a version pins it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PinnedImport {
    /// The library.
    #[schema(value_type = String)]
    pub(super) name: ScriptName,
    /// Its version.
    pub(super) version: i32,
}

/// What a rollback did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RollbackAnswer {
    /// The script.
    #[serde(flatten)]
    pub(super) script: ScriptView,
    /// Whether the version was active already, so that nothing was done.
    pub(super) unchanged: bool,
}

/// A version of a script.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionView {
    /// Its number.
    pub(super) version: i32,
    /// Whether it is the one that answers.
    pub(super) active: bool,
    /// SHA-256 of its source.
    sha256: String,
    /// Size of the source, in bytes.
    pub(super) size: u32,
    /// What handles its events.
    pub(super) handlers: Vec<String>,
    /// What it and its libraries use; null where it was uploaded before that was noted.
    #[schema(value_type = Option<std::collections::HashMap<String, UsedView>>)]
    pub(super) uses: Option<UsesView>,
    /// The libraries it was built from, and the numbers of their versions.
    pub(super) imports: Vec<PinnedImport>,
    /// When it was uploaded.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) created_at: OffsetDateTime,
    /// Who uploaded it; null where that principal is gone.
    #[schema(value_type = Option<uuid::Uuid>)]
    pub(super) created_by: Option<PrincipalId>,
}

impl PinnedImport {
    pub(super) fn list(imports: BTreeMap<ScriptName, i32>) -> Vec<Self> {
        imports.into_iter().map(|(name, version)| Self { name, version }).collect()
    }
}

impl ScriptView {
    pub(crate) fn of(script: &Script, urls: &ScriptUrls<'_>) -> Self {
        let active = &script.active;
        Self {
            name: script.name.clone(),
            version: active.number,
            sha256: active.source_hash.to_string(),
            size: active.size,
            url: urls.of(script),
            limits: ScriptLimitsView::of(&urls.app.limits, &script.limits),
            handlers: active.handlers.clone(),
            uses: active.uses.as_ref().map(view),
            created_at: script.created_at,
            updated_at: active.created_at,
        }
    }

    /// The script's name.
    pub(crate) fn name(&self) -> &ScriptName {
        &self.name
    }
}

impl VersionView {
    pub(super) fn of(listed: ListedVersion, active: i32) -> Self {
        let ListedVersion { version, imports } = listed;
        Self {
            version: version.number,
            active: version.number == active,
            sha256: version.source_hash.to_string(),
            size: version.size,
            handlers: version.handlers,
            uses: version.uses.as_ref().map(view),
            imports: PinnedImport::list(imports),
            created_at: version.created_at,
            created_by: version.created_by,
        }
    }
}

/// The addresses of an app's scripts.
pub(crate) struct ScriptUrls<'a> {
    context: &'a Context,
    app: &'a App,
    routes: Vec<Route>,
}

impl<'a> ScriptUrls<'a> {
    pub(crate) async fn load(context: &'a Context, app: &'a App) -> Result<Self, ApiError> {
        let routes = context.store.routes(app.id).await.map_err(from_store)?;
        Ok(Self { context, app, routes })
    }

    /// Where a script answers, if it does.
    pub(crate) fn of(&self, script: &Script) -> Option<String> {
        if !answers_requests(&script.active.handlers) {
            return None;
        }
        let route = self.routes.iter().find(|route| route.target.script() == Some(&script.name));
        let path = route.map_or_else(|| format!("/{}", script.name), |route| route.pattern.to_string());
        Some(self.context.config.apps.url(&self.app.name, &path))
    }
}

/// Version numbers, given the newest first, as people read them: `1 to 4, 7`. `more` says that there are earlier ones.
pub(super) fn numbers(newest_first: &[i32], more: bool) -> String {
    let mut text = ranges(newest_first);
    if more {
        text.push_str(" and earlier ones");
    }
    text
}

fn ranges(newest_first: &[i32]) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for number in newest_first.iter().rev() {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_in_ranges() {
        assert_eq!(numbers(&[1], false), "1");
        assert_eq!(numbers(&[9, 8, 5, 4, 3, 1], false), "1, 3 to 5, 8, 9");
        assert_eq!(numbers(&[9, 8, 7], true), "7 to 9 and earlier ones");
    }
}
