//! `picloud dlq`: dead letters, the events that were given up.

use clap::{Args, Subcommand};
use picloud_core::DeadLetterId;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs, WholeAppArgs,
    api::{Api, Payload},
    apps::short_time,
    error::{ClientError, LogLine},
    invoke::{level, read_json},
    kv::cut,
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table, printable};

/// What can be done with events that were given up.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List those that nobody has looked after
    List(ListArgs),
    /// Show one with what its event says
    Show(LetterArgs),
    /// Count those that nobody has looked after by their error
    Fingerprints(WholeAppArgs),
    /// Put one, or many, into the outbox again
    Replay(ReplayArgs),
    /// Run its handler, show what it would do, and do nothing of it
    DryRun(DryRunArgs),
    /// Say that nothing is to be done about one, or about many
    Ignore(IgnoreArgs),
}

/// `picloud dlq list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Those that were looked after as well
    #[arg(long)]
    all: bool,
    /// Those in this state only: `unresolved`, `handled_by_script`, `handler_failed`, `ignored`, `replayed`
    #[arg(long, value_name = "STATE", conflicts_with = "all")]
    resolution: Option<String>,
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

/// Which of many are meant.
#[derive(Debug, Args)]
struct ManyArgs {
    /// All with this fingerprint
    #[arg(long, value_name = "FINGERPRINT", conflicts_with_all = ["id", "all"])]
    fingerprint: Option<String>,
    /// All of this trigger
    #[arg(long, value_name = "NAME", conflicts_with_all = ["id", "all"])]
    trigger: Option<String>,
    /// All of this script
    #[arg(long, value_name = "NAME", conflicts_with_all = ["id", "all"])]
    script: Option<String>,
    /// All that nobody has looked after
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Those in this state instead of those that nobody has looked after, such as `handled_by_script`
    #[arg(long, value_name = "STATE", conflicts_with = "id")]
    resolution: Option<String>,
}

/// How one is replayed.
#[derive(Debug, Args)]
struct EditArgs {
    /// What the event is to say instead: a JSON object (`@FILE`, `-` for standard input), as `picloud dlq show` has it
    #[arg(long, value_name = "JSON")]
    event: Option<String>,
    /// The version of the script that is to handle it [default: the active one]
    #[arg(long, value_name = "NUMBER")]
    version: Option<i32>,
}

