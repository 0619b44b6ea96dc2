//! What scripts use, as clients see it.

use std::collections::{BTreeMap, BTreeSet};

use picloud_core::{App, SecretName, UseKind, Used, Uses};
use picloud_store::PutVersion;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{context::Context, error::ApiError, store_error::from_store};

/// What a script uses of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsedView {
    /// The names that stand in the source of the script or of its libraries, sorted.
    names: Vec<String>,
    /// Whether there are uses whose name is made only while it runs.
    any: bool,
}

/// What a script uses, by kind: `kv`, `secrets`, `env`, `scripts`. More kinds may follow.
pub(crate) type UsesView = BTreeMap<UseKind, UsedView>;

pub(crate) fn view(uses: &Uses) -> UsesView {
    let of_kind = |used: &Used| UsedView { names: used.names.iter().cloned().collect(), any: used.any };
    uses.iter().map(|(kind, used)| (kind, of_kind(used))).collect()
}

/// What an upload made a script use that it did not before; `None` where it is not known what it used.
pub(crate) fn newly(put: &PutVersion) -> Option<UsesView> {
    let now = put.script().active.uses.as_ref()?;
    match put {
        PutVersion::Created(_) => Some(view(now)),
        PutVersion::Updated { used_before, .. } => Some(view(&now.newer_than(used_before.as_ref()?))),
        PutVersion::Unchanged(_) => Some(UsesView::new()),
    }
}

/// The secrets of an app that a script could declare, for warnings of those that it declares and nobody has set.
pub(crate) struct SetSecrets(BTreeSet<SecretName>);

impl SetSecrets {
    pub(crate) async fn load(context: &Context, app: &App) -> Result<Self, ApiError> {
        let rows = context.store.secrets(app.id).await.map_err(from_store)?;
        Ok(Self(rows.into_iter().map(|row| row.name).collect()))
    }

    pub(crate) fn warnings(&self, put: &PutVersion) -> Vec<String> {
        let declared = put.script().active.uses.as_ref().map(Uses::secrets).unwrap_or_default();
        declared
            .difference(&self.0)
            .map(|name| format!("the secret \"{name}\" is not set yet; `picloud secret set {name}` sets it"))
            .collect()
    }
}
