//! `picloud event`: what waits, what became of an event, and what came of it.

use clap::{Args, Subcommand};
use picloud_core::{EventId, QueueName};
use serde::Deserialize;
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs,
    api::{Api, Payload},
    apps::short_time,
    error::ClientError,
    kv::cut,
    pages::Items,
    queues::queue,
    session::print_json,
};
use crate::terminal::{self, Table, printable};

/// What can be done with events.
#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// List what waits and what is handled now
    List(ListArgs),
    /// Show where an event is
    Show(EventArgs),
    /// Show what an event came of, and all that came of that
    Tree(EventArgs),
    /// Take back an event that waits; it becomes a dead letter that is ignored
    Cancel(EventArgs),
}

/// `picloud event list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of this queue only
    #[arg(long, value_name = "QUEUE", value_parser = queue)]
    queue: Option<QueueName>,
    /// At most this many, the newest first
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// An event of an app.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  picloud event tree 0198f1c2-7d3a-7c21-9f7e-3c5d1e2f4a6b --app demo")]
pub(crate) struct EventArgs {
    /// Its id
    id: EventId,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Waiting {
    id: String,
    kind: String,
    state: String,
    queue: Option<String>,
    trigger: Option<String>,
    script: Option<String>,
    run_at: Option<String>,
    attempts: u16,
    error: Option<Failure>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    code: String,
    message: String,
}

#[derive(Debug, Deserialize)]
struct Event {
    state: String,
    waiting: Option<Waiting>,
    dead_letter_id: Option<String>,
    execution_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Tree {
    events: Vec<Node>,
    truncated: bool,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    parent_id: Option<String>,
    kind: Option<String>,
    state: String,
    trigger: Option<String>,
    script: Option<String>,
    queue: Option<String>,
    attempts: u16,
    error: Option<Failure>,
    resolution: Option<String>,
    at: String,
}

/// The widest error text that is shown in a line, in characters.
const SHOWN_ERROR: usize = 60;

/// Runs one of the commands.
pub(super) fn run(command: EventCommand) -> Result<(), ClientError> {
    match command {
        EventCommand::List(args) => list(&args),
        EventCommand::Show(args) => show(&args),
        EventCommand::Tree(args) => tree(&args.common, &args.path("/tree")?),
        EventCommand::Cancel(args) => cancel(&args),
    }
}

impl EventArgs {
    fn path(&self, rest: &str) -> Result<String, ClientError> {
        self.app.path(&format!("/events/{}{rest}", self.id))
    }
}

fn list(args: &ListArgs) -> Result<(), ClientError> {
    let path = args.app.path("/outbox")?;
    let api = Api::connect(&args.common)?;
    let query = [("queue", args.queue.as_ref().map(|queue| queue.as_str().to_owned()))];
    let items = Items::fetch(&api, &path, &query, Some(args.limit.max(1)))?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["ID", "KIND", "STATE", "DUE", "HANDLER", "TRIES", "ERROR"]);
    for event in items.read::<Waiting>(&api)? {
        let due = event.run_at.as_deref().map_or_else(|| "-".to_owned(), short_time);
        let (handler, tries) = (event.handler(), event.attempts.to_string());
        let error = event.error.as_ref().map(Failure::line).unwrap_or_default();
        table.row([event.id, event.kind, event.state, due, handler, tries, error]);
    }
    table.print("nothing waits")?;
    Ok(())
}

fn show(args: &EventArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let answer = api.get(&args.path("")?)?;
    if args.common.json {
        return print_json(&answer);
    }
    let event: Event = api.read(&answer)?;
    let mut lines = vec![("state", event.state)];
    if let Some(waiting) = &event.waiting {
        lines.push(("kind", waiting.kind.clone()));
        lines.push(("handler", waiting.handler()));
        lines.extend(waiting.run_at.as_deref().map(|due| ("due", short_time(due))));
        lines.push(("tries", waiting.attempts.to_string()));
        lines.extend(
            waiting.error.as_ref().map(|error| ("error", format!("{}: {}", error.code, error.message))),
        );
    }
    lines.extend(event.dead_letter_id.map(|id| ("dead letter", id)));
    lines.extend(event.execution_id.map(|id| ("last run", id)));
    for (name, value) in lines {
        terminal::line(format_args!("{name:<12} {}", printable(&value)))?;
    }
    Ok(())
}

/// Shows the tree that a path of the API answers, a line for each event, indented below what it came of.
pub(super) fn tree(common: &CommonArgs, path: &str) -> Result<(), ClientError> {
    let api = Api::connect(common)?;
    let answer = api.get(path)?;
    if common.json {
        return print_json(&answer);
    }
    let tree: Tree = api.read(&answer)?;
    for (node, rails) in tree.events.iter().zip(rails(&tree.events)) {
        terminal::line(format_args!("{rails}{}", printable(&node.line())))?;
    }
    if tree.truncated {
        terminal::note("there are more than 1,000 events; some are left out");
    }
    Ok(())
}

fn cancel(args: &EventArgs) -> Result<(), ClientError> {
    let answer = Api::connect(&args.common)?.call(Method::DELETE, &args.path("")?, Payload::None)?;
    if args.common.json {
        return print_json(&answer);
    }
    terminal::note(format_args!("cancelled {}", args.id));
    Ok(())
}

impl Failure {
    fn line(&self) -> String {
        cut(&format!("{}: {}", self.code, self.message), SHOWN_ERROR)
    }
}

impl Waiting {
    fn handler(&self) -> String {
        let found = self.trigger.as_ref().or(self.script.as_ref());
        match (found, &self.queue) {
            (Some(name), _) => name.clone(),
            (None, Some(queue)) => format!("queue {queue}"),
            (None, None) => String::new(),
        }
    }
}

impl Node {
    fn line(&self) -> String {
        let Some(kind) = &self.kind else { return format!("{} (a run that is not kept)", self.id) };
        let mut line = match (&self.queue, &self.trigger) {
            (Some(queue), None) => format!("{kind} {queue}"),
            _ => kind.clone(),
        };
        for handler in [&self.trigger, &self.script].into_iter().flatten() {
            line = format!("{line} > {handler}");
        }
        line = format!("{line}  {}", self.state);
        if let Some(resolution) = &self.resolution {
            line = format!("{line}, {resolution}");
        }
        if self.attempts > 1 {
            line = format!("{line} after {} tries", self.attempts);
        }
        if let Some(error) = &self.error {
            line = format!("{line}: {}", error.line());
        }
        format!("{line}  {}  {}", short_time(&self.at), self.id)
    }
}

/// What stands before each node, so that the eye finds what it came of. Each parent is before its children.
fn rails(nodes: &[Node]) -> Vec<String> {
    let is_last = |at: usize| {
        let parent = &nodes[at].parent_id;
        !nodes[at + 1..].iter().any(|node| node.parent_id == *parent)
    };
    // What stands before the children of each node on the way to the current one.
    let mut path: Vec<(&str, String)> = Vec::new();
    let mut rails = Vec::with_capacity(nodes.len());
    for (at, node) in nodes.iter().enumerate() {
        while path.last().is_some_and(|(id, _)| Some(*id) != node.parent_id.as_deref()) {
            path.pop();
        }
        let Some((_, before)) = path.last().cloned() else {
            rails.push(String::new());
            path.push((&node.id, String::new()));
            continue;
        };
        let (own, below) = if is_last(at) { ("`-- ", "    ") } else { ("|-- ", "|   ") };
        rails.push(format!("{before}{own}"));
        path.push((&node.id, format!("{before}{below}")));
    }
    rails
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, parent: Option<&str>) -> Node {
        Node {
            id: id.into(),
            parent_id: parent.map(str::to_owned),
            kind: Some("queue".into()),
            state: "done".into(),
            trigger: Some("work".into()),
            script: Some("worker".into()),
            queue: Some("jobs".into()),
            attempts: 1,
            error: None,
            resolution: None,
            at: "2026-03-01T12:00:00Z".into(),
        }
    }

