//! Running the server, and what else needs its database.
//!
//! Start: data folder, listeners, PostgreSQL, schema, owner, secret keys, executor, orchestrator, manager. Stop: drain,
//! flush, connections, PostgreSQL, data folder.

mod database;
mod egress;
mod logging;
mod mail;
mod node;
mod secrets;
mod signals;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use picloud_executor::PoolMode;
use picloud_manager::reset_owner_token;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use self::database::{Borrowed, Database, HeldDataDir};
pub(crate) use self::secrets::{RotateKeyArgs, rotate_key};
use crate::{
    client::{self, tokens},
    config::{DataDir, DatabaseArgs, LogArgs, ServeArgs},
    confinement::confine,
    exit::{Exit, Failure},
    postgres, terminal,
};

/// Files that may be open at once where the system sets no bound.
const OPEN_FILES: u64 = 1 << 20;

/// `picloud token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, never wider than the one it is made with
    Create(tokens::CreateArgs),
    /// List tokens
    List(tokens::ListArgs),
    /// Revoke a token, and those that were made with it
    Revoke(tokens::RevokeArgs),
    /// On the machine of the server, make a new token for the first owner, in the data folder's owner-token; the old
    /// ones end at once, and what was made with them
    Reset(TokenArgs),
}

/// `picloud token reset`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// `picloud precompile-guest`.
#[derive(Debug, Args)]
pub(crate) struct PrecompileArgs {
    /// How instances get their memory
    mode: PoolMode,
    /// The most memory of an instance, in bytes
    max_memory_bytes: u64,
    /// The file to write
    output: PathBuf,
}

/// Runs the server until a signal stops it.
pub(crate) fn serve(args: ServeArgs) -> Result<(), Failure> {
    args.check()?;
    let oidc = args.oidc.config()?;
    logging::start(&args.log)?;
    raise_open_files();
    let writable = writable(&args)?;
    let confinement =
        confine(args.confinement, &writable).map_err(|problem| Failure::new(Exit::CannotStart, problem))?;
    runtime(args.threads())?.block_on(node::run(args, oidc, confinement))
}

/// What a server has to write, where links lead included: a disk of its own for the database or its log is linked into
/// the data folder.
fn writable(args: &ServeArgs) -> Result<Vec<PathBuf>, Failure> {
    // It has to be there, so that it can be named.
    let data = DataDir::open(&args.database.data.path())?.path().to_owned();
    let mut writable = vec![PathBuf::from("/dev/null"), PathBuf::from("/dev/shm")];
    writable.extend(postgres::shared_socket_parent(&data));
    writable.extend(args.secret_keys.path(&data).parent().map(Path::to_owned));
    for folder in [data.clone(), data.join("postgres"), data.join("postgres/pg_tblspc")] {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        writable.extend(links.map(|link| link.path()));
    }
    writable.push(data);
    Ok(writable)
}

/// Brings the schema up to date.
pub(crate) fn migrate(args: &DatabaseArgs, log: &LogArgs) -> Result<(), Failure> {
    logging::start(log)?;
    runtime(1)?.block_on(async {
        let data = HeldDataDir::take(args)?;
        Database::open(args, &data).await?.close().await;
        terminal::note("the schema is up to date");
        Ok(())
    })
}

/// Manages tokens.
pub(crate) fn token(command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(args) => client::ended(tokens::create(&args)),
        TokenCommand::List(args) => client::ended(tokens::list(&args)),
        TokenCommand::Revoke(args) => client::ended(tokens::revoke(&args)),
        TokenCommand::Reset(args) => reset_token(&args),
    }
}

fn reset_token(args: &TokenArgs) -> Result<(), Failure> {
    logging::start(&args.log)?;
    runtime(1)?.block_on(async {
        let database = Borrowed::open(&args.database).await?;
        let outcome = reset_owner_token(database.store(), &args.database.data.path()).await;
        database.close().await;
        let token = outcome.map_err(|error| Failure::new(Exit::Failed, error))?;
        terminal::note(token);
        Ok(())
    })
}

/// Compiles the guest: the body of the child process.
pub(crate) fn precompile(args: &PrecompileArgs) -> Result<(), Failure> {
    let compiled = picloud_executor::precompile(args.mode, args.max_memory_bytes, &args.output);
    compiled.map_err(|error| Failure::new(Exit::Failed, error))
}

fn runtime(threads: usize) -> Result<Runtime, Failure> {
    let built =
        Builder::new_multi_thread().worker_threads(threads).thread_name("picloud").enable_all().build();
    built
        .map_err(|error| Failure::new(Exit::CannotStart, format_args!("the runtime does not start: {error}")))
}

/// Raises the soft limit of open files to the hard one: each mapped image and each connection is one.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(OPEN_FILES);
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) =
            setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
    {
        tracing::warn!(%error, "cannot raise the number of open files");
    }
}
