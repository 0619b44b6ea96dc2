//! Making, changing and removing triggers.

use std::collections::BTreeSet;

use picloud_core::{
    AppId, AppName, CronSource, KvOperation, MailboxName, OutboxKind, PrincipalId, QueueName, TriggerId,
    TriggerName, TriggerSource, TriggerSpec,
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    BundleTriggers, MAX_DEAD_LETTER_TRIGGERS, MAX_TRIGGERS, PutTrigger, Trigger,
    read::{Wanted, by_name, one, select},
};
use crate::{
    Store, StoreError,
    apps::lock_app,
    changes::notify,
    outbox::check_queue_count,
    routes::script_id,
    text::{bigint, parse},
};

/// What became of the triggers of an app.
#[derive(Default)]
pub(crate) struct PutTriggers {
    /// All it has now, by name.
    pub(crate) triggers: Vec<Trigger>,
    /// Those that are gone, by name.
    pub(crate) removed: Vec<TriggerName>,
}

impl Store {
    /// Makes a trigger. [`StoreError::AlreadyExists`] if the app has one of this name; [`StoreError::QueueTaken`] if
    /// its queue has one; [`StoreError::AddressTaken`]; [`StoreError::NotFound`] if there is no such script.
    pub async fn create_trigger(
        &self,
        app: AppId,
        by: PrincipalId,
        spec: &TriggerSpec,
    ) -> Result<Trigger, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        if by_name(&mut transaction, app, &spec.name).await?.is_some() {
            return Err(StoreError::AlreadyExists { what: "trigger" });
        }
        let trigger = insert(&mut transaction, app, by, spec).await?;
        check_count(&mut transaction, app).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(trigger)
    }

    /// Makes a trigger, or makes the one of its name be like it. It is registered anew, by who puts it: what it does
    /// from now on is what they asked for. A schedule that stays the same keeps its next time. Errors are those of
    /// [`Store::create_trigger`] and [`Store::replace_trigger`].
    pub async fn put_trigger(
        &self,
        app: AppId,
        by: PrincipalId,
        spec: &TriggerSpec,
    ) -> Result<PutTrigger, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let put = match by_name(&mut transaction, app, &spec.name).await? {
            Some(present) => PutTrigger::Replaced(update(&mut transaction, app, by, &present, spec).await?),
            None => {
                let made = insert(&mut transaction, app, by, spec).await?;
                check_count(&mut transaction, app).await?;
                PutTrigger::Created(made)
            }
        };
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(put)
    }

    /// Makes a trigger be like `spec`, which may also give it another name, and registers it anew.
    /// [`StoreError::Invalid`] if `spec` is of another kind.
    pub async fn replace_trigger(
        &self,
        app: AppId,
        id: TriggerId,
        by: PrincipalId,
        spec: &TriggerSpec,
    ) -> Result<Trigger, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let present =
            one(&mut transaction, app, id).await?.ok_or(StoreError::NotFound { what: "trigger" })?;
        if present.spec.name != spec.name && by_name(&mut transaction, app, &spec.name).await?.is_some() {
            return Err(StoreError::AlreadyExists { what: "trigger" });
        }
        let trigger = update(&mut transaction, app, by, &present, spec).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(trigger)
    }

    /// Enables or disables a trigger, which stays who it was registered by. One of a schedule goes on with the next time
    /// from now.
    pub async fn set_trigger_enabled(
        &self,
        app: AppId,
        id: TriggerId,
        enabled: bool,
    ) -> Result<Trigger, StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let present =
            one(&mut transaction, app, id).await?.ok_or(StoreError::NotFound { what: "trigger" })?;
        if present.spec.enabled == enabled {
            return Ok(present);
        }
        let spec = TriggerSpec { enabled, ..present.spec.clone() };
        let trigger = update(&mut transaction, app, present.registered_by, &present, &spec).await?;
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(trigger)
    }

    /// Removes a trigger. Its events that wait become dead letters.
    pub async fn delete_trigger(&self, app: AppId, id: TriggerId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        if remove(&mut transaction, app, &[id.as_uuid()]).await? == 0 {
            return Err(StoreError::NotFound { what: "trigger" });
        }
        notify(&mut transaction, app).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Makes the triggers of an app those of a bundle, under its lock. One that has the name and the kind of one that is
/// there keeps its id.
pub(crate) async fn replace_triggers(
    connection: &mut PgConnection,
    app: AppId,
    bundle: BundleTriggers<'_>,
) -> Result<PutTriggers, StoreError> {
    let mut names = BTreeSet::new();
    if let Some(twice) = bundle.specs.iter().find(|spec| !names.insert(&spec.name)) {
        return Err(StoreError::Invalid(format!("the trigger {} is given twice", twice.name)));
    }
    let present = select(connection, Wanted { app: Some(app.as_uuid()), ..Wanted::default() }).await?;
    let stays = |trigger: &Trigger| {
        bundle.specs.iter().any(|spec| spec.name == trigger.spec.name && spec.kind() == trigger.spec.kind())
    };
    let gone: Vec<&Trigger> =
        present.iter().map(|(_, trigger)| trigger).filter(|trigger| !stays(trigger)).collect();
    let ids: Vec<Uuid> = gone.iter().map(|trigger| trigger.id.as_uuid()).collect();
    remove(connection, app, &ids).await?;
    give_up_queues_and_addresses(connection, app).await?;
    let mut triggers = Vec::with_capacity(bundle.specs.len());
    for spec in bundle.specs {
        let present = present.iter().map(|(_, trigger)| trigger);
        let present = present.filter(|trigger| stays(trigger)).find(|trigger| trigger.spec.name == spec.name);
        triggers.push(match present {
            Some(present) => update(connection, app, bundle.registered_by, present, spec).await?,
            None => insert(connection, app, bundle.registered_by, spec).await?,
        });
    }
    check_count(connection, app).await?;
    triggers.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    // One that is there again, as another kind, is not gone for whoever deploys.
    let removed = gone.into_iter().map(|trigger| trigger.spec.name.clone());
    let removed = removed.filter(|name| !names.contains(name)).collect();
    Ok(PutTriggers { triggers, removed })
}

/// So that two triggers can change places; each is written anew in the same transaction.
async fn give_up_queues_and_addresses(connection: &mut PgConnection, app: AppId) -> Result<(), StoreError> {
    let queues = sqlx::query!("DELETE FROM queue_trigger_details WHERE app_id = $1", app.as_uuid());
    queues.execute(&mut *connection).await?;
    let addresses = sqlx::query!(
        "DELETE FROM email_trigger_details e USING triggers t WHERE t.id = e.trigger_id AND t.app_id = $1",
        app.as_uuid(),
    );
    addresses.execute(connection).await?;
    Ok(())
}

async fn insert(
    connection: &mut PgConnection,
    app: AppId,
    by: PrincipalId,
    spec: &TriggerSpec,
) -> Result<Trigger, StoreError> {
    let id = TriggerId::generate();
    let inserted = sqlx::query!(
        "INSERT INTO triggers (id, app_id, script_id, kind, name, enabled, max_attempts, retry_base_delay_ms,
            retry_max_delay_ms, registered_by_principal)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        id.as_uuid(),
        app.as_uuid(),
        script_id(connection, app, &spec.script).await?,
        spec.kind().as_str(),
        spec.name.as_str(),
        spec.enabled,
        spec.retry.max_attempts.map(u16::cast_signed),
        spec.retry.base_delay_ms.map(bigint),
        spec.retry.max_delay_ms.map(bigint),
        by.as_uuid(),
    );
    inserted.execute(&mut *connection).await?;
    put_details(connection, app, id, spec).await?;
    one(connection, app, id).await?.ok_or(StoreError::Conflict)
}