/// `picloud dlq replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud dlq replay ID --event '{\"body\": {\"id\": 8}}'\n  picloud dlq replay --fingerprint a34e5b1c90d2f718\n  picloud dlq replay --all"
)]
pub(crate) struct ReplayArgs {
    /// The id of one
    #[arg(required_unless_present_any = ["fingerprint", "trigger", "script", "all"])]
    id: Option<DeadLetterId>,
    #[command(flatten)]
    edit: EditArgs,
    #[command(flatten)]
    many: ManyArgs,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud dlq dry-run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud dlq dry-run ID --version 3")]
pub(crate) struct DryRunArgs {
    #[command(flatten)]
    letter: LetterArgs,
    #[command(flatten)]
    edit: EditArgs,
}

/// `picloud dlq ignore`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud dlq ignore ID\n  picloud dlq ignore --trigger nightly")]
pub(crate) struct IgnoreArgs {
    /// The id of one
    #[arg(required_unless_present_any = ["fingerprint", "trigger", "script", "all"])]
    id: Option<DeadLetterId>,
    #[command(flatten)]
    many: ManyArgs,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
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

#[derive(Debug, Deserialize)]
struct WholeLetter {
    #[serde(flatten)]
    letter: Letter,
    event_id: String,
    event: Value,
}

/// What a dry run has found.
#[derive(Debug, Deserialize)]
struct Tried {
    result: Option<Value>,
    error: Option<LetterError>,
    kv: Vec<KvChange>,
    files: Vec<FileChange>,
    events: Vec<Sent>,
    logs: Vec<LogLine>,
}

#[derive(Debug, Deserialize)]
struct KvChange {
    collection: String,
    key: String,
    operation: String,
    value: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct FileChange {
    path: String,
    operation: String,
}

#[derive(Debug, Deserialize)]
struct Sent {
    kind: String,
    to: Option<String>,
    body: Value,
}

#[derive(Debug, Deserialize)]
struct ManyReplayed {
    replayed: Vec<Value>,
    remaining: u64,
}

#[derive(Debug, Deserialize)]
struct ManyIgnored {
    ignored: u64,
    remaining: u64,
}

#[derive(Debug, Deserialize)]
struct SameError {
    fingerprint: String,
    count: u64,
    error: LetterError,
    last_at: String,
}

/// The widest error text that a table shows, in characters.
const SHOWN_ERROR: usize = 60;

/// Runs one of the commands.
pub(super) fn run(command: DlqCommand) -> Result<(), ClientError> {
    match command {
        DlqCommand::List(args) => list(&args),
        DlqCommand::Show(args) => show(&args),
        DlqCommand::Fingerprints(args) => fingerprints(&args),
        DlqCommand::Replay(args) => replay(&args),
        DlqCommand::DryRun(args) => dry_run(&args),
        DlqCommand::Ignore(args) => ignore(&args),
    }
}

fn list(args: &ListArgs) -> Result<(), ClientError> {
    let open = (!args.all).then(|| "unresolved".to_owned());
    let resolution = args.resolution.clone().or(open);
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
    let empty = if args.all {
        "no dead letters"
    } else {
        "no dead letters that nobody has looked after; --all has all"
    };
    table.print(empty)?;
    Ok(())
}

fn show(args: &LetterArgs) -> Result<(), ClientError> {
    let path = letter_path(&args.app, args.id, "")?;
    let api = Api::connect(&args.common)?;
    let answer = api.get(&path)?;
    if args.common.json {
        return print_json(&answer);
    }
    let whole: WholeLetter = api.read(&answer)?;
    let Letter { kind, trigger, script, error, fingerprint, attempts, created_at, resolution, .. } =
        whole.letter;
    let handler = [trigger, script].into_iter().flatten().collect::<Vec<_>>().join(" > ");
    let lines = [
        ("event", whole.event_id),
        ("kind", kind),
        ("handler", handler),
        ("error", format!("{}: {}", error.code, error.message)),
        ("fingerprint", fingerprint),
        ("tries", attempts.to_string()),
        ("given up", short_time(&created_at)),
        ("state", resolution.unwrap_or_else(|| "open".to_owned())),
    ];
    for (name, value) in lines {
        terminal::line(format_args!("{name:<12} {}", printable(&value)))?;
    }
    terminal::foreign(&format!("{:#}", whole.event))?;
    Ok(())
}

fn dry_run(args: &DryRunArgs) -> Result<(), ClientError> {
    let path = letter_path(&args.letter.app, args.letter.id, "/dry-run")?;
    let api = Api::connect(&args.letter.common)?;
    let answer = api.call(Method::POST, &path, Payload::Json(&args.edit.json()?))?;
    let tried: Tried = api.read(&answer)?;
    if args.letter.common.json {
        print_json(&answer)?;
    } else {
        tried.print()?;
    }
    match tried.error {
        Some(error) => Err(ClientError::Run(format!("{}: {}", error.code, error.message))),
        None => Ok(()),
    }
}

impl Tried {
    fn print(&self) -> Result<(), ClientError> {
        for line in &self.logs {
            terminal::note(format_args!("{} {}", level(&line.level), printable(&line.message)));
        }
        for change in &self.kv {
            let value = change.value.as_ref().map(|value| format!(" {value}")).unwrap_or_default();
            let (operation, collection, key) = (&change.operation, &change.collection, &change.key);
            terminal::line(printable(&format!("would {operation} {collection}/{key}{value}")))?;
        }
        for change in &self.files {
            terminal::line(printable(&format!("would {} the file {}", change.operation, change.path)))?;
        }
        for event in &self.events {
            let to = event.to.as_ref().map(|to| format!(" {to}")).unwrap_or_default();
            terminal::line(printable(&format!("would send {}{to} {}", event.kind, event.body)))?;
        }
        if let Some(result) = &self.result {
            terminal::line(printable(&format!("would answer {result}")))?;
        }
        terminal::note("nothing of it is done");
        Ok(())
    }
}

fn fingerprints(args: &WholeAppArgs) -> Result<(), ClientError> {
    let path = args.app.path("/dead-letters/fingerprints")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch(&api, &path, &[], None)?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["FINGERPRINT", "COUNT", "LAST", "ERROR"]);
    for found in items.read::<SameError>(&api)? {
        let error = cut(&format!("{}: {}", found.error.code, found.error.message), SHOWN_ERROR);
        table.row([found.fingerprint, found.count.to_string(), short_time(&found.last_at), error]);
    }
    table.print("no dead letters that nobody has looked after; `picloud dlq list --all` has all")?;
    Ok(())
}

fn replay(args: &ReplayArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let Some(id) = args.id else {
        if args.edit.event.is_some() || args.edit.version.is_some() {
            return Err(ClientError::Input(
                "--event and --version are for one dead letter: give its id".into(),
            ));
        }
        let path = args.app.path("/dead-letters/replay")?;
        let mut replayed = Vec::new();
        loop {
            let answer = api.call(Method::POST, &path, Payload::Json(&args.many.json()))?;
            let mut part: ManyReplayed = api.read(&answer)?;
            let is_last = part.remaining == 0 || part.replayed.is_empty();
            replayed.append(&mut part.replayed);
            if is_last {
                break;
            }
            terminal::note(format_args!("replayed {}, {} to go", replayed.len(), part.remaining));
        }
        if args.common.json {
            return print_json(&json!({ "replayed": replayed }).to_string());
        }
        args.many.report("replayed", replayed.len() as u64);
        return Ok(());
    };
    let path = letter_path(&args.app, id, "/replay")?;
    let answer = api.call(Method::POST, &path, Payload::Json(&args.edit.json()?))?;
    if args.common.json {
        return print_json(&answer);
    }
    let replayed: Replayed = api.read(&answer)?;
    let how = if replayed.already { "was replayed before, as the event" } else { "is replayed as the event" };
    terminal::line(format_args!("{id} {how} {}", printable(&replayed.event_id)))?;
    Ok(())
}

fn ignore(args: &IgnoreArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let ignored = match args.id {
        Some(id) => {
            api.call(Method::POST, &letter_path(&args.app, id, "/ignore")?, Payload::None)?;
            if !args.common.json {
                terminal::note(format_args!("ignored {id}"));
                return Ok(());
            }
            1
        }
        None => {
            let path = args.app.path("/dead-letters/ignore")?;
            let mut ignored = 0;
            loop {
                let answer = api.call(Method::POST, &path, Payload::Json(&args.many.json()))?;
                let part: ManyIgnored = api.read(&answer)?;
                ignored += part.ignored;
                if part.remaining == 0 || part.ignored == 0 {
                    break ignored;
                }
            }
        }
    };
    if args.common.json {
        return print_json(&json!({ "ignored": ignored }).to_string());
    }
    args.many.report("ignored", ignored);
    Ok(())
}

impl ManyArgs {
    fn json(&self) -> Value {
        let Self { fingerprint, trigger, script, all, resolution } = self;
        let mut many =
            json!({ "fingerprint": fingerprint, "trigger": trigger, "script": script, "all": all });
        if let Some(resolution) = resolution {
            many["resolution"] = resolution.as_str().into();
        }
        many
    }

    /// Says how many letters were replayed or ignored; of none, why that may be.
    fn report(&self, done: &str, count: u64) {
        let hint = if count == 0 && self.resolution.is_none() {
            "; what a trigger has handled is meant with --resolution handled_by_script"
        } else {
            ""
        };
        terminal::note(format_args!("{done} {count} dead letters{hint}"));
    }
}

impl EditArgs {
    fn json(&self) -> Result<Value, ClientError> {
        let mut edit = json!({});
        if let Some(event) = &self.event {
            edit["event"] = json!(read_json(event)?);
        }
        if let Some(version) = self.version {
            edit["version"] = version.into();
        }
        Ok(edit)
    }
}

fn letter_path(app: &AppArgs, id: DeadLetterId, rest: &str) -> Result<String, ClientError> {
    app.path(&format!("/dead-letters/{id}{rest}"))
}
