//! The queues of an app: which there are, and how they are set up.

use picloud_core::{AppId, QueueName, TriggerName};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Page, PageSize, Store, StoreError,
    apps::lock_app,
    changes::notify,
    text::{parse, unsigned},
};

/// Messages are counted as far as this.
const COUNTED: i64 = 10_000;

/// Queues of an app that are paused or have a concurrency of their own.
const MAX_SET_UP: i64 = 1_000;

/// A queue of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: QueueName,
    /// The trigger that handles its messages, if one does.
    pub consumer: Option<TriggerName>,
    /// How many messages are handled at once in the whole installation; as many as the app may run where it is `None`.
    pub concurrency: Option<u32>,
    /// Since when it is paused.
    pub paused_at: Option<OffsetDateTime>,
    /// Messages that wait, delayed ones included; counted as far as 10,000.
    pub waiting: u64,
    /// Messages that are handled now.
    pub running: u64,
}

impl Queue {
    /// A queue that nobody has set up or sent to.
    pub fn unused(name: QueueName) -> Self {
        Self { name, consumer: None, concurrency: None, paused_at: None, waiting: 0, running: 0 }
    }
}

/// What is to be set of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueChange {
    /// Whether it is paused.
    pub paused: Option<bool>,
    /// How many messages are handled at once.
    pub concurrency: QueueConcurrency,
}

/// How many messages of a queue are to be handled at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueConcurrency {
    /// As many as now.
    #[default]
    Unchanged,
    /// As many as the app may run.
    Unlimited,
    /// 1 to 10,000.
    Limited(u32),
}

impl Store {
    /// The queues of an app that come after `after`, by name.
    pub async fn queues(
        &self,
        app: AppId,
        after: Option<&QueueName>,
        size: PageSize,
    ) -> Result<Page<Queue>, StoreError> {
        let rows = self.some_queues(app, after, None, size.and_one()).await?;
        Page::of(rows, size, Ok)
    }

    /// A queue of an app; `None` if nobody has set it up or sent to it.
    pub async fn queue(&self, app: AppId, queue: &QueueName) -> Result<Option<Queue>, StoreError> {
        Ok(self.some_queues(app, None, Some(queue), 1).await?.pop())
    }

    async fn some_queues(
        &self,
        app: AppId,
        after: Option<&QueueName>,
        only: Option<&QueueName>,
        most: i64,
    ) -> Result<Vec<Queue>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT q.name, q.concurrency, q.paused_at, t.name AS "consumer?",
                (SELECT count(*) FROM (
                    SELECT FROM outbox_lanes l JOIN outbox o ON o.lane_id = l.id
                    WHERE l.app_id = q.app_id AND l.queue = q.name AND o.claimed_by IS NULL LIMIT $4
                ) w) AS "waiting!",
                (SELECT count(*) FROM outbox_lanes l JOIN outbox o ON o.lane_id = l.id
                    WHERE l.app_id = q.app_id AND l.queue = q.name AND o.claimed_by IS NOT NULL) AS "running!"
            FROM queues q
            LEFT JOIN queue_trigger_details d ON d.app_id = q.app_id AND d.queue = q.name
            LEFT JOIN triggers t ON t.id = d.trigger_id
            WHERE q.app_id = $1 AND q.name > $2 AND ($5::text IS NULL OR q.name = $5) ORDER BY q.name LIMIT $3"#,
            app.as_uuid(),
            after.map_or("", QueueName::as_str),
            most,
            COUNTED,
            only.map(QueueName::as_str),
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter();
        rows.map(|row| {
            Ok(Queue {
                name: parse(&row.name)?,
                consumer: row.consumer.as_deref().map(parse).transpose()?,
                concurrency: row.concurrency.map(i32::unsigned_abs),
                paused_at: row.paused_at,
                waiting: unsigned(row.waiting),
                running: unsigned(row.running),
            })
        })
        .collect()
    }

    /// Sets a queue up; it is made if it is new, and forgotten if nothing is left of it. Answers whether that changed
    /// anything. [`StoreError::NotFound`] if the app is gone; [`StoreError::Invalid`] if it has 1,000 that are set up.
    pub async fn change_queue(
        &self,
        app: AppId,
        queue: &QueueName,
        change: QueueChange,
    ) -> Result<bool, StoreError> {
        let concurrency = match change.concurrency {
            QueueConcurrency::Limited(count) => Some(count.cast_signed()),
            QueueConcurrency::Unchanged | QueueConcurrency::Unlimited => None,
        };
        let mut transaction = self.pool.begin().await?;
        lock_app(&mut transaction, app).await?;
        let changed = sqlx::query!(
            "INSERT INTO queues AS q (app_id, name, paused_at, concurrency)
            VALUES ($1, $2, CASE WHEN $3 THEN statement_timestamp() END, $5)
            ON CONFLICT (app_id, name) DO UPDATE SET
                paused_at = CASE WHEN $3 IS NULL THEN q.paused_at
                    WHEN $3 THEN coalesce(q.paused_at, excluded.paused_at) END,
                concurrency = CASE WHEN $4 THEN excluded.concurrency ELSE q.concurrency END
            WHERE $3 <> (q.paused_at IS NOT NULL) OR ($4 AND q.concurrency IS DISTINCT FROM excluded.concurrency)",
            app.as_uuid(),
            queue.as_str(),
            change.paused,
            change.concurrency != QueueConcurrency::Unchanged,
            concurrency,
        );
        let changed = changed.execute(&mut *transaction).await?.rows_affected() > 0;
        if changed {
            check_queue_count(&mut transaction, app).await?;
            forget_unused(&mut transaction, [(app.as_uuid(), queue.as_str())]).await?;
            notify(&mut transaction, app).await?;
        }
        transaction.commit().await?;
        Ok(changed)
    }

    /// Removes some of the queues that are no longer set up and have neither a trigger nor lanes. Answers how many.
    pub async fn remove_unused_queues(&self, most: u32) -> Result<u64, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let unused = sqlx::query!(
            "SELECT app_id, name FROM queues q WHERE paused_at IS NULL AND concurrency IS NULL
                AND NOT EXISTS (SELECT FROM queue_trigger_details d WHERE d.app_id = q.app_id AND d.queue = q.name)
                AND NOT EXISTS (SELECT FROM outbox_lanes l WHERE l.app_id = q.app_id AND l.queue = q.name)
            LIMIT $1",
            i64::from(most),
        );
        let unused = unused.fetch_all(&mut *transaction).await?;
        let unused = unused.iter().map(|queue| (queue.app_id, queue.name.as_str()));
        let removed = forget_unused(&mut transaction, unused).await?;
        transaction.commit().await?;
        Ok(removed)
    }
}