async fn update(
    connection: &mut PgConnection,
    app: AppId,
    by: PrincipalId,
    present: &Trigger,
    spec: &TriggerSpec,
) -> Result<Trigger, StoreError> {
    let (was, is) = (present.spec.kind(), spec.kind());
    if was != is {
        return Err(StoreError::Invalid(format!(
            "the trigger {} is of kind {}, which cannot be changed to {}; remove it, and make another one",
            present.spec.name,
            was.as_str(),
            is.as_str()
        )));
    }
    let updated = sqlx::query!(
        "UPDATE triggers SET script_id = $2, name = $3, enabled = $4, max_attempts = $5, retry_base_delay_ms = $6,
            retry_max_delay_ms = $7, registered_by_principal = $8, updated_at = now()
        WHERE id = $1",
        present.id.as_uuid(),
        script_id(connection, app, &spec.script).await?,
        spec.name.as_str(),
        spec.enabled,
        spec.retry.max_attempts.map(u16::cast_signed),
        spec.retry.base_delay_ms.map(bigint),
        spec.retry.max_delay_ms.map(bigint),
        by.as_uuid(),
    );
    updated.execute(&mut *connection).await?;
    put_details(connection, app, present.id, spec).await?;
    one(connection, app, present.id).await?.ok_or(StoreError::Conflict)
}

