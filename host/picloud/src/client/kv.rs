//! `picloud kv`: an app's key-value data.

use clap::{Args, Subcommand};
use picloud_core::{CollectionName, KvKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs,
    api::{Api, Payload, segment},
    apps::short_time,
    error::ClientError,
    invoke::{print_value, read_json},
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table};

/// What can be done with data.
#[derive(Debug, Subcommand)]
pub(crate) enum KvCommand {
    /// Print the value of a key
    Get(EntryArgs),
    /// Set the value of a key
    Set(SetArgs),
    /// List the keys of a collection, or the collections
    Ls(ListArgs),
    /// Remove a key
    Rm(EntryArgs),
}

/// A command about one key.
#[derive(Debug, Args)]
pub(crate) struct EntryArgs {
    /// The collection
    collection: String,
    /// The key
    key: String,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud kv set`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud kv set users bob '{\"age\":42}'\n  picloud kv set notes today @note.json --ttl 3600"
)]
pub(crate) struct SetArgs {
    /// The collection
    collection: String,
    /// The key
    key: String,
    /// The value as JSON, @FILE to read it from a file, or - for standard input
    #[arg(value_name = "JSON")]
    value: String,
    /// Seconds after which the key is removed
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    ttl: Option<u64>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud kv ls`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The collection; without one, the collections are listed
    collection: Option<String>,
    /// Only keys that start with this text
    #[arg(long, value_name = "TEXT", requires = "collection")]
    prefix: Option<String>,
    /// At most this many
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 1000)]
    limit: usize,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct Entry {
    key: String,
    value: Box<RawValue>,
    version: i64,
    expires_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Collection {
    name: String,
    entries: u64,
    bytes: u64,
}

/// The widest value that a table shows, in characters.
const SHOWN_VALUE: usize = 60;

/// Runs one of the commands.
pub(super) fn run(command: KvCommand) -> Result<(), ClientError> {
    match command {
        KvCommand::Get(args) => get(&args),
        KvCommand::Set(args) => set(&args),
        KvCommand::Ls(args) => list(&args),
        KvCommand::Rm(args) => remove(&args),
    }
}

fn get(args: &EntryArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let answer = api.get(&entry_path(&args.app, &args.collection, &args.key)?)?;
    if args.common.json {
        return print_json(&answer);
    }
    let entry: Entry = api.read(&answer)?;
    print_value(&entry.value)
}

fn set(args: &SetArgs) -> Result<(), ClientError> {
    let path = entry_path(&args.app, &args.collection, &args.key)?;
    let value = read_json(&args.value)?;
    let ttl = args.ttl.map(|seconds| format!(",\"ttl_seconds\":{seconds}")).unwrap_or_default();
    let api = Api::connect(&args.common)?;
    // The value goes as it was written, so that its numbers keep every digit.
    let answer = api.call(Method::PUT, &path, Payload::JsonText(&format!("{{\"value\":{value}{ttl}}}")))?;
    if args.common.json {
        return print_json(&answer);
    }
    let entry: Entry = api.read(&answer)?;
    terminal::note(format_args!("{} is at version {}", terminal::printable(&entry.key), entry.version));
    Ok(())
}

fn remove(args: &EntryArgs) -> Result<(), ClientError> {
    let path = entry_path(&args.app, &args.collection, &args.key)?;
    let api = Api::connect(&args.common)?;
    api.call(Method::DELETE, &path, Payload::None)?;
    terminal::note(format_args!("removed {}", terminal::printable(&args.key)));
    Ok(())
}

fn list(args: &ListArgs) -> Result<(), ClientError> {
    let api = Api::connect(&args.common)?;
    let collection = args.collection.as_deref().map(|name| format!("/{}", segment(name))).unwrap_or_default();
    let path = args.app.path(&format!("/kv{collection}"))?;
    let items = Items::fetch(&api, &path, &[("prefix", args.prefix.clone())], Some(args.limit.max(1)))?;
    if args.common.json {
        return print_json(&items.json());
    }
    if args.collection.is_none() {
        let mut table = Table::new(&["COLLECTION", "KEYS", "BYTES"]);
        for collection in items.read::<Collection>(&api)? {
            table.row([collection.name, collection.entries.to_string(), collection.bytes.to_string()]);
        }
        table.print("no data yet")?;
        return Ok(());
    }
    let mut table = Table::new(&["KEY", "VERSION", "EXPIRES", "VALUE"]);
    for entry in items.read::<Entry>(&api)? {
        let expires = entry.expires_at.as_deref().map(short_time).unwrap_or_default();
        table.row([entry.key, entry.version.to_string(), expires, cut(entry.value.get(), SHOWN_VALUE)]);
    }
    table.print("no such keys")?;
    Ok(())
}

/// At most `most` characters of a text, and a sign that there were more.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn entry_path(app: &AppArgs, collection: &str, key: &str) -> Result<String, ClientError> {
    // Nothing at all would make another path of it.
    let checked = CollectionName::new(collection).and_then(|_| KvKey::new(key));
    checked.map_err(|error| ClientError::Input(error.to_string()))?;
    app.path(&format!("/kv/{}/{}", segment(collection), segment(key)))
}
