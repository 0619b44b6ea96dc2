//! Executions, logs, counters and partitions.

use std::{collections::BTreeMap, time::Duration};

use picloud_core::{
    AppId, ErrorCode, EventKind, ExecutionId, ExecutionRecord, Fault, Hour, LogLevel, LogLine, Logs, Outcome,
    RequestId, SourcePosition, Usage,
};
use picloud_store::{
    AppUsage, ExecutionFilter, HistoryBatch, HourFuel, LogContent, LogEntry, LogPosition, OutcomeFilter,
    Store, StoreError, StoredFuel, UsageCounts, UsagePeriod, UsageRange, UsageRow, testing::TestDatabase,
};
use time::OffsetDateTime;
use uuid::{NoContext, Timestamp, Uuid};

use crate::fixture::{app_name, script_name, size, with_app};

/// A success with two log lines.
pub(crate) fn record(app: AppId, id: ExecutionId) -> ExecutionRecord {
    let line = |message: &str, at| LogLine { level: LogLevel::Info, message: message.to_owned(), at };
    ExecutionRecord {
        id,
        request_id: RequestId::generate(),
        app,
        script: script_name("hello"),
        version: 3,
        kind: EventKind::Http,
        origin: None,
        // The database keeps microseconds.
        started_at: OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(),
        outcome: Outcome::Succeeded,
        status: Some(200),
        usage: Usage {
            fuel: 12_000,
            duration: Duration::from_micros(1500),
            host_calls: 2,
            memory_bytes: 1 << 20,
            called_outside: false,
        },
        logs: Logs {
            lines: vec![line("one", Duration::ZERO), line("two", Duration::from_millis(1))],
            truncated: false,
        },
        egress: Vec::new(),
    }
}

fn failure(app: AppId, script: &str, code: ErrorCode) -> ExecutionRecord {
    ExecutionRecord {
        script: script_name(script),
        outcome: Outcome::Failed(Fault::new(code, "no")),
        logs: Logs::default(),
        ..record(app, ExecutionId::generate())
    }
}

/// What an entry says.
fn text(entry: &LogEntry) -> &str {
    match &entry.content {
        LogContent::Line { message, .. } => message,
        LogContent::Failure(fault) => fault.code.as_str(),
    }
}

async fn keep(store: &Store, records: impl IntoIterator<Item = ExecutionRecord>) {
    let mut batch = HistoryBatch::default();
    for record in records {
        batch.keep(record);
    }
    store.store_history(&batch).await.unwrap();
}

/// The id of an execution that ran so many days ago.
fn id_days_ago(days: u64) -> ExecutionId {
    let now = OffsetDateTime::now_utc().unix_timestamp().unsigned_abs();
    ExecutionId::from_uuid(Uuid::new_v7(Timestamp::from_unix(NoContext, now - days * 86_400, 0)))
}

