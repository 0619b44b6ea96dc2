//! Storing finished invocations in batches.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
};

use picloud_core::{
    AppId, EgressRecord, ErrorCode, ExecutionRecord, LogLevel, Outcome, ScriptName, SourcePosition, Usage,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::partitions::{day_of, ensure_days};
use crate::{
    Store, StoreError,
    text::{bigint, printable},
    usage::{Counters, StoredFuel},
};

/// What is kept of an error's message, in bytes.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;
/// What is kept of the source line that an error quotes, in bytes.
const MAX_LINE_BYTES: usize = 1024;

/// The number of the log entry that stands for an invocation's failure: after every line, since a log budget
/// allows far fewer. Its text is not repeated there; the execution has it.
pub(super) const FAILURE_SEQ: i32 = i32::MAX;

/// Finished invocations that are not stored yet.
#[derive(Clone, Debug)]
pub struct HistoryBatch {
    /// Who stores it, and which of its batches it is, so that it counts once however often it is stored.
    writer: Uuid,
    number: i64,
    records: Vec<ExecutionRecord>,
    counters: Counters,
}

impl Default for HistoryBatch {
    /// The first batch of a new writer.
    fn default() -> Self {
        Self { writer: Uuid::now_v7(), number: 1, records: Vec::new(), counters: Counters::default() }
    }
}

impl HistoryBatch {
    /// An empty batch that comes after this one, of the same writer. A writer stores its batches in their order.
    #[must_use]
    pub fn successor(&self) -> Self {
        Self {
            writer: self.writer,
            number: self.number + 1,
            records: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Counts an invocation and keeps its record.
    pub fn keep(&mut self, record: ExecutionRecord) {
        let error = record.outcome.error_code();
        self.count(record.app, &record.script, record.started_at, error, &record.usage);
        self.records.push(record);
    }

    /// Counts an invocation without a record of it: a success that the history does not sample.
    pub fn count(
        &mut self,
        app: AppId,
        script: &ScriptName,
        started_at: OffsetDateTime,
        error: Option<ErrorCode>,
        usage: &Usage,
    ) {
        self.counters.add(app, script, started_at, error, usage);
    }

    /// Notes how many invocations of an app ran at once when one of them began.
    pub fn peak(&mut self, app: AppId, started_at: OffsetDateTime, concurrency: u32) {
        self.counters.peak(app, started_at, concurrency);
    }

    /// How many records it has.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it has neither records nor counts.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.counters.is_empty()
    }
}

impl Store {
    /// Stores a batch, all or nothing, and once: to store it again, since an error left open whether it was, changes
    /// nothing. What belongs to apps that are gone is left out. Answers what the budgets of its apps are compared with.
    pub async fn store_history(&self, batch: &HistoryBatch) -> Result<Vec<StoredFuel>, StoreError> {
        let days = batch.records.iter().map(|record| day_of(record.id.as_uuid()));
        let days: BTreeSet<_> = days.collect::<Result<_, _>>()?;
        let mut transaction = self.pool.begin().await?;
        if is_new(&mut transaction, batch).await? {
            let apps = existing_apps(&mut transaction, batch).await?;
            let records: Vec<_> = batch.records.iter().filter(|record| apps.contains(&record.app)).collect();
            if !records.is_empty() {
                ensure_days(&mut transaction, &days.into_iter().collect::<Vec<_>>()).await?;
                insert_executions(&mut transaction, &records).await?;
                insert_logs(&mut transaction, &records).await?;
            }
            batch.counters.store(&mut transaction, |app| apps.contains(&app)).await?;
        }
        let fuel = batch.counters.stored_fuel(&mut transaction).await?;
        transaction.commit().await?;
        Ok(fuel)
    }
}

/// Whether a batch is not stored yet; notes that it is. The row is locked until the transaction ends, so that a batch
/// that is being stored over a connection nobody hears of any more is waited for.
async fn is_new(connection: &mut PgConnection, batch: &HistoryBatch) -> Result<bool, StoreError> {
    let noted = sqlx::query!(
        "INSERT INTO usage_writers AS w (writer, batch) VALUES ($1, $2)
        ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, stored_at = now() WHERE w.batch < excluded.batch",
        batch.writer,
        batch.number,
    );
    Ok(noted.execute(connection).await?.rows_affected() == 1)
}

/// Those of the batch's apps that exist, and keep existing until the transaction ends.
async fn existing_apps(
    connection: &mut PgConnection,
    batch: &HistoryBatch,
) -> Result<HashSet<AppId>, StoreError> {
    let apps: BTreeSet<Uuid> = batch.counters.apps().map(AppId::as_uuid).collect();
    let rows = sqlx::query_scalar!(
        "SELECT id FROM apps WHERE id = ANY ($1) ORDER BY id FOR KEY SHARE",
        &apps.into_iter().collect::<Vec<_>>(),
    );
    Ok(rows.fetch_all(connection).await?.into_iter().map(AppId::from_uuid).collect())
}

async fn insert_executions(
    connection: &mut PgConnection,
    records: &[&ExecutionRecord],
) -> Result<(), StoreError> {
    fn column<T>(records: &[&ExecutionRecord], value: impl Fn(&ExecutionRecord) -> T) -> Vec<T> {
        records.iter().map(|record| value(record)).collect()
    }
    let faults = column(records, |record| match &record.outcome {
        Outcome::Succeeded => None,
        Outcome::Failed(fault) => Some(fault.clone()),
    });
    let codes: Vec<_> = faults.iter().map(|fault| Some(fault.as_ref()?.code.as_str())).collect();
    let messages: Vec<_> =
        faults.iter().map(|fault| Some(printable(&fault.as_ref()?.message, MAX_MESSAGE_BYTES))).collect();
    let positions: Vec<_> =
        faults.iter().map(|fault| Some(Json(storable(fault.as_ref()?.position.as_ref()?)))).collect();
    let egress: Vec<_> = records.iter().map(|record| requests(record).map(Json)).collect();
    let inserted = sqlx::query!(
        "INSERT INTO executions (id, app_id, script, version, request_id, kind, started_at, error_code,
            error_message, error_position, status, fuel, duration_us, host_calls, memory_bytes, logs_truncated,
            egress, event_id, root_id, parent_id, trigger, attempt)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::integer[], $5::uuid[], $6::text[],
            $7::timestamptz[], $8::text[], $9::text[], $10::jsonb[], $11::smallint[], $12::bigint[],
            $13::bigint[], $14::bigint[], $15::bigint[], $16::boolean[], $17::jsonb[], $18::uuid[], $19::uuid[],
            $20::uuid[], $21::text[], $22::smallint[])
        ON CONFLICT (id) DO NOTHING",
        &column(records, |record| record.id.as_uuid()),
        &column(records, |record| record.app.as_uuid()),
        &column(records, |record| record.script.as_str().to_owned()),
        &column(records, |record| record.version),
        &column(records, |record| record.request_id.as_uuid()),
        &column(records, |record| record.kind.as_str().to_owned()),
        &column(records, |record| record.started_at),
        &codes as _,
        &messages.iter().map(Option::as_deref).collect::<Vec<_>>() as _,
        &positions as _,
        &column(records, |record| record.status.map(u16::cast_signed)) as _,
        &column(records, |record| bigint(record.usage.fuel)),
        &column(records, |record| bigint(record.usage.duration.as_micros())),
        &column(records, |record| bigint(record.usage.host_calls)),
        &column(records, |record| bigint(record.usage.memory_bytes)),
        &column(records, |record| record.logs.truncated),
        &egress as _,
        &column(records, |record| Some(record.origin.as_ref()?.event.as_uuid())) as _,
        &column(records, |record| Some(record.origin.as_ref()?.lineage.root.as_uuid())) as _,
        &column(records, |record| Some(record.origin.as_ref()?.lineage.parent?.as_uuid())) as _,
        &column(records, |record| Some(record.origin.as_ref()?.trigger.as_ref()?.as_str().to_owned())) as _,
        &column(records, |record| Some(record.origin.as_ref()?.attempt.cast_signed())) as _,
    );
    inserted.execute(connection).await?;
    Ok(())
}

