//! Triggers as clients give and see them.

use std::{collections::BTreeMap, str::FromStr};

use picloud_core::{
    App, BODY_HANDLER, ErrorCode, NameError, PrincipalId, ScriptName, TriggerId, TriggerName, TriggerSource,
    TriggerSpec,
};
use picloud_store::{PageSize, Script, Trigger};
use serde::{Deserialize, Deserializer, Serialize, de};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{context::Context, error::ApiError, precondition::ETag, store_error::from_store};

/// A trigger: which script runs when something happens. It has the fields of its kind, and none of another.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of the domain's own type")]
pub(crate) struct TriggerFields {
    /// Its name, which no other trigger of the app has: 1 to 64 of `a-z A-Z 0-9 _ . -`.
    #[schema(example = "nightly")]
    name: String,
    /// `kv`, `cron`, `queue`, `topic`, `email` or `dead_letter`.
    #[schema(example = "cron")]
    kind: String,
    /// The script that handles its events.
    #[schema(example = "report")]
    script: String,
    /// Whether anything happens; it does if this is left out.
    enabled: Option<bool>,
    /// Attempts, the first included. As for all triggers if it is left out.
    #[schema(minimum = 1, maximum = 100)]
    max_attempts: Option<u16>,
    /// The wait after the first failure, in milliseconds; each further one doubles it. As for all triggers if it is left
    /// out.
    #[schema(maximum = 604_800_000)]
    retry_base_delay_ms: Option<u64>,
    /// The longest wait, in milliseconds. As for all triggers if it is left out.
    #[schema(maximum = 604_800_000)]
    retry_max_delay_ms: Option<u64>,
    /// `kv`: which collections: `*`, a prefix that ends with `*`, or one.
    #[schema(example = "users:*")]
    collection: Option<String>,
    /// `kv`: `set`, `delete`; both if it is left out.
    #[schema(min_items = 1)]
    operations: Option<Vec<String>>,
    /// `cron`: five fields, six with the second before them, or a word such as `@daily`.
    #[schema(example = "0 3 * * *", max_length = 128)]
    cron: Option<String>,
    /// `cron`: a name of the IANA database; `UTC` if it is left out.
    #[schema(example = "Europe/Berlin")]
    timezone: Option<String>,
    /// `cron`: what is done about runs that nobody was there for: `skip`, `once` (one for all of them) or `all`; `once` if
    /// it is left out.
    missed: Option<String>,
    /// `cron`: a run that is later than this is missed; an hour if it is left out.
    #[schema(minimum = 1000, maximum = 604_800_000)]
    max_lateness_ms: Option<u64>,
    /// `cron`: runs are spread over so much time after theirs.
    #[schema(maximum = 3_600_000)]
    jitter_ms: Option<u64>,
    /// `queue`: the queue, which has one trigger.
    #[schema(example = "jobs")]
    queue: Option<String>,
    /// `queue`: how many of its messages are handled at once. Left out, it stays what the queue has.
    #[schema(minimum = 1, maximum = 10000)]
    concurrency: Option<u32>,
    /// `topic`: which topics: `*`, a prefix that ends with `*`, or one.
    #[schema(example = "orders/*")]
    topic: Option<String>,
    /// `email`: what is before the `@`: 1 to 64 of `a-z 0-9 _ . -`. If it is left out, it is the app's name, a dot and the
    /// trigger's in lower case. With a dot in it, it begins with the app's name and one.
    #[schema(example = "support")]
    address: Option<String>,
    /// `dead_letter`: of which kinds of events: `kv`, `cron`, `queue`, `topic`, `email`, `http`, `mail`, `callback`; of all
    /// if there is none.
    #[schema(max_items = 16)]
    source_kinds: Option<Vec<String>>,
    /// `dead_letter`: of the events of which triggers; of all if there is none.
    #[schema(max_items = 64)]
    source_triggers: Option<Vec<String>>,
}

/// A trigger of an app.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TriggerView {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: TriggerId,
    /// What it waits for, and what it does then.
    #[schema(value_type = TriggerFields)]
    #[serde(flatten)]
    spec: TriggerSpec,
    /// Who registered it: it runs as this principal, with what they may do at that time.
    #[schema(value_type = uuid::Uuid)]
    registered_by: PrincipalId,
    /// Of a schedule: the next time, in its time zone; null for other kinds, and where it is disabled.
    #[serde(with = "time::serde::rfc3339::option")]
    next_at: Option<OffsetDateTime>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// A trigger that was put.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PutTriggerAnswer {
    /// The trigger as it is now.
    #[serde(flatten)]
    trigger: TriggerView,
    /// What its author probably did not mean, in plain words.
    warnings: Vec<String>,
}

