//! `picloud trigger`: which script runs when something happens.

mod add;
mod view;

use clap::{Args, Subcommand};
use picloud_core::{TriggerName, wording::reworded};
use serde::Deserialize;
use serde_json::json;
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    api::{Api, Payload, segment, with_query},
    error::ClientError,
    invoke::read_json,
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table, printable};
use add::AddArgs;
pub(super) use view::Trigger;
use view::clock_with_offset;

/// What can be done with triggers.
#[derive(Debug, Subcommand)]
pub(crate) enum TriggerCommand {
    /// List an app's triggers; times are those of each trigger's zone
    List(WholeAppArgs),
    /// Add a trigger: a schedule, a queue, a topic, key-value data, e-mail, or what was given up
    Add(Box<AddArgs>),
    /// Show a trigger
    Show(NamedArgs),
    /// Let a trigger go on; what came while it was disabled is not made up for
    Enable(NamedArgs),
    /// Stop a trigger
    Disable(NamedArgs),
    /// Remove a trigger; its events that wait become dead letters
    Rm(NamedArgs),
    /// Show when a schedule runs next, and when it ran
    Next(NextArgs),
    /// Set a trigger off by hand, to try it out
    Fire(FireArgs),
}

/// A command about one trigger.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud trigger show nightly --app demo\n  picloud trigger disable nightly"
)]
pub(crate) struct NamedArgs {
    /// Its name
    #[arg(value_name = "NAME", value_parser = trigger_name)]
    name: TriggerName,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud trigger next`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud trigger next nightly\n  picloud trigger next nightly --count 30"
)]
pub(crate) struct NextArgs {
    /// How many times, to come and past; 1 to 100
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
    #[command(flatten)]
    named: NamedArgs,
}

/// `picloud trigger fire`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud trigger fire nightly\n  picloud trigger fire index --event '{\"key\": \"ann\", \"value\": {\"age\": 41}}'"
)]
pub(crate) struct FireArgs {
    /// What the event says, a JSON object (`@FILE`, `-` for standard input); what is left out is made up
    #[arg(long, value_name = "JSON")]
    event: Option<String>,
    #[command(flatten)]
    named: NamedArgs,
}

#[derive(Debug, Deserialize)]
struct Fired {
    event_id: String,
}

#[derive(Debug, Deserialize)]
struct Schedule {
    cron: String,
    timezone: String,
    next: Vec<String>,
    past: Vec<Slot>,
}

#[derive(Debug, Deserialize)]
struct Slot {
    scheduled_for: String,
    event_id: Option<String>,
}

/// Runs one of the commands.
pub(super) fn run(command: TriggerCommand) -> Result<(), ClientError> {
    match command {
        TriggerCommand::List(args) => list(&args),
        TriggerCommand::Add(args) => add::run(&args),
        TriggerCommand::Show(args) => show(&args),
        TriggerCommand::Enable(args) => set_enabled(&args, true),
        TriggerCommand::Disable(args) => set_enabled(&args, false),
        TriggerCommand::Rm(args) => remove(&args),
        TriggerCommand::Next(args) => next(&args),
        TriggerCommand::Fire(args) => fire(&args),
    }
}

impl NamedArgs {
    fn path(&self) -> Result<String, ClientError> {
        self.app.path(&format!("/triggers/{}", segment(self.name.as_str())))
    }
}

fn list(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/triggers")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch(&api, &path, &[], None)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["NAME", "KIND", "WAITS FOR", "RUNS", "STATE", "NEXT"]);
    for trigger in items.read::<Trigger>(&api)? {
        let state = if trigger.enabled { "enabled" } else { "disabled" };
        let next = trigger.next_at.as_deref().map_or_else(|| "-".to_owned(), clock_with_offset);
        table.row([
            trigger.name.clone(),
            trigger.kind.clone(),
            trigger.waits_for(),
            trigger.script.clone(),
            state.to_owned(),
            next,
        ]);
    }
    table.print("no triggers; `picloud trigger add --help` says what there is")?;
    Ok(())
}

fn show(args: &NamedArgs) -> Result<(), ClientError> {
    let path = args.path()?;
    let api = Api::connect(&args.common)?;
    let answer = api.get(&path)?;
    if args.common.json {
        return print_json(&answer);
    }
    let trigger: Trigger = api.read(&answer)?;
    for (name, value) in trigger.lines() {
        terminal::line(format_args!("{:<15} {}", format!("{name}:"), printable(&value)))?;
    }
    Ok(())
}

fn set_enabled(args: &NamedArgs, enabled: bool) -> Result<(), ClientError> {
    let path = args.path()?;
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::PATCH, &path, Payload::Json(&json!({ "enabled": enabled })))?;
    if args.common.json {
        return print_json(&answer);
    }
    let trigger: Trigger = api.read(&answer)?;
    let state = if trigger.enabled { "enabled" } else { "disabled" };
    let next = trigger.next_at.as_deref().map(clock_with_offset);
    let next = next.map(|time| format!("; it runs next at {time}")).unwrap_or_default();
    terminal::note(format_args!("the trigger {} is {state}{next}", printable(&trigger.name)));
    Ok(())
}

fn remove(args: &NamedArgs) -> Result<(), ClientError> {
    let path = args.path()?;
    let api = Api::connect(&args.common)?;
    api.call(Method::DELETE, &path, Payload::None)?;
    terminal::note(format_args!("removed the trigger {}", args.name));
    Ok(())
}

fn next(args: &NextArgs) -> Result<(), ClientError> {
    let path =
        with_query(&format!("{}/schedule", args.named.path()?), &[("count", Some(args.count.to_string()))]);
    let api = Api::connect(&args.named.common)?;
    let answer = api.get(&path)?;
    if args.named.common.json {
        return print_json(&answer);
    }
    let schedule: Schedule = api.read(&answer)?;
    terminal::note(format_args!("{} in {}", printable(&schedule.cron), printable(&schedule.timezone)));
    let mut table = Table::new(&["TIME", "EVENT"]);
    for slot in schedule.past.iter().rev() {
        let event = slot.event_id.clone().unwrap_or_else(|| "missed".to_owned());
        table.row([clock_with_offset(&slot.scheduled_for), event]);
    }
    for time in &schedule.next {
        table.row([clock_with_offset(time), "to come".to_owned()]);
    }
    table.print("it never runs")?;
    Ok(())
}

fn fire(args: &FireArgs) -> Result<(), ClientError> {
    let path = format!("{}/fire", args.named.path()?);
    let api = Api::connect(&args.named.common)?;
    let event = args.event.as_deref().map(read_json).transpose()?;
    let fire = event.map_or_else(|| json!({}), |event| json!({ "event": event }));
    let answer = api.call(Method::POST, &path, Payload::Json(&fire))?;
    if args.named.common.json {
        return print_json(&answer);
    }
    let fired: Fired = api.read(&answer)?;
    terminal::line(format_args!("fired {} as the event {}", args.named.name, printable(&fired.event_id)))?;
    terminal::note(format_args!(
        "`picloud event show {}` says what became of it",
        printable(&fired.event_id)
    ));
    Ok(())
}

fn trigger_name(text: &str) -> Result<TriggerName, String> {
    TriggerName::new(text).map_err(|error| reworded(&error.to_string()))
}
