//! `picloud files`: an app's files.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use picloud_core::{ContentType, FilePath, MAX_FILE_BYTES};
use serde::Deserialize;
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs,
    api::{Api, Payload, segment},
    apps::short_time,
    error::ClientError,
    files::{Links, file_error, read_bytes},
    pages::Items,
    session::print_json,
};
use crate::terminal::{self, Table, printable};

/// What can be done with files.
#[derive(Debug, Subcommand)]
pub(crate) enum FilesCommand {
    /// List files
    Ls(ListArgs),
    /// Print the content of a file, or save it
    Get(GetArgs),
    /// Upload a file
    Put(PutArgs),
    /// Remove a file
    Rm(RemoveArgs),
}

/// `picloud files ls`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only paths that start with this text
    prefix: Option<String>,
    /// At most this many
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 1000)]
    limit: usize,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud files get`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud files get reports/may.csv\n  picloud files get static/logo.png -o logo.png"
)]
pub(crate) struct GetArgs {
    /// Its path
    path: FilePath,
    /// Where to save it [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud files put`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  picloud files put static/logo.png logo.png\n  picloud files put data/feed feed.xml --type application/rss+xml"
)]
pub(crate) struct PutArgs {
    /// Its path in the app
    path: FilePath,
    /// The file to upload, of at most 8 MiB
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its media type [default: what its path tells]
    #[arg(long = "type", value_name = "TYPE")]
    content_type: Option<ContentType>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `picloud files rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Its path
    path: FilePath,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Deserialize)]
struct File {
    path: String,
    size: u64,
    #[serde(rename = "type")]
    content_type: String,
    modified: String,
}

/// Runs one of the commands.
pub(super) fn run(command: FilesCommand) -> Result<(), ClientError> {
    match command {
        FilesCommand::Ls(args) => list(&args),
        FilesCommand::Get(args) => get(&args),
        FilesCommand::Put(args) => put(&args),
        FilesCommand::Rm(args) => remove(&args),
    }
}

fn list(args: &ListArgs) -> Result<(), ClientError> {
    let path = args.app.path("/files")?;
    let api = Api::connect(&args.common)?;
    let items = Items::fetch(&api, &path, &[("prefix", args.prefix.clone())], Some(args.limit.max(1)))?;
    if args.common.json {
        return print_json(&items.json());
    }
    let mut table = Table::new(&["PATH", "BYTES", "TYPE", "MODIFIED"]);
    for file in items.read::<File>(&api)? {
        table.row([file.path, file.size.to_string(), file.content_type, short_time(&file.modified)]);
    }
    table.print("no such files")?;
    Ok(())
}

fn get(args: &GetArgs) -> Result<(), ClientError> {
    let path = file_path(&args.app, &args.path)?;
    let api = Api::connect(&args.common)?;
    let content = api.download(&path, MAX_FILE_BYTES)?;
    match &args.output {
        Some(output) => fs::write(output, &content).map_err(file_error(output)),
        None => {
            let mut out = io::stdout().lock();
            out.write_all(&content).and_then(|()| out.flush()).map_err(ClientError::from)
        }
    }
}

fn put(args: &PutArgs) -> Result<(), ClientError> {
    let path = file_path(&args.app, &args.path)?;
    let missing = || file_error(&args.file)(io::Error::new(io::ErrorKind::NotFound, "there is no such file"));
    let content = read_bytes(&args.file, MAX_FILE_BYTES, Links::Follow)?.ok_or_else(missing)?;
    let api = Api::connect(&args.common)?;
    let content_type = args.content_type.as_ref().map(ContentType::as_str);
    let answer = api.call(Method::PUT, &path, Payload::Bytes { content: &content, content_type })?;
    if args.common.json {
        return print_json(&answer);
    }
    let file: File = api.read(&answer)?;
    terminal::note(format_args!(
        "{} has {} bytes of {}",
        printable(&file.path),
        file.size,
        printable(&file.content_type)
    ));
    Ok(())
}

fn remove(args: &RemoveArgs) -> Result<(), ClientError> {
    let path = file_path(&args.app, &args.path)?;
    let api = Api::connect(&args.common)?;
    api.call(Method::DELETE, &path, Payload::None)?;
    terminal::note(format_args!("removed {}", printable(args.path.as_str())));
    Ok(())
}

fn file_path(app: &AppArgs, path: &FilePath) -> Result<String, ClientError> {
    app.path(&format!("/files/{}", segment(path.as_str())))
}