async fn put_details(
    connection: &mut PgConnection,
    app: AppId,
    id: TriggerId,
    spec: &TriggerSpec,
) -> Result<(), StoreError> {
    match &spec.source {
        TriggerSource::Kv { collection, operations } => {
            let operations: Vec<String> =
                operations.iter().map(KvOperation::as_str).map(str::to_owned).collect();
            let put = sqlx::query!(
                "INSERT INTO kv_trigger_details (trigger_id, collection_pattern, operations) VALUES ($1, $2, $3)
                ON CONFLICT (trigger_id) DO UPDATE
                SET collection_pattern = excluded.collection_pattern, operations = excluded.operations",
                id.as_uuid(),
                collection.as_str(),
                &operations,
            );
            put.execute(connection).await?;
        }
        TriggerSource::Cron(cron) => put_cron(connection, id, cron, spec.enabled).await?,
        TriggerSource::Queue { queue, concurrency } => {
            put_queue(connection, app, id, queue, *concurrency).await?;
        }
        TriggerSource::Topic { topic } => {
            let put = sqlx::query!(
                "INSERT INTO topic_trigger_details (trigger_id, topic_pattern) VALUES ($1, $2)
                ON CONFLICT (trigger_id) DO UPDATE SET topic_pattern = excluded.topic_pattern",
                id.as_uuid(),
                topic.as_str(),
            );
            put.execute(connection).await?;
        }
        TriggerSource::Email { address } => {
            put_address(connection, app, id, &spec.name, address.as_ref()).await?;
        }
        TriggerSource::DeadLetter { source_kinds, source_triggers } => {
            let kinds: Vec<String> =
                source_kinds.iter().copied().map(OutboxKind::as_str).map(str::to_owned).collect();
            let triggers: Vec<String> = source_triggers.iter().map(ToString::to_string).collect();
            let put = sqlx::query!(
                "INSERT INTO dead_letter_trigger_details (trigger_id, source_kinds, source_triggers)
                VALUES ($1, $2, $3) ON CONFLICT (trigger_id) DO UPDATE
                SET source_kinds = excluded.source_kinds, source_triggers = excluded.source_triggers",
                id.as_uuid(),
                &kinds,
                &triggers,
            );
            put.execute(connection).await?;
        }
    }
    Ok(())
}

/// The next time is the first from now, by the database's clock; where the schedule is what it was it stays, since it
/// may be due and not be enqueued yet.
async fn put_cron(
    connection: &mut PgConnection,
    id: TriggerId,
    cron: &CronSource,
    enabled: bool,
) -> Result<(), StoreError> {
    let now = sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(&mut *connection).await?;
    let next_at = if enabled { cron.schedule.next_after(now) } else { None };
    let put = sqlx::query!(
        "INSERT INTO cron_trigger_details (trigger_id, schedule, timezone, missed, max_lateness_ms, jitter_ms, next_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (trigger_id) DO UPDATE SET schedule = excluded.schedule, timezone = excluded.timezone,
            missed = excluded.missed, max_lateness_ms = excluded.max_lateness_ms, jitter_ms = excluded.jitter_ms,
            next_at = CASE
                WHEN cron_trigger_details.schedule = excluded.schedule
                    AND cron_trigger_details.timezone = excluded.timezone AND excluded.next_at IS NOT NULL
                THEN coalesce(cron_trigger_details.next_at, excluded.next_at)
                ELSE excluded.next_at
            END",
        id.as_uuid(),
        cron.schedule.as_str(),
        cron.schedule.timezone(),
        cron.missed.as_str(),
        bigint(cron.max_lateness.as_millis()),
        bigint(cron.jitter.as_millis()),
        next_at,
    );
    put.execute(connection).await?;
    Ok(())
}

