//! `picloud queue`, `picloud publish` and `picloud dlq`: messages, publications, and events that were given up.

use clap::{Args, Subcommand};
use picloud_core::{DeadLetterId, QueueName, TopicName};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    api::{Api, Payload, segment},
    apps::short_time,
    error::ClientError,
    kv::cut,
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
    /// Let the messages of a queue wait
    Pause(QueueArgs),
    /// Let a paused queue go on
    Resume(QueueArgs),
}

/// What can be done with events that were given up.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List those that nobody has looked after
    List(ListArgs),
    /// Show one with what its event says
    Show(LetterArgs),
    /// Put one into the outbox again
    Replay(ReplayArgs),
    /// Run its handler, show what it would do, and do nothing of it
    DryRun(ReplayArgs),
    /// Say that nothing is to be done about one
    Ignore(LetterArgs),
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
    /// The body: JSON
    #[arg(value_parser = body)]
    body: Box<RawValue>,
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

/// `picloud publish`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud publish orders/new '{\"id\": 7}'")]
pub(crate) struct PublishArgs {
    /// The topic
    #[arg(value_parser = topic)]
    topic: TopicName,
    /// The body: JSON
    #[arg(value_parser = body)]
    body: Box<RawValue>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud dlq list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Those that were looked after as well
    #[arg(long)]
    all: bool,
    /// With this fingerprint only
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
    /// Of this trigger only
    #[arg(long, value_name = "NAME")]
    trigger: Option<String>,
    /// Of this script only
    #[arg(long, value_name = "NAME")]
    script: Option<String>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// A dead letter of an app.
#[derive(Debug, Args)]
pub(crate) struct LetterArgs {
    /// Its id
    id: DeadLetterId,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud dlq replay` and `picloud dlq dry-run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud dlq dry-run ID --version 3\n  picloud dlq replay ID --event '{\"body\": {\"id\": 8}}'"
)]
pub(crate) struct ReplayArgs {
    /// Its id
    id: DeadLetterId,
    /// What the event is to say instead: a JSON object as `picloud dlq show` has it in `event`
    #[arg(long, value_name = "JSON", value_parser = body)]
    event: Option<Box<RawValue>>,
    /// The version of the script that is to handle it [default: the active one]
    #[arg(long, value_name = "NUMBER")]
    version: Option<i32>,
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

#[derive(Debug, Deserialize)]
struct Letter {
    id: String,
    kind: String,
    trigger: Option<String>,
    script: Option<String>,
    error: LetterError,
    fingerprint: String,
    attempts: u16,
    created_at: String,
    resolution: Option<String>,
}

#[derive(Debug, Deserialize)]
struct LetterError {
    code: String,
    message: String,
}

#[derive(Debug, Deserialize)]
struct Replayed {
    event_id: String,
    already: bool,
}

/// The widest error text that a table shows, in characters.
const SHOWN_ERROR: usize = 60;

/// Runs one of the commands for queues.
pub(super) fn run(command: QueueCommand) -> Result<(), ClientError> {
    match command {
        QueueCommand::Send(args) => send(&args),
        QueueCommand::List(args) => list(&args),
        QueueCommand::Pause(args) => set_paused(&args, "pause", "paused"),
        QueueCommand::Resume(args) => set_paused(&args, "resume", "resumed"),
    }
}

/// Runs one of the commands for dead letters.
pub(super) fn run_dlq(command: DlqCommand) -> Result<(), ClientError> {
    match command {
        DlqCommand::List(args) => list_letters(&args),
        DlqCommand::Show(args) => {
            let path = letter_path(&args.app, args.id, "")?;
            print_json(&Api::connect(&args.common)?.get(&path)?)
        }
        DlqCommand::Replay(args) => replay(&args),
        DlqCommand::DryRun(args) => {
            let path = letter_path(&args.app, args.id, "/dry-run")?;
            let api = Api::connect(&args.common)?;
            print_json(&api.call(Method::POST, &path, Payload::Json(&replay_of(&args)))?)
        }
        DlqCommand::Ignore(args) => {
            let path = letter_path(&args.app, args.id, "/ignore")?;
            Api::connect(&args.common)?.call(Method::POST, &path, Payload::None)?;
            terminal::note(format_args!("ignored {}", args.id));
            Ok(())
        }
    }
}

fn send(args: &SendArgs) -> Result<(), ClientError> {
    let path = args.app.path(&format!("/queues/{}/messages", segment(args.queue.as_str())))?;
    let api = Api::connect(&args.common)?;
    let mut message = json!({ "body": args.body });
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
            (Some(since), _) => format!("paused since {}", short_time(&since)),
            (None, Some(consumer)) => consumer,
            (None, None) => "none: its messages wait".to_owned(),
        };
        table.row([queue.name, waiting, queue.running.to_string(), at_once, trigger]);
    }
    table.print("no queues; `picloud queue send QUEUE BODY` sends a message to one")?;
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
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::POST, &path, Payload::Json(&json!({ "body": args.body })))?;
    if args.common.json {
        return print_json(&answer);
    }
    match api.read::<Published>(&answer)?.events.len() {
        0 => terminal::note(format_args!("no trigger listens to {}", args.topic)),
        count => terminal::note(format_args!("published for {count} of the app's triggers")),
    }
    Ok(())
}

