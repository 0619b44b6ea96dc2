//! `picloud trigger add`.

use clap::{ArgGroup, Args};
use picloud_core::{
    CollectionPattern, KvOperation, MailboxName, QueueName, ScriptName, TopicPattern, TriggerName,
    TriggerSpec, wording::reworded_json,
};
use serde_json::{Value, json};
use ureq::http::Method;

use super::{
    super::{
        AppArgs, CommonArgs,
        api::{Api, Payload, segment},
        error::ClientError,
        session::print_json,
    },
    Trigger, trigger_name,
    view::clock_with_offset,
};
use crate::{
    terminal::{self, printable},
    units,
};

/// `picloud trigger add`.
#[expect(clippy::option_option, reason = "clap's form of an option whose value may be left out")]
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").required(true).args(["cron", "queue", "topic", "kv", "email", "dead_letters"])))]
#[command(after_help = "\
Examples:
  picloud trigger add nightly --script report --cron \"0 3 * * *\" \\
    --timezone Europe/Berlin
  picloud trigger add work --script worker --queue jobs --concurrency 4
  picloud trigger add billing --script bill --topic \"orders/*\"
  picloud trigger add index --script search --kv \"users:*\" --on set
  picloud trigger add inbox --script support --email support
  picloud trigger add alarm --script alarm --dead-letters --of-kind queue")]
pub(crate) struct AddArgs {
    /// Its name, which no other trigger of the app has
    #[arg(value_name = "NAME", value_parser = trigger_name)]
    name: TriggerName,
    /// The script that handles its events
    #[arg(long, short, value_name = "SCRIPT")]
    script: ScriptName,

    /// Run at these times: minute, hour, day of the month, month and day of the week, with the second before them or
    /// not, or a word such as @daily
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// The time zone of --cron, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "cron")]
    timezone: Option<String>,
    /// What is done about runs that nobody was there for: skip, once or all [default: once]
    #[arg(long, value_name = "POLICY", requires = "cron", value_parser = ["skip", "once", "all"])]
    missed: Option<String>,
    /// How late a run may be: a time with s, min or h, 1s to 168h [default: 1h]
    #[arg(long, value_name = "TIME", requires = "cron", value_parser = milliseconds)]
    max_lateness: Option<u64>,
    /// Spread runs over so much time after theirs, at most 1h
    #[arg(long, value_name = "TIME", requires = "cron", value_parser = milliseconds)]
    jitter: Option<u64>,

    /// Handle the messages of a queue; a queue has one trigger
    #[arg(long, value_name = "QUEUE")]
    queue: Option<QueueName>,
    /// How many of its messages are handled at once
    #[arg(long, value_name = "N", requires = "queue")]
    concurrency: Option<u32>,

    /// Handle publications on a topic; `*` at the end is whatever follows
    #[arg(long, value_name = "PATTERN")]
    topic: Option<TopicPattern>,

    /// Handle changes of key-value entries of a collection; `*` at the end is whatever follows
    #[arg(long, value_name = "PATTERN")]
    kv: Option<CollectionPattern>,
    /// Which changes: set, delete; may be given twice [default: both]
    #[arg(long, value_name = "CHANGE", requires = "kv", value_parser = operation)]
    on: Vec<KvOperation>,

    /// Handle e-mail to an address, named without what is after the @ [default: APP.NAME]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1)]
    email: Option<Option<MailboxName>>,

    /// Handle events that were given up
    #[arg(long)]
    dead_letters: bool,
    /// Only of events of a kind, such as queue or http; may be given more than once
    #[arg(long, value_name = "KIND", requires = "dead_letters")]
    of_kind: Vec<String>,
    /// Only of the events of a trigger; may be given more than once
    #[arg(long, value_name = "TRIGGER", requires = "dead_letters", value_parser = trigger_name)]
    of_trigger: Vec<TriggerName>,

    /// How often an event is tried, 1 to 100 [default: the server's]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u16>,
    /// How long to wait after the first failure; each further one doubles it [default: the server's]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    retry_delay: Option<u64>,
    /// The longest wait [default: the server's]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    retry_max_delay: Option<u64>,
    /// Add it without letting it begin
    #[arg(long)]
    disabled: bool,
    /// Replace the trigger of this name if there is one
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Adds it, after it was checked here as the server does.
pub(super) fn run(args: &AddArgs) -> Result<(), ClientError> {
    let path = args.app.path("/triggers")?;
    let trigger = args.trigger();
    let spec = serde_json::from_value::<TriggerSpec>(trigger.clone());
    spec.map_err(|error| ClientError::Input(reworded_json(&error)))?;
    let api = Api::connect(&args.common)?;
    let answer = if args.replace {
        let path = format!("{path}/{}", segment(args.name.as_str()));
        api.call(Method::PUT, &path, Payload::Json(&trigger))?
    } else {
        api.call(Method::POST, &path, Payload::Json(&trigger))?
    };
    if args.common.json {
        return print_json(&answer);
    }
    let trigger: Trigger = api.read(&answer)?;
    terminal::line(printable(&trigger.sentence()))?;
    if let Some(time) = &trigger.next_at {
        terminal::note(format_args!("it runs next at {}", clock_with_offset(time)));
    }
    for warning in &trigger.warnings {
        terminal::warning(printable(warning));
    }
    Ok(())
}

impl AddArgs {
    /// The trigger as the API takes it, with what was given only.
    fn trigger(&self) -> Value {
        let operations = (!self.on.is_empty()).then_some(&self.on);
        let kinds = (!self.of_kind.is_empty()).then_some(&self.of_kind);
        let triggers = (!self.of_trigger.is_empty()).then_some(&self.of_trigger);
        let fields = [
            ("name", json!(self.name)),
            ("kind", json!(self.kind())),
            ("script", json!(self.script)),
            ("cron", json!(self.cron)),
            ("timezone", json!(self.timezone)),
            ("missed", json!(self.missed)),
            ("max_lateness_ms", json!(self.max_lateness)),
            ("jitter_ms", json!(self.jitter)),
            ("queue", json!(self.queue)),
            ("concurrency", json!(self.concurrency)),
            ("topic", json!(self.topic)),
            ("collection", json!(self.kv)),
            ("operations", json!(operations)),
            ("address", json!(self.email.as_ref().and_then(Option::as_ref))),
            ("source_kinds", json!(kinds)),
            ("source_triggers", json!(triggers)),
            ("max_attempts", json!(self.max_attempts)),
            ("retry_base_delay_ms", json!(self.retry_delay)),
            ("retry_max_delay_ms", json!(self.retry_max_delay)),
            ("enabled", json!(!self.disabled)),
        ];
        let given = fields.into_iter().filter(|(_, value)| !value.is_null());
        Value::Object(given.map(|(name, value)| (name.to_owned(), value)).collect())
    }

    const fn kind(&self) -> &'static str {
        if self.cron.is_some() {
            "cron"
        } else if self.queue.is_some() {
            "queue"
        } else if self.topic.is_some() {
            "topic"
        } else if self.kv.is_some() {
            "kv"
        } else if self.email.is_some() {
            "email"
        } else {
            "dead_letter"
        }
    }
}

fn milliseconds(text: &str) -> Result<u64, String> {
    units::parse_millis(text)
        .ok_or_else(|| format!("{text:?} is no time; allowed is one such as 500ms, 30s or 1h"))
}

fn operation(text: &str) -> Result<KvOperation, String> {
    match text {
        "set" => Ok(KvOperation::Set),
        "delete" => Ok(KvOperation::Delete),
        _ => Err(format!("{text:?} is no change; allowed are set and delete")),
    }
}