    #[test]
    fn each_event_is_below_what_it_came_of() {
        let nodes = [
            node("a", None),
            node("b", Some("a")),
            node("c", Some("b")),
            node("d", Some("b")),
            node("e", Some("a")),
            node("f", Some("e")),
        ];
        let shown: Vec<String> =
            nodes.iter().zip(rails(&nodes)).map(|(node, rails)| format!("{rails}{}", node.id)).collect();
        assert_eq!(shown, ["a", "|-- b", "|   |-- c", "|   `-- d", "`-- e", "    `-- f"]);
        assert_eq!(rails(&[]).len(), 0);
    }

    #[test]
    fn a_line_says_who_handled_it_and_how_it_ended() {
        let line = node("a", None).line();
        assert!(line.starts_with("queue > work > worker  done  ") && line.ends_with("  a"), "{line}");
        let error = Failure { code: "script_error".into(), message: "no".into() };
        let dead = Node { state: "dead".into(), attempts: 5, error: Some(error), ..node("a", None) };
        assert!(dead.line().contains("  dead after 5 tries: script_error: no  "), "{}", dead.line());
        let waiting = Node { trigger: None, script: None, ..node("a", None) };
        assert!(waiting.line().starts_with("queue jobs  done"), "{}", waiting.line());
        assert!(Node { kind: None, ..node("a", None) }.line().contains("not kept"));
    }
}
