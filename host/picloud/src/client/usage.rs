//! `picloud usage`: what an app used by script, or what all apps used and which are near a limit.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use picloud_core::AppName;
use serde::Deserialize;
use serde_json::Value;

use super::{
    CommonArgs,
    api::{Api, with_query},
    app_name, app_path,
    apps::short_time,
    error::ClientError,
    limits,
    pages::Items,
    session::print_json,
};
use crate::{
    terminal::{self, Table},
    units::{show_bytes, show_count, show_millis},
};

/// `picloud usage`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  picloud usage                  (all apps, for owners)
  picloud usage demo
  picloud usage demo --by day --from 2026-01-01T00:00:00Z")]
pub(crate) struct UsageArgs {
    /// The app, to see it by script and hour [default: all apps, each with the limits it is near to]
    #[arg(value_name = "APP", value_parser = app_name)]
    app: Option<AppName>,
    /// From when on (RFC 3339) [default: a day before the end]
    #[arg(long, value_name = "TIME", requires = "app")]
    from: Option<String>,
    /// Until when (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", requires = "app")]
    to: Option<String>,
    /// What is added up
    #[arg(long, value_name = "PERIOD", value_enum, requires = "app")]
    by: Option<Period>,
    #[command(flatten)]
    common: CommonArgs,
}

/// What usage is added up by.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Period {
    /// Hours
    Hour,
    /// Days, in UTC
    Day,
}

#[derive(Debug, Deserialize)]
struct Usage {
    items: Vec<Row>,
    totals: Counts,
}

#[derive(Debug, Deserialize)]
struct Row {
    start: String,
    script: String,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Debug, Deserialize)]
struct Counts {
    invocations: u64,
    errors: BTreeMap<String, u64>,
    fuel_used: u64,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct AppRow {
    app: String,
    invocations_of_day: u64,
    failures_of_day: u64,
    fuel_of_hour: u64,
    fuel_of_day: u64,
    kv_bytes: u64,
    peak_concurrency: u64,
    near: Vec<Near>,
}

#[derive(Debug, Deserialize)]
struct Near {
    limit: String,
    most: u64,
    percent: u64,
}

/// Shows the usage of one app, or of all.
pub(super) fn run(args: &UsageArgs) -> Result<(), ClientError> {
    match &args.app {
        Some(app) => of_app(args, app),
        None => of_all(args),
    }
}

fn of_app(args: &UsageArgs, app: &AppName) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let by = args.by.and_then(|by| by.to_possible_value()).map(|by| by.get_name().to_owned());
    let mut query = vec![("from", args.from.clone()), ("to", args.to.clone()), ("by", by)];
    query.push(("limit", Some("200".to_owned())));
    query.push(("cursor", None));
    let page = |query: &[(&str, Option<String>)]| -> Result<Value, ClientError> {
        api.read(&api.get(&with_query(&app_path(app, "/usage"), query))?)
    };
    let mut answer = page(&query)?;
    // The pages that follow are of the same time, also where the clock goes on.
    let range = ["from", "to"].map(|name| answer[name].as_str().map(str::to_owned));
    while let Some(cursor) = answer["next_cursor"].as_str() {
        query[0].1.clone_from(&range[0]);
        query[1].1.clone_from(&range[1]);
        query[4].1 = Some(cursor.to_owned());
        let mut next = page(&query)?;
        if let (Some(items), Some(more)) = (answer["items"].as_array_mut(), next["items"].as_array_mut()) {
            items.append(more);
        }
        answer["next_cursor"] = next["next_cursor"].take();
    }
    if args.common.json {
        return print_json(&answer.to_string());
    }
    let usage: Usage = api.read(&answer.to_string())?;
    let mut table = Table::new(&["FROM", "SCRIPT", "RUNS", "FAILED", "FUEL", "P50", "P90", "P99", "ERRORS"]);
    for row in &usage.items {
        table.row(cells(short_time(&row.start), row.script.clone(), &row.counts));
    }
    if usage.items.len() > 1 {
        table.row(cells("total".to_owned(), String::new(), &usage.totals));
    }
    table.print("nothing ran in this time")?;
    Ok(())
}

fn cells(start: String, script: String, counts: &Counts) -> [String; 9] {
    let time = |millis: Option<f64>| millis.map_or_else(|| "-".to_owned(), show_millis);
    let failed: u64 = counts.errors.values().sum();
    let errors: Vec<String> = counts.errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
    [
        start,
        script,
        show_count(counts.invocations),
        show_count(failed),
        show_count(counts.fuel_used),
        time(counts.p50_ms),
        time(counts.p90_ms),
        time(counts.p99_ms),
        errors.join(", "),
    ]
}

fn of_all(args: &UsageArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let items = Items::fetch(&api, "/api/v1/usage", &[], None)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&[
        "APP",
        "RUNS TODAY",
        "FAILED",
        "FUEL THIS HOUR",
        "FUEL TODAY",
        "KV",
        "AT ONCE",
        "NEAR A LIMIT",
    ]);
    for app in items.read::<AppRow>(&api)? {
        let near = app.near.iter().map(|near| {
            format!("{} {}% of {}", near.limit, near.percent, limits::show(&near.limit, Some(near.most)))
        });
        table.row([
            terminal::printable(&app.app),
            show_count(app.invocations_of_day),
            show_count(app.failures_of_day),
            show_count(app.fuel_of_hour),
            show_count(app.fuel_of_day),
            show_bytes(app.kv_bytes),
            show_count(app.peak_concurrency),
            near.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.print("no apps yet; `picloud app create NAME` makes one")?;
    Ok(())
}
