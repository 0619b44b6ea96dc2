//! The queues of an app: which there are, and how they are set up.

use picloud_core::{AppId, QueueName, TriggerName};
use time::OffsetDateTime;

use crate::{
    Page, PageSize, Store, StoreError,
    changes::notify,
    text::{parse, unsigned},
};

/// Messages are counted as far as this.
const COUNTED: i64 = 10_000;

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

    /// Sets a queue up; it is made if it is new. Answers whether that changed anything. [`StoreError::NotFound`] if the app
    /// is gone.
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
        let changed = changed.execute(&mut *transaction).await;
        let changed = changed.map_err(|error| StoreError::foreign(error, "app"))?.rows_affected() > 0;
        if changed {
            notify(&mut transaction, app).await?;
        }
        transaction.commit().await?;
        Ok(changed)
    }
}
