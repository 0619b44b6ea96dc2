//! What scripts use, as clients see it.

use std::collections::{BTreeMap, BTreeSet};

use picloud_core::{App, EgressRule, EgressRules, SecretName, UseKind, Used, Uses};
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

/// What a script uses, by kind: `kv`, `secrets`, `env`, `scripts`, `hosts`, `files`, `queues`, `topics`, `email`. More kinds may follow.
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

/// What an app has that its scripts can use, for warnings of what they use and is not there.
pub(crate) struct Available {
    secrets: BTreeSet<SecretName>,
    egress: EgressRules,
}

impl Available {
    pub(crate) async fn load(context: &Context, app: &App) -> Result<Self, ApiError> {
        let secrets = context.store.secrets(app.id).await.map_err(from_store)?;
        let egress = context.store.egress_rules(app.id).await.map_err(from_store)?;
        Ok(Self { secrets: secrets.into_iter().map(|row| row.name).collect(), egress })
    }

    pub(crate) fn warnings(&self, put: &PutVersion) -> Vec<String> {
        let Some(uses) = &put.script().active.uses else { return Vec::new() };
        let declared = uses.secrets();
        let secrets = declared
            .difference(&self.secrets)
            .map(|name| format!("the secret \"{name}\" is not set yet; `picloud secret set {name}` sets it"));
        let hosts = uses.of(UseKind::Hosts).into_iter().flat_map(|used| &used.names);
        let hosts = hosts.filter(|host| !self.allows(host)).map(|host| {
            format!(
                "the app may not call {host} yet; `picloud egress allow https://{host}`, or http:// if it has no TLS, \
                 allows it"
            )
        });
        secrets.chain(hosts).collect()
    }

    /// Whether any rule is for a host, as it stands in a source. What can be none is for the call itself to refuse.
    fn allows(&self, used: &str) -> bool {
        used.parse::<EgressRule>().map_or(true, |place| self.egress.knows(&place.host))
    }
}