async fn put_queue(
    connection: &mut PgConnection,
    app: AppId,
    id: TriggerId,
    queue: &QueueName,
    concurrency: Option<u32>,
) -> Result<(), StoreError> {
    let other = sqlx::query_scalar!(
        "SELECT t.name FROM queue_trigger_details q JOIN triggers t ON t.id = q.trigger_id
        WHERE q.app_id = $1 AND q.queue = $2 AND q.trigger_id <> $3",
        app.as_uuid(),
        queue.as_str(),
        id.as_uuid(),
    );
    if let Some(other) = other.fetch_optional(&mut *connection).await? {
        return Err(StoreError::QueueTaken { queue: queue.clone(), trigger: parse(&other)? });
    }
    let put = sqlx::query!(
        "INSERT INTO queue_trigger_details (trigger_id, app_id, queue) VALUES ($1, $2, $3)
        ON CONFLICT (trigger_id) DO UPDATE SET queue = excluded.queue",
        id.as_uuid(),
        app.as_uuid(),
        queue.as_str(),
    );
    put.execute(&mut *connection).await?;
    let set_up = sqlx::query!(
        "INSERT INTO queues (app_id, name, concurrency) VALUES ($1, $2, $3)
        ON CONFLICT (app_id, name) DO UPDATE SET concurrency = coalesce(excluded.concurrency, queues.concurrency)",
        app.as_uuid(),
        queue.as_str(),
        concurrency.map(u32::cast_signed),
    );
    set_up.execute(&mut *connection).await?;
    if concurrency.is_some() {
        check_queue_count(connection, app).await?;
    }
    Ok(())
}

async fn put_address(
    connection: &mut PgConnection,
    app: AppId,
    id: TriggerId,
    trigger: &TriggerName,
    address: Option<&MailboxName>,
) -> Result<(), StoreError> {
    let name = sqlx::query_scalar!("SELECT name FROM apps WHERE id = $1", app.as_uuid());
    let app_name: AppName = parse(&name.fetch_one(&mut *connection).await?)?;
    let address = match address {
        Some(address) if address.is_allowed_to(&app_name) => address.clone(),
        Some(address) => {
            return Err(StoreError::Invalid(format!(
                "address: {address} has a dot, and what is before the first one is not the name of this app; allowed \
                 are addresses without a dot, and those that begin with {app_name}."
            )));
        }
        None => MailboxName::of(&app_name, trigger).map_err(|error| {
            StoreError::Invalid(format!(
                "address: the one made of the names of app and trigger is not good, so name one: {error}"
            ))
        })?,
    };
    let put = sqlx::query!(
        "INSERT INTO email_trigger_details (trigger_id, address) VALUES ($1, $2)
        ON CONFLICT (trigger_id) DO UPDATE SET address = excluded.address",
        id.as_uuid(),
        address.as_str(),
    );
    match put.execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) => Err(match StoreError::unique(error, "address") {
            StoreError::AlreadyExists { .. } => StoreError::AddressTaken { address },
            other => other,
        }),
    }
}

async fn remove(connection: &mut PgConnection, app: AppId, ids: &[Uuid]) -> Result<u64, StoreError> {
    let deleted =
        sqlx::query!("DELETE FROM triggers WHERE app_id = $1 AND id = ANY ($2)", app.as_uuid(), ids);
    Ok(deleted.execute(connection).await?.rows_affected())
}

async fn check_count(connection: &mut PgConnection, app: AppId) -> Result<(), StoreError> {
    let count = sqlx::query!(
        r#"SELECT count(*) AS "all!", count(*) FILTER (WHERE kind = 'dead_letter') AS "of_letters!"
        FROM triggers WHERE app_id = $1"#,
        app.as_uuid(),
    );
    let count = count.fetch_one(connection).await?;
    if count.all > MAX_TRIGGERS {
        return Err(StoreError::Invalid(format!("an app has at most {MAX_TRIGGERS} triggers")));
    }
    if count.of_letters > MAX_DEAD_LETTER_TRIGGERS {
        let message = format!("an app has at most {MAX_DEAD_LETTER_TRIGGERS} triggers of kind dead_letter");
        return Err(StoreError::Invalid(message));
    }
    Ok(())
}
