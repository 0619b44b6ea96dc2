//! `picloud audit`: who did what.

use clap::Args;
use picloud_core::AppName;
use serde::Deserialize;

use super::{
    CommonArgs, api::Api, app_name, apps::short_time, error::ClientError, pages::Items, session::print_json,
};
use crate::terminal::Table;

/// `picloud audit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  picloud audit --app shop --action put_script
  picloud audit --principal ada --since 2026-01-01T00:00:00Z")]
pub(crate) struct AuditArgs {
    /// About this app only
    #[arg(long, value_name = "APP", value_parser = app_name)]
    app: Option<AppName>,
    /// Of this principal only: its name or id
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// Of this operation only, such as `put_script` or `sign_in`
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Not before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The most entries
    #[arg(long, short = 'n', value_name = "COUNT", default_value = "50")]
    limit: usize,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Entry {
    at: String,
    principal: Option<String>,
    address: Option<String>,
    action: String,
    app: Option<String>,
    target: Option<String>,
    detail: Option<String>,
    outcome: String,
}

/// Shows the newest entries, the newest first.
pub(super) fn run(args: &AuditArgs) -> Result<(), ClientError> {
    if args.limit == 0 {
        return Err(ClientError::Input("--limit 0 shows nothing; allowed is 1 and more".into()));
    }
    let api = Api::connect(&args.common)?;
    let query = [
        ("app", args.app.as_ref().map(ToString::to_string)),
        ("principal", args.principal.clone()),
        ("action", args.action.clone()),
        ("since", args.since.clone()),
        ("until", args.until.clone()),
    ];
    let items = Items::fetch(&api, "/api/v1/audit", &query, Some(args.limit))?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["AT", "WHO", "FROM", "ACTION", "APP", "TARGET", "DETAIL", "OUTCOME"]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for entry in items.read::<Entry>(&api)? {
        table.row([
            short_time(&entry.at),
            or_dash(entry.principal),
            or_dash(entry.address),
            entry.action,
            or_dash(entry.app),
            or_dash(entry.target),
            or_dash(entry.detail),
            entry.outcome,
        ]);
    }
    table.print("no entries")?;
    Ok(())
}