/// A change of a trigger.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TriggerChange {
    /// Whether anything happens.
    pub(super) enabled: bool,
}

impl From<Trigger> for TriggerView {
    fn from(trigger: Trigger) -> Self {
        let Trigger { id, spec, registered_by, next_at, created_at, updated_at } = trigger;
        let next_at = match &spec.source {
            TriggerSource::Cron(cron) => next_at.map(|time| cron.schedule.in_zone(time)),
            _ => None,
        };
        Self { id, spec, registered_by, next_at, created_at, updated_at }
    }
}

impl TriggerView {
    /// The tag of what can be changed of it; that a schedule goes on is no change.
    pub(super) fn etag(&self) -> Result<ETag, ApiError> {
        ETag::of_json(&(self.id, &self.spec, self.registered_by))
    }
}

impl PutTriggerAnswer {
    /// Triggers of an app, each with what is said of it.
    pub(crate) async fn of_all(
        context: &Context,
        app: &App,
        triggers: Vec<Trigger>,
    ) -> Result<Vec<Self>, ApiError> {
        let mut handlers = BTreeMap::new();
        for trigger in &triggers {
            let script = &trigger.spec.script;
            if !handlers.contains_key(script) {
                let found = context.store.script(app.id, script).await.map_err(from_store)?;
                handlers.insert(script.clone(), found.map(|script| script.active.handlers));
            }
        }
        let answer = |trigger: Trigger| {
            let handlers = handlers.get(&trigger.spec.script).and_then(Option::as_deref);
            let warnings = handlers.and_then(|handlers| missing_handler(&trigger.spec, handlers));
            Self { trigger: trigger.into(), warnings: warnings.into_iter().collect() }
        };
        Ok(triggers.into_iter().map(answer).collect())
    }

    pub(super) fn etag(&self) -> Result<ETag, ApiError> {
        self.trigger.etag()
    }
}

/// What is said of scripts that were uploaded and that triggers of their app run, by script.
pub(crate) async fn unhandled(
    context: &Context,
    app: &App,
    scripts: &[&Script],
) -> Result<BTreeMap<ScriptName, Vec<String>>, ApiError> {
    // An app has no more triggers than a page.
    let triggers = context.store.triggers(app.id, None, PageSize::MAX).await.map_err(from_store)?;
    let mut said: BTreeMap<ScriptName, Vec<String>> = BTreeMap::new();
    for Trigger { spec, .. } in triggers.items {
        let script = scripts.iter().find(|script| script.name == spec.script);
        if let Some(warning) = script.and_then(|script| missing_handler(&spec, &script.active.handlers)) {
            said.entry(spec.script).or_default().push(warning);
        }
    }
    Ok(said)
}

/// Says that a script does not handle what its trigger waits for.
fn missing_handler(spec: &TriggerSpec, handlers: &[String]) -> Option<String> {
    let handler = spec.kind().handler();
    let handles = handlers.iter().any(|known| known == handler || known == BODY_HANDLER);
    (!handles).then(|| {
        format!(
            "the script {} has no function {handler}, so that each event of the trigger {} fails",
            spec.script, spec.name
        )
    })
}

/// How calls name a trigger: by its id or by its name. No name has the form of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TriggerRef {
    /// By its id.
    Id(TriggerId),
    /// By its name.
    Name(TriggerName),
}

impl TriggerRef {
    /// The trigger.
    pub(super) async fn find(&self, context: &Context, app: &App) -> Result<Trigger, ApiError> {
        self.look_up(context, app).await?.ok_or_else(|| self.not_found(app))
    }

    /// The trigger, if there is one.
    pub(super) async fn look_up(&self, context: &Context, app: &App) -> Result<Option<Trigger>, ApiError> {
        let found = match self {
            Self::Id(id) => context.store.trigger(app.id, *id).await,
            Self::Name(name) => context.store.trigger_by_name(app.id, name).await,
        };
        found.map_err(from_store)
    }

    pub(super) fn not_found(&self, app: &App) -> ApiError {
        let detail = match self {
            Self::Id(id) => format!("no trigger {id} in app \"{}\"", app.name),
            Self::Name(name) => format!("no trigger \"{name}\" in app \"{}\"", app.name),
        };
        ApiError::new(ErrorCode::NotFound, detail)
    }
}

impl FromStr for TriggerRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl<'de> Deserialize<'de> for TriggerRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