#[tokio::test]
async fn an_execution_comes_back_as_it_was() {
    let (store, app) = with_app().await;
    let position = SourcePosition {
        script: "lib".to_owned(),
        line: 3,
        column: 7,
        source_line: "let x = \"\u{1}\\\";".to_owned(),
    };
    let fault = Fault { code: ErrorCode::ScriptError, message: "a".to_owned(), position: Some(position) };
    let failed = ExecutionRecord {
        outcome: Outcome::Failed(fault),
        status: None,
        kind: EventKind::Invoke,
        origin: None,
        ..record(app, ExecutionId::generate())
    };
    keep(&store, [record(app, ExecutionId::generate()), failed.clone()]).await;

    let found = store.execution(app, failed.id).await.unwrap().unwrap();
    assert_eq!((found.outcome, found.usage, found.status), (failed.outcome, failed.usage, None));
    assert_eq!((found.kind, found.version, found.started_at), (failed.kind, 3, failed.started_at));
    assert_eq!(found.request_id, failed.request_id);
    let logs = store.execution_logs(app, failed.id).await.unwrap();
    assert_eq!(logs.iter().map(text).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(logs[1].at, failed.started_at + Duration::from_millis(1));
}

#[tokio::test]
async fn text_that_cannot_be_stored_is_made_so() {
    let (store, app) = with_app().await;
    let mut odd = record(app, ExecutionId::generate());
    odd.logs.lines[0].message = "a\0b".to_owned();
    odd.outcome = Outcome::Failed(Fault {
        code: ErrorCode::ScriptError,
        message: format!("\0{}", "é".repeat(1 << 20)),
        position: Some(SourcePosition {
            script: "\0".to_owned(),
            line: 1,
            column: 0,
            source_line: "\0".repeat(10_000),
        }),
    });
    odd.usage.fuel = u64::MAX;
    keep(&store, [odd.clone()]).await;
    let found = store.execution(app, odd.id).await.unwrap().unwrap();
    let Outcome::Failed(fault) = found.outcome else { panic!() };
    assert!(fault.message.starts_with("\u{2400}é") && fault.message.len() <= 8192);
    assert_eq!(fault.position.unwrap().script, "\u{2400}");
    assert_eq!(found.usage.fuel, i64::MAX.unsigned_abs());
    assert_eq!(text(&store.execution_logs(app, odd.id).await.unwrap()[0]), "a\u{2400}b");
}

#[tokio::test]
async fn executions_are_listed_newest_first_and_filtered() {
    let (store, app) = with_app().await;
    let records = [
        record(app, ExecutionId::generate()),
        failure(app, "hello", ErrorCode::OutOfFuel),
        failure(app, "other", ErrorCode::OutOfFuel),
        failure(app, "other", ErrorCode::ScriptError),
    ];
    let ids = records.each_ref().map(|record| record.id);
    keep(&store, records).await;
    let find = |script: Option<&str>, outcome| {
        let filter = ExecutionFilter { script: script.map(script_name), outcome };
        let store = store.clone();
        async move {
            let page = store.executions(app, &filter, None, size(10)).await.unwrap();
            page.items.iter().map(|execution| execution.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(find(None, OutcomeFilter::Any).await, [ids[3], ids[2], ids[1], ids[0]]);
    assert_eq!(find(None, OutcomeFilter::Succeeded).await, [ids[0]]);
    assert_eq!(find(None, OutcomeFilter::Failed).await, [ids[3], ids[2], ids[1]]);
    assert_eq!(find(None, OutcomeFilter::Code(ErrorCode::OutOfFuel)).await, [ids[2], ids[1]]);
    assert_eq!(find(Some("other"), OutcomeFilter::Any).await, [ids[3], ids[2]]);
    assert_eq!(find(Some("other"), OutcomeFilter::Code(ErrorCode::OutOfFuel)).await, [ids[2]]);
    assert!(find(Some("other"), OutcomeFilter::Succeeded).await.is_empty());

    let page = store.executions(app, &ExecutionFilter::default(), Some(ids[3]), size(2)).await.unwrap();
    assert_eq!((page.items[0].id, page.items[1].id, page.more), (ids[2], ids[1], true));
}

#[tokio::test]
async fn another_app_sees_nothing_of_it() {
    let (store, app) = with_app().await;
    let other = store.create_app(&app_name("other")).await.unwrap().id;
    let one = record(app, ExecutionId::generate());
    keep(&store, [one.clone()]).await;
    assert_eq!(store.execution(other, one.id).await.unwrap(), None);
    assert!(store.execution_logs(other, one.id).await.unwrap().is_empty());
    assert!(store.logs_after(other, None, LogPosition::default(), size(9)).await.unwrap().items.is_empty());
    assert!(store.executions(other, &<_>::default(), None, size(9)).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_log_is_followed_by_position() {
    let (store, app) = with_app().await;
    let (older, newer) = (id_days_ago(0), ExecutionId::generate());
    keep(&store, [record(app, newer)]).await;
    let first = store.logs_after(app, None, LogPosition::default(), size(1)).await.unwrap();
    assert_eq!((text(&first.items[0]), first.more), ("one", true));
    let second = store.logs_after(app, None, first.items[0].position, size(9)).await.unwrap();
    assert_eq!((second.items.len(), second.more), (1, false));
    // A run that began earlier and ended later comes after what was seen.
    keep(&store, [record(app, older)]).await;
    let third = store.logs_after(app, None, second.items[0].position, size(9)).await.unwrap();
    assert_eq!(third.items.iter().map(|line| line.execution).collect::<Vec<_>>(), [older, older]);
    let back = store.logs_before(app, None, None, size(3)).await.unwrap();
    assert_eq!(back.items.iter().map(text).collect::<Vec<_>>(), ["two", "one", "two"]);
    assert!(back.more);
    let none = store.logs_before(app, Some(&script_name("other")), None, size(3)).await.unwrap();
    assert!(none.items.is_empty());
}

#[tokio::test]
async fn a_failure_is_in_the_log_after_the_lines_of_its_run() {
    let (store, app) = with_app().await;
    let position = SourcePosition {
        script: "lib".to_owned(),
        line: 3,
        column: 7,
        source_line: "throw \"no\";".to_owned(),
    };
    let fault = Fault { code: ErrorCode::ScriptError, message: "no".to_owned(), position: Some(position) };
    let outcome = Outcome::Failed(fault.clone());
    let failed = ExecutionRecord { outcome, ..record(app, ExecutionId::generate()) };
    keep(&store, [failed.clone(), record(app, ExecutionId::generate())]).await;
    let log = store.logs_after(app, None, LogPosition::default(), size(9)).await.unwrap().items;
    assert_eq!(log.iter().map(text).collect::<Vec<_>>(), ["one", "two", "script_error", "one", "two"]);
    assert_eq!(log[2].content, LogContent::Failure(fault));
    assert_eq!(log[2].at, failed.started_at + failed.usage.duration);
    let back = store.logs_before(app, Some(&failed.script), Some(log[3].position), size(1)).await.unwrap();
    assert_eq!(back.items, [log[2].clone()]);
    // The execution says itself that it failed.
    assert_eq!(store.execution_logs(app, failed.id).await.unwrap(), log[..2]);
}

#[tokio::test]
async fn counters_are_exact_also_for_what_is_not_kept() {
    let (store, app) = with_app().await;
    let mut batch = HistoryBatch::default();
    let one = record(app, ExecutionId::generate());
    batch.keep(one.clone());
    for _ in 0..9 {
        batch.count(app, &one.script, one.started_at, None, &one.usage);
    }
    batch.count(app, &one.script, one.started_at + Duration::from_hours(1), None, &one.usage);
    batch.keep(failure(app, "hello", ErrorCode::OutOfFuel));
    assert_eq!(batch.len(), 2);
    store.store_history(&batch).await.unwrap();
    assert_eq!(store.executions(app, &<_>::default(), None, size(99)).await.unwrap().items.len(), 2);

    let usage = usage(&store, app, one.started_at, UsagePeriod::Hour).await;
    let rows: Vec<_> = usage.iter().map(|row| (row.counts.invocations, row.counts.fuel)).collect();
    assert_eq!(rows, [(11, 132_000), (1, 12_000)], "by hour, then script");
    assert_eq!(usage[0].counts.errors, BTreeMap::from([("out_of_fuel", 1)]));
    assert_eq!(usage[0].start.minute(), 0);
    let each = one.usage.duration;
    assert_eq!(usage[0].counts.duration, each * 11);
    let median = usage[0].counts.latencies.percentile(50).unwrap();
    assert!(median >= each && median <= each * 9 / 8, "{median:?}");
    let day = Duration::from_hours(24);
    let range =
        UsageRange { from: one.started_at + day, to: one.started_at + 2 * day, by: UsagePeriod::Hour };
    assert!(store.usage(app, range, None, size(9)).await.unwrap().items.is_empty());
}

/// The usage of the days around `at`.
async fn usage(store: &Store, app: AppId, at: OffsetDateTime, by: UsagePeriod) -> Vec<UsageRow> {
    let day = Duration::from_hours(24);
    let range = UsageRange { from: at - day, to: at + day, by }.whole();
    let rows = store.usage(app, range, None, size(200)).await.unwrap().items;
    let mut counted = UsageCounts::default();
    for row in &rows {
        counted.invocations += row.counts.invocations;
        counted.fuel += row.counts.fuel;
        counted.duration += row.counts.duration;
        counted.latencies.merge(&row.counts.latencies);
        for (code, count) in &row.counts.errors {
            *counted.errors.entry(code).or_default() += count;
        }
    }
    assert_eq!(store.usage_totals(app, range).await.unwrap(), counted, "the totals are those of the rows");
    // Page after page comes the same.
    let mut paged: Vec<UsageRow> = Vec::new();
    loop {
        let after = paged.last().map(|row| (row.start, row.script.clone()));
        let after = after.as_ref().map(|(start, script)| (*start, script));
        let page = store.usage(app, range, after, size(1)).await.unwrap();
        paged.extend(page.items);
        if !page.more {
            break;
        }
    }
    assert_eq!(paged, rows);
    rows
}

#[tokio::test]
async fn a_batch_that_is_stored_again_counts_once() {
    let (store, app) = with_app().await;
    let one = record(app, ExecutionId::generate());
    let mut batch = HistoryBatch::default();
    batch.keep(one.clone());
    let first = store.store_history(&batch).await.unwrap();
    let hour = Hour::of(one.started_at);
    let fuel = StoredFuel { app, hour, of_batch: one.usage.fuel, total: one.usage.fuel };
    assert_eq!(first, [fuel]);
    // As after a connection that broke in the middle of a commit, also many at once.
    let again = (0..8).map(|_| store.store_history(&batch));
    for stored in futures_util::future::join_all(again).await {
        assert_eq!(stored.unwrap(), [fuel]);
    }
    let mut next = batch.successor();
    next.keep(record(app, ExecutionId::generate()));
    assert_eq!(store.store_history(&next).await.unwrap()[0].total, 2 * one.usage.fuel);
    // A batch that comes too late is one that was stored.
    store.store_history(&batch).await.unwrap();
    assert_eq!(usage(&store, app, one.started_at, UsagePeriod::Hour).await[0].counts.invocations, 2);
}

#[tokio::test]
async fn days_have_the_counters_of_their_hours() {
    let (store, app) = with_app().await;
    let one = record(app, ExecutionId::generate());
    let start = Hour::of(OffsetDateTime::now_utc()).first_of_day().start();
    let mut batch = HistoryBatch::default();
    for hours in 0..24 {
        for script in ["a", "b"] {
            let at = start + Duration::from_hours(hours) + Duration::from_mins(59);
            let usage = Usage { duration: Duration::from_millis(1 << (hours / 4)), ..one.usage };
            batch.count(app, &script_name(script), at, None, &usage);
            batch.peak(app, at, (hours + 1) as u32);
        }
    }
    store.store_history(&batch).await.unwrap();
    assert_eq!(usage(&store, app, start, UsagePeriod::Hour).await.len(), 48);
    let days = usage(&store, app, start, UsagePeriod::Day).await;
    let shown: Vec<_> =
        days.iter().map(|row| (row.start, row.script.as_str(), row.counts.invocations)).collect();
    assert_eq!(shown, [(start, "a", 24), (start, "b", 24)]);
    let slow = days[0].counts.latencies.percentile(99).unwrap();
    assert!(slow >= Duration::from_millis(32) && slow <= Duration::from_millis(36), "{slow:?}");

    let hour = start + Duration::from_hours(5);
    let of_apps = store.usage_of_apps(&[AppId::generate(), app], hour).await.unwrap();
    assert_eq!(of_apps[0], AppUsage::default());
    let fuel = one.usage.fuel;
    assert_eq!((of_apps[1].fuel_of_hour, of_apps[1].fuel_of_day), (2 * fuel, 48 * fuel));
    assert_eq!((of_apps[1].invocations_of_day, of_apps[1].peak_concurrency), (48, 24));
    let loaded = store.directory_of(app).await.unwrap().unwrap().fuel;
    assert_eq!(loaded.len(), 24, "a node that starts has the present day");
    assert_eq!(loaded[3], HourFuel { hour: Hour::of(start + Duration::from_hours(3)), fuel: 2 * fuel });
}

#[tokio::test]
async fn old_counters_are_removed_in_small_batches() {
    let (store, app) = with_app().await;
    let one =
        ExecutionRecord { started_at: OffsetDateTime::now_utc(), ..record(app, ExecutionId::generate()) };
    let mut batch = HistoryBatch::default();
    for hours in [0, 30, 31, 32] {
        batch.count(app, &one.script, one.started_at - Duration::from_hours(hours), None, &one.usage);
    }
    store.store_history(&batch).await.unwrap();
    assert_eq!(store.remove_old_usage(1, 2).await.unwrap(), 2);
    assert_eq!(store.remove_old_usage(1, 2).await.unwrap(), 1);
    assert_eq!(store.remove_old_usage(1, 2).await.unwrap(), 0);
    let left = UsageRange {
        from: one.started_at - Duration::from_hours(99),
        to: one.started_at + Duration::from_hours(1),
        by: UsagePeriod::Hour,
    };
    assert_eq!(store.usage_totals(app, left).await.unwrap().invocations, 1);
}

#[tokio::test]
async fn what_belongs_to_a_deleted_app_is_left_out() {
    let (store, app) = with_app().await;
    let gone = AppId::generate();
    let kept = record(app, ExecutionId::generate());
    keep(&store, [record(gone, ExecutionId::generate()), kept.clone()]).await;
    assert!(store.execution(app, kept.id).await.unwrap().is_some());
    keep(&store, [record(gone, ExecutionId::generate())]).await;
}

#[tokio::test]
async fn days_are_made_ahead_on_demand_and_dropped_whole() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'executions'::regclass";
    store.ensure_history_days().await.unwrap();
    store.ensure_history_days().await.unwrap();
    assert_eq!(database.number(days).await, 3);
    // A clock that was wrong when the run began costs nothing but a partition.
    let (old, older) = (id_days_ago(3), id_days_ago(20_000));
    keep(&store, [record(app, old), record(app, older), record(app, ExecutionId::generate())]).await;
    assert_eq!(database.number(days).await, 5);
    let page = store.executions(app, &<_>::default(), None, size(9)).await.unwrap();
    assert_eq!(page.items.last().unwrap().id, older);

    assert_eq!(store.drop_old_history(7).await.unwrap(), 1);
    assert_eq!(store.execution(app, older).await.unwrap(), None);
    assert!(store.execution(app, old).await.unwrap().is_some());
    assert_eq!(store.drop_old_history(2).await.unwrap(), 1);
    assert_eq!(store.drop_old_history(2).await.unwrap(), 0);
    assert_eq!(database.number("SELECT count(*) FROM execution_logs").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_several_nodes_do_not_deadlock() {
    let database = TestDatabase::create().await;
    let stores = [database.store().await, database.store().await];
    let app = stores[0].create_app(&app_name("demo")).await.unwrap().id;
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let store = stores[number % 2].clone();
            tokio::spawn(async move {
                let records = ["a", "b", "c", "d"].map(|script| failure(app, script, ErrorCode::OutOfFuel));
                keep(&store, records).await;
                keep(&store, [record(app, id_days_ago(number as u64 % 3))]).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(database.number("SELECT sum(count)::bigint FROM usage_hourly").await, 16 * 5);
}

#[tokio::test]
async fn an_id_without_a_time_is_refused() {
    let (store, app) = with_app().await;
    let mut batch = HistoryBatch::default();
    batch.keep(record(app, ExecutionId::from_uuid(Uuid::nil())));
    assert!(matches!(store.store_history(&batch).await, Err(StoreError::Invalid(_))));
}

#[tokio::test]
async fn a_failure_in_the_log_without_its_execution_is_broken_data() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let app = store.create_app(&app_name("demo")).await.unwrap().id;
    keep(&store, [failure(app, "hello", ErrorCode::OutOfFuel)]).await;
    let logs = async || store.logs_after(app, None, LogPosition::default(), size(9)).await;
    assert_eq!(logs().await.unwrap().items.len(), 1);
    database.execute("DELETE FROM executions").await;
    let broken = logs().await;
    assert!(matches!(broken, Err(StoreError::Database(_))), "an empty line of the script's own: {broken:?}");
}