/// [`StoreError::Invalid`] if more queues of an app are set up than may be.
pub(crate) async fn check_queue_count(connection: &mut PgConnection, app: AppId) -> Result<(), StoreError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM queues
        WHERE app_id = $1 AND (paused_at IS NOT NULL OR concurrency IS NOT NULL)"#,
        app.as_uuid(),
    );
    if count.fetch_one(connection).await? > MAX_SET_UP {
        let message = format!(
            "an app has at most {MAX_SET_UP} queues that are paused or have a concurrency of their own"
        );
        return Err(StoreError::Invalid(message));
    }
    Ok(())
}

/// Removes those of some queues that are not set up and have neither a trigger nor a lane. Whoever makes a lane has a lock
/// on its queue until it is committed: what is not locked by others has no lane that is not seen here. Answers how many.
pub(super) async fn forget_unused(
    connection: &mut PgConnection,
    queues: impl IntoIterator<Item = (Uuid, &str)>,
) -> Result<u64, StoreError> {
    let (apps, names): (Vec<Uuid>, Vec<&str>) = queues.into_iter().unzip();
    let locked = sqlx::query!(
        "SELECT q.app_id, q.name FROM queues q
        JOIN unnest($1::uuid[], $2::text[]) AS given (app_id, name) USING (app_id, name)
        WHERE q.paused_at IS NULL AND q.concurrency IS NULL ORDER BY q.app_id, q.name FOR UPDATE OF q SKIP LOCKED",
        &apps,
        &names as _,
    );
    let (apps, names): (Vec<Uuid>, Vec<String>) =
        locked.fetch_all(&mut *connection).await?.into_iter().map(|queue| (queue.app_id, queue.name)).unzip();
    let unused = sqlx::query!(
        "DELETE FROM queues q USING unnest($1::uuid[], $2::text[]) AS given (app_id, name)
        WHERE q.app_id = given.app_id AND q.name = given.name
            AND NOT EXISTS (SELECT FROM queue_trigger_details d WHERE d.app_id = q.app_id AND d.queue = q.name)
            AND NOT EXISTS (SELECT FROM outbox_lanes l WHERE l.app_id = q.app_id AND l.queue = q.name)",
        &apps,
        &names,
    );
    Ok(unused.execute(connection).await?.rows_affected())
}
