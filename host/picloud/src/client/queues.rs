//! `picloud queue` and `picloud publish`: messages and publications.

use clap::{Args, Subcommand};
use picloud_core::{QueueName, TopicName};
use serde::Deserialize;
use serde_json::json;
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    api::{Api, Payload, segment},
    apps::short_time,
    error::ClientError,
    invoke::read_json,
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table, printable};

/// What can be done with queues.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Send a message to a queue
    Send(SendArgs),
    /// List an app's queues, and how many messages wait
    List(WholeAppArgs),
    /// Set how many messages of a queue are handled at once
    Set(SetArgs),
    /// Let the messages of a queue wait
    Pause(QueueArgs),
    /// Let a paused queue go on
    Resume(QueueArgs),
}

/// `picloud queue send`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud queue send jobs '{\"id\": 7}'\n  picloud queue send jobs '{\"id\": 7}' --delay-ms 60000 --dedupe-key order-7"
)]
pub(crate) struct SendArgs {
    /// The queue
    #[arg(value_parser = queue)]
    queue: QueueName,
    /// The body: JSON, `@FILE`, or `-` for standard input
    #[arg(value_name = "JSON")]
    body: String,
    /// Not before so many milliseconds
    #[arg(long, value_name = "MILLISECONDS")]
    delay_ms: Option<u64>,
    /// Those with more are handled first; -100 to 100
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    priority: Option<i16>,
    /// A second message with this key within 24 hours is dropped
    #[arg(long, value_name = "TEXT")]
    dedupe_key: Option<String>,
    /// Messages of one group are handled one after the other
    #[arg(long, value_name = "TEXT")]
    group: Option<String>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// A queue of an app.
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// The queue
    #[arg(value_parser = queue)]
    queue: QueueName,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud queue set`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud queue set jobs --concurrency 4\n  picloud queue set jobs --unlimited"
)]
pub(crate) struct SetArgs {
    /// How many messages are handled at once in the whole installation, 1 to 10,000
    #[arg(long, value_name = "NUMBER", required_unless_present = "unlimited")]
    concurrency: Option<u32>,
    /// As many as the app may run
    #[arg(long, conflicts_with = "concurrency")]
    unlimited: bool,
    #[command(flatten)]
    queue: QueueArgs,
}

/// `picloud publish`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud publish orders/new '{\"id\": 7}'")]
pub(crate) struct PublishArgs {
    /// The topic
    #[arg(value_parser = topic)]
    topic: TopicName,
    /// The body: JSON, `@FILE`, or `-` for standard input
    #[arg(value_name = "JSON")]
    body: String,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Queue {
    name: String,
    consumer: Option<String>,
    concurrency: Option<u32>,
    paused_at: Option<String>,
    waiting: u64,
    running: u64,
}

#[derive(Debug, Deserialize)]
struct Sent {
    id: String,
    duplicate: bool,
}

#[derive(Debug, Deserialize)]
struct Published {
    events: Vec<String>,
}

/// Runs one of the commands for queues.
pub(super) fn run(command: QueueCommand) -> Result<(), ClientError> {
    match command {
        QueueCommand::Send(args) => send(&args),
        QueueCommand::List(args) => list(&args),
        QueueCommand::Set(args) => set(&args),
        QueueCommand::Pause(args) => set_paused(&args, "pause", "paused"),
        QueueCommand::Resume(args) => set_paused(&args, "resume", "resumed"),
    }
}

fn send(args: &SendArgs) -> Result<(), ClientError> {
    let path = args.app.path(&format!("/queues/{}/messages", segment(args.queue.as_str())))?;
    let api = Api::connect(&args.common)?;
    let mut message = json!({ "body": read_json(&args.body)? });
    if let Some(delay) = args.delay_ms {
        message["delay_ms"] = delay.into();
    }
    if let Some(priority) = args.priority {
        message["priority"] = priority.into();
    }
    for (name, value) in [("dedupe_key", &args.dedupe_key), ("group", &args.group)] {
        if let Some(value) = value {
            message[name] = value.as_str().into();
        }
    }
    let answer = api.call(Method::POST, &path, Payload::Json(&message))?;
    if args.common.json {
        return print_json(&answer);
    }
    let sent: Sent = api.read(&answer)?;
    let note = if sent.duplicate { " (sent before, with the same key)" } else { "" };
    terminal::line(format_args!("{}{note}", printable(&sent.id)))?;
    Ok(())
}

fn list(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/queues")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch(&api, &path, &[], None)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["QUEUE", "WAITING", "RUNNING", "AT ONCE", "TRIGGER"]);
    for queue in items.read::<Queue>(&api)? {
        let waiting = if queue.waiting >= 10_000 { "10000+".to_owned() } else { queue.waiting.to_string() };
        let at_once = queue.concurrency.map_or_else(|| "-".to_owned(), |most| most.to_string());
        let trigger = match (queue.paused_at, queue.consumer) {
            (Some(since), Some(consumer)) => format!("{consumer}, paused since {}", short_time(&since)),
            (Some(since), None) => format!("none, paused since {}", short_time(&since)),
            (None, Some(consumer)) => consumer,
            (None, None) => "none: its messages wait".to_owned(),
        };
        table.row([queue.name, waiting, queue.running.to_string(), at_once, trigger]);
    }
    table.print("no queues; `picloud queue send QUEUE BODY` sends a message to one")?;
    Ok(())
}

fn set(args: &SetArgs) -> Result<(), ClientError> {
    let QueueArgs { queue, app, common } = &args.queue;
    let path = app.path(&format!("/queues/{}", segment(queue.as_str())))?;
    let change = json!({ "concurrency": args.concurrency });
    let answer = Api::connect(common)?.call(Method::PATCH, &path, Payload::Json(&change))?;
    if common.json {
        return print_json(&answer);
    }
    let most =
        args.concurrency.map_or_else(|| "as many as the app may run".to_owned(), |most| most.to_string());
    terminal::note(format_args!("{queue}: {most} at once"));
    Ok(())
}

fn set_paused(args: &QueueArgs, call: &str, done: &str) -> Result<(), ClientError> {
    let path = args.app.path(&format!("/queues/{}/{call}", segment(args.queue.as_str())))?;
    Api::connect(&args.common)?.call(Method::POST, &path, Payload::None)?;
    terminal::note(format_args!("{done} {}", args.queue));
    Ok(())
}

/// Publishes on a topic.
pub(super) fn publish(args: &PublishArgs) -> Result<(), ClientError> {
    let path = args.app.path(&format!("/topics/{}/publish", segment(args.topic.as_str())))?;
    let publication = json!({ "body": read_json(&args.body)? });
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::POST, &path, Payload::Json(&publication))?;
    if args.common.json {
        return print_json(&answer);
    }
    match api.read::<Published>(&answer)?.events.len() {
        0 => terminal::note(format_args!("no trigger listens to {}", args.topic)),
        count => terminal::note(format_args!("published for {count} of the app's triggers")),
    }
    Ok(())
}

pub(super) fn queue(text: &str) -> Result<QueueName, String> {
    QueueName::new(text).map_err(|error| error.to_string())
}

fn topic(text: &str) -> Result<TopicName, String> {
    TopicName::new(text).map_err(|error| error.to_string())
}