/// What an invocation called over HTTP, if anything. Hosts and paths are of a URL, which has no character that
/// PostgreSQL could not hold; what a mask has put there is of the names of secrets.
fn requests(record: &ExecutionRecord) -> Option<&[EgressRecord]> {
    (!record.egress.is_empty()).then_some(record.egress.as_slice())
}

/// A position whose texts PostgreSQL can hold.
fn storable(position: &SourcePosition) -> SourcePosition {
    SourcePosition {
        script: printable(&position.script, MAX_LINE_BYTES).into_owned(),
        source_line: printable(&position.source_line, MAX_LINE_BYTES).into_owned(),
        ..*position
    }
}

/// An entry of the log as it is stored.
struct NewEntry<'a> {
    record: &'a ExecutionRecord,
    seq: i32,
    level: LogLevel,
    message: Cow<'a, str>,
    at: OffsetDateTime,
}

/// What an invocation leaves in the log: its lines, and that it failed. The failure is an entry of its own, so that
/// whoever follows the log by position sees it in its place.
fn log_entries(record: &ExecutionRecord) -> impl Iterator<Item = NewEntry<'_>> {
    let lines = (0..FAILURE_SEQ).zip(&record.logs.lines).map(move |(seq, line)| NewEntry {
        record,
        seq,
        level: line.level,
        message: printable(&line.message, usize::MAX),
        at: record.started_at + line.at,
    });
    let failure = record.outcome.error_code().map(|_| NewEntry {
        record,
        seq: FAILURE_SEQ,
        level: LogLevel::Error,
        message: Cow::Borrowed(""),
        at: record.started_at + record.usage.duration,
    });
    lines.chain(failure)
}

async fn insert_logs(connection: &mut PgConnection, records: &[&ExecutionRecord]) -> Result<(), StoreError> {
    let entries: Vec<_> = records.iter().flat_map(|record| log_entries(record)).collect();
    if entries.is_empty() {
        return Ok(());
    }
    let inserted = sqlx::query!(
        "INSERT INTO execution_logs (execution_id, seq, app_id, script, level, message, logged_at)
        SELECT * FROM unnest(
            $1::uuid[], $2::integer[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
        ON CONFLICT (execution_id, seq) DO NOTHING",
        &entries.iter().map(|entry| entry.record.id.as_uuid()).collect::<Vec<_>>(),
        &entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        &entries.iter().map(|entry| entry.record.app.as_uuid()).collect::<Vec<_>>(),
        &entries.iter().map(|entry| entry.record.script.as_str().to_owned()).collect::<Vec<_>>(),
        &entries.iter().map(|entry| entry.level.as_str().to_owned()).collect::<Vec<_>>(),
        &entries.iter().map(|entry| entry.message.as_ref()).collect::<Vec<&str>>() as _,
        &entries.iter().map(|entry| entry.at).collect::<Vec<_>>(),
    );
    inserted.execute(connection).await?;
    Ok(())
}
