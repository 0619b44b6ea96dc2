//! `cargo xtask sqlx`: renews the descriptions of the store's SQL (`host/store/.sqlx`), which let the
//! workspace be checked and built without a database.
//!
//! The query macros write what the database says of each statement into `SQLX_OFFLINE_DIR`. So a throw-away
//! database is migrated, the store is checked against it, and what was written is compared with what is
//! committed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use picloud_postgres::ThrowawayCluster;

use crate::process::{cargo, run};

/// Descriptions by file name.
type Descriptions = BTreeMap<String, String>;

/// Writes the descriptions; with `check`, only fails where they are not those of the code and the migrations.
pub(crate) fn prepare(root: &Path, check: bool) -> Result<()> {
    let committed_dir = root.join("host/store/.sqlx");
    let fresh = describe(root, check)?;
    let committed = read(&committed_dir)?;
    if fresh == committed {
        return Ok(());
    }
    if check {
        bail!("host/store/.sqlx is not what the code says; run `cargo xtask sqlx` and commit it");
    }
    for name in committed.keys().filter(|name| !fresh.contains_key(*name)) {
        fs::remove_file(committed_dir.join(name)).with_context(|| format!("removing {name}"))?;
    }
    fs::create_dir_all(&committed_dir).context("making host/store/.sqlx")?;
    for (name, text) in &fresh {
        fs::write(committed_dir.join(name), text).with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}

/// What a database with the migrations says of every statement in the store. With `all`, everything is checked, as clippy
/// does after it, which has less to do then; otherwise only the store, which is quick.
fn describe(root: &Path, all: bool) -> Result<Descriptions> {
    const DATABASE: &str = "postgres";
    let cluster = ThrowawayCluster::start()?;
    for migration in migrations(root)? {
        let mut psql = Command::new(cluster.binaries().program("psql"));
        psql.args(["--quiet", "--no-psqlrc", "--single-transaction", "--set=ON_ERROR_STOP=1"])
            .args(["--username", ThrowawayCluster::USER, "--dbname", DATABASE, "--host"])
            .arg(cluster.socket_dir())
            .arg("--file")
            .arg(migration);
        run(&mut psql)?;
    }
    let written = tempfile::tempdir().context("making a folder for the descriptions")?;
    // Cargo does not know that the macros read a database, so the crate is made to look changed.
    let changed = root.join("host/store/src/lib.rs");
    let file = fs::File::options().append(true).open(&changed);
    file.and_then(|file| file.set_modified(SystemTime::now())).context("touching host/store/src/lib.rs")?;
    let mut check = cargo(root);
    check
        .args(["check", "--locked", "--quiet"])
        .args(if all { ["--workspace", "--all-targets"] } else { ["--package=picloud-store", "--lib"] })
        .env("DATABASE_URL", cluster.url(DATABASE))
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", written.path());
    run(&mut check)?;
    read(written.path())
}

/// The migrations in the order of their numbers, which is that of their names.
fn migrations(root: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root.join("migrations")).context("reading migrations/")?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    Ok(files)
}

fn read(folder: &Path) -> Result<Descriptions> {
    let mut descriptions = Descriptions::new();
    if !folder.is_dir() {
        return Ok(descriptions);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        descriptions.insert(name, text);
    }
    Ok(descriptions)
}
