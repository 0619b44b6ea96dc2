//! The cluster: the folder with the data, made once and never of another version than the programs.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use picloud_postgres::Binaries;
use tokio::{io::AsyncWriteExt, process::Command};

use super::{NAME, error::PostgresError, owner::Owner};

/// A cluster that fits the programs.
#[derive(Debug)]
pub(super) struct Cluster {
    path: PathBuf,
}

/// Where the cluster of a data folder is.
pub(super) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres")
}

impl Cluster {
    /// Opens the cluster of a data folder, or makes it.
    ///
    /// It is made under another name and renamed when it is whole, so that a start that was cut short leaves
    /// nothing that looks like a database.
    pub(super) async fn open(
        data_dir: &Path,
        owner: &Owner,
        programs: &Binaries,
    ) -> Result<Self, PostgresError> {
        let path = folder(data_dir);
        owner.check_reach(data_dir)?;
        if let Some(version) = data_version(data_dir)? {
            check_version(&path, version, programs)?;
            return Ok(Self { path });
        }
        let draft = data_dir.join("postgres.new");
        if draft.exists() {
            fs::remove_dir_all(&draft).map_err(PostgresError::file(&draft))?;
        }
        fs::DirBuilder::new().mode(0o700).create(&draft).map_err(PostgresError::file(&draft))?;
        owner.take(&draft)?;
        tracing::info!(folder = %path.display(), version = programs.major(), "making the database");
        initialise(&draft, owner, programs).await?;
        fs::rename(&draft, &path).map_err(PostgresError::file(&path))?;
        Ok(Self { path })
    }

    /// Its folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The major version of the data, as PostgreSQL wrote it; `None` where there are none.
pub(super) fn data_version(data_dir: &Path) -> Result<Option<String>, PostgresError> {
    let path = folder(data_dir);
    if !path.exists() {
        return Ok(None);
    }
    let file = path.join("PG_VERSION");
    let text = fs::read_to_string(&file).map_err(PostgresError::file(&file))?;
    Ok(Some(text.trim().chars().filter(|c| !c.is_control()).take(20).collect()))
}

fn check_version(path: &Path, data: String, programs: &Binaries) -> Result<(), PostgresError> {
    if data == programs.major().to_string() {
        return Ok(());
    }
    Err(PostgresError::OtherVersion {
        cluster: path.to_owned(),
        data,
        programs: programs.folder().to_owned(),
        installed: programs.major(),
    })
}

/// `initdb`, then the one database. The locale is C, so that text sorts by its bytes on every machine.
async fn initialise(draft: &Path, owner: &Owner, programs: &Binaries) -> Result<(), PostgresError> {
    let mut initdb = command(programs, "initdb", owner);
    initdb.arg("--pgdata").arg(draft).arg("--username").arg(NAME);
    initdb.args(["--encoding=UTF8", "--locale=C", "--data-checksums", "--auth=peer"]);
    run(initdb, draft, "").await?;

    let mut single = command(programs, "postgres", owner);
    single.arg("--single").arg("-D").arg(draft).args(["-c", "exit_on_error=on", "postgres"]);
    run(single, draft, &format!("CREATE DATABASE {NAME}\n")).await
}

/// A command of PostgreSQL as its user, with an environment that says nothing about another PostgreSQL.
pub(super) fn command(programs: &Binaries, program: &str, owner: &Owner) -> Command {
    let mut command = Command::new(programs.program(program));
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    owner.run_as(&mut command);
    command
}

async fn run(mut command: Command, draft: &Path, input: &str) -> Result<(), PostgresError> {
    let program = PathBuf::from(command.as_std().get_program());
    let does_not_run = |error: std::io::Error| PostgresError::Program { program, problem: error.to_string() };
    // In a group of its own it can be neither interrupted nor stopped halfway by Ctrl-C.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let outcome = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = outcome.await.map_err(does_not_run)?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let end: Vec<_> = said.lines().rev().take(15).map(|line| format!("  {line}")).collect();
    let output = end.into_iter().rev().collect::<Vec<_>>().join("\n");
    Err(PostgresError::Initdb { cluster: draft.to_owned(), output })
}