fn list_letters(args: &ListArgs) -> Result<(), ClientError> {
    let resolution = (!args.all).then(|| "unresolved".to_owned());
    let query = [
        ("resolution", resolution),
        ("fingerprint", args.fingerprint.clone()),
        ("trigger", args.trigger.clone()),
        ("script", args.script.clone()),
    ];
    let path = args.app.path("/dead-letters")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch(&api, &path, &query, None)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table =
        Table::new(&["ID", "GIVEN UP", "KIND", "TRIGGER", "TRIES", "STATE", "FINGERPRINT", "ERROR"]);
    for letter in items.read::<Letter>(&api)? {
        let handler = letter.trigger.or(letter.script).unwrap_or_default();
        let error = cut(&format!("{}: {}", letter.error.code, letter.error.message), SHOWN_ERROR);
        let (tries, state) =
            (letter.attempts.to_string(), letter.resolution.unwrap_or_else(|| "open".to_owned()));
        let at = short_time(&letter.created_at);
        table.row([letter.id, at, letter.kind, handler, tries, state, letter.fingerprint, error]);
    }
    table.print("no dead letters")?;
    Ok(())
}

fn replay(args: &ReplayArgs) -> Result<(), ClientError> {
    let path = letter_path(&args.app, args.id, "/replay")?;
    let api = Api::connect(&args.common)?;
    let answer = api.call(Method::POST, &path, Payload::Json(&replay_of(args)))?;
    if args.common.json {
        return print_json(&answer);
    }
    let replayed: Replayed = api.read(&answer)?;
    let how = if replayed.already { "was replayed before, as the event" } else { "is replayed as the event" };
    terminal::line(format_args!("{} {how} {}", args.id, printable(&replayed.event_id)))?;
    Ok(())
}

fn replay_of(args: &ReplayArgs) -> serde_json::Value {
    let mut replay = json!({});
    if let Some(event) = &args.event {
        replay["event"] = json!(event);
    }
    if let Some(version) = args.version {
        replay["version"] = version.into();
    }
    replay
}

fn letter_path(app: &AppArgs, id: DeadLetterId, rest: &str) -> Result<String, ClientError> {
    app.path(&format!("/dead-letters/{id}{rest}"))
}

fn queue(text: &str) -> Result<QueueName, String> {
    QueueName::new(text).map_err(|error| error.to_string())
}

fn topic(text: &str) -> Result<TopicName, String> {
    TopicName::new(text).map_err(|error| error.to_string())
}

fn body(text: &str) -> Result<Box<RawValue>, String> {
    serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))
}
