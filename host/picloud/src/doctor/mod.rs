//! `picloud doctor`: what this machine gives the server, and what is missing. It changes nothing.

mod machine;

use std::{fs, path::Path};

use clap::Args;
use picloud_core::{Confinement, Protection};
use picloud_executor::{PoolMode, Reset, embedded_guest};
use serde::Serialize;

use self::machine::Machine;
use crate::{
    client::{self, ConnectionArgs, Readiness},
    config::SandboxArgs,
    exit::{Exit, Failure},
    postgres,
    terminal::{self, ERROR, GOOD, WARNING},
};

/// `picloud doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Folder of PostgreSQL's programs [default: found by itself]
    #[arg(long, env = "PICLOUD_POSTGRES_BIN", value_name = "FOLDER")]
    postgres_bin: Option<std::path::PathBuf>,
    /// The outside server, where PiCloud does not run its own
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// All that is looked at.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    postgres: PostgresReport,
    data_dir: DataDirReport,
    guest: GuestReport,
    sandbox: SandboxReport,
    machine: Machine,
    server: ServerReport,
    /// What keeps a server from running here; empty if nothing does.
    problems: Vec<String>,
    /// What is worth knowing, but keeps nothing from running.
    remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PostgresReport {
    /// `embedded` or `outside`.
    kind: &'static str,
    /// Folder of the programs.
    folder: Option<String>,
    /// Their major version.
    version: Option<u32>,
    /// Folder of the socket, while it runs: the host for `psql` and `pg_dump`.
    socket: Option<String>,
}

#[derive(Debug, Serialize)]
struct DataDirReport {
    path: String,
    exists: bool,
    /// Whether this user can write it, or make it.
    writable: bool,
    /// Major version of the database in it.
    database_version: Option<String>,
}

#[derive(Debug, Serialize)]
struct GuestReport {
    embedded: bool,
    sha256: Option<String>,
    bytes: Option<usize>,
}

#[derive(Debug, Serialize)]
struct SandboxReport {
    /// How instances get their memory: those of the running server, else of one with these settings.
    pool_mode: Option<String>,
    /// How a used slot is reset on this kernel.
    reset: &'static str,
}

#[derive(Debug, Serialize)]
struct ServerReport {
    url: String,
    running: bool,
    ready: bool,
    /// Why it is not ready.
    reasons: Vec<String>,
    /// What the operating system keeps it from; null where none runs.
    confinement: Option<Confinement>,
}

/// Shows the report; fails where a server could not run here.
pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let report = Report::make(args);
    let shown = if args.json { report.print_json() } else { report.print() };
    match shown {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, error))
        }
        _ if report.problems.is_empty() => Ok(()),
        _ => Err(Failure::new(Exit::CannotStart, "")),
    }
}

impl Report {
    fn make(args: &DoctorArgs) -> Self {
        let (mut problems, mut remarks) = (Vec::new(), Vec::new());
        let path = args.connection.data.path();
        let data_dir = DataDirReport::make(&path, &mut problems);
        let postgres = PostgresReport::make(args, &data_dir, &mut problems);
        let guest = GuestReport::make(&mut problems);
        let readiness = client::readiness(&args.connection);
        let sandbox = SandboxReport::make(args, readiness.as_ref(), &mut problems, &mut remarks);
        let machine = Machine::look(&mut remarks);
        let server = ServerReport::make(args.connection.url(), readiness, &mut remarks);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            postgres,
            data_dir,
            guest,
            sandbox,
            machine,
            server,
            problems,
            remarks,
        }
    }

    fn print_json(&self) -> std::io::Result<()> {
        terminal::verbatim(&serde_json::to_string_pretty(self)?)
    }

    fn print(&self) -> std::io::Result<()> {
        let line = |name: &str, text: String| terminal::line(format_args!("{name:<12}{text}"));
        line("PiCloud", self.version.to_owned())?;
        line("PostgreSQL", self.postgres.text())?;
        line("Data folder", self.data_dir.text())?;
        line("Guest", self.guest.text())?;
        line("Sandbox", self.sandbox.text())?;
        line("Machine", self.machine.text())?;
        line("Server", self.server.text())?;
        if let Some(confinement) = &self.server.confinement {
            let active: Vec<&str> = confinement.iter().map(|protection| protection.in_words()).collect();
            line("Confinement", if active.is_empty() { "nothing".to_owned() } else { active.join(", ") })?;
        }
        for remark in &self.remarks {
            terminal::line(format_args!("{} {remark}", WARNING.paint("note:")))?;
        }
        for problem in &self.problems {
            terminal::line(format_args!("{} {problem}", ERROR.paint("problem:")))?;
        }
        if self.problems.is_empty() {
            terminal::line(GOOD.paint("A server can run here."))?;
        }
        Ok(())
    }
}

impl PostgresReport {
    fn make(args: &DoctorArgs, data: &DataDirReport, problems: &mut Vec<String>) -> Self {
        if args.database_url.is_some() {
            return Self { kind: "outside", folder: None, version: None, socket: None };
        }
        let data_dir = fs::canonicalize(args.connection.data.path()).ok();
        let socket = data_dir.and_then(|folder| postgres::existing_socket_folder(&folder));
        let socket = socket.map(|folder| folder.display().to_string());
        let wanted = data.database_version.as_deref().and_then(|version| version.parse().ok());
        match postgres::find_programs(args.postgres_bin.as_deref(), wanted) {
            Ok(programs) => {
                if wanted.is_some_and(|wanted| wanted != programs.major()) {
                    problems.push(format!(
                        "the data are of PostgreSQL {}, but only version {} is installed",
                        data.database_version.as_deref().unwrap_or_default(),
                        programs.major()
                    ));
                }
                let folder = Some(programs.folder().display().to_string());
                Self { kind: "embedded", folder, version: Some(programs.major()), socket }
            }
            Err(error) => {
                problems.push(error.to_string());
                Self { kind: "embedded", folder: None, version: None, socket }
            }
        }
    }

    fn text(&self) -> String {
        match (self.kind, self.version, &self.folder) {
            ("outside", ..) => "an outside server, of DATABASE_URL".into(),
            (_, Some(version), Some(folder)) => {
                let socket = self.socket.as_ref().map(|socket| format!(", socket in {socket}"));
                format!("{version} in {folder}{}", socket.unwrap_or_default())
            }
            _ => "not found".into(),
        }
    }
}

impl DataDirReport {
    fn make(path: &Path, problems: &mut Vec<String>) -> Self {
        let exists = path.is_dir();
        // What does not exist is made in the nearest folder that does.
        let nearest = path.ancestors().find(|folder| folder.is_dir() || folder.as_os_str().is_empty());
        let nearest = nearest.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let writable = rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK).is_ok();
        if !writable {
            problems.push(format!(
                "{} cannot be written by this user; choose another data folder with PICLOUD_DATA_DIR",
                nearest.display()
            ));
        }
        let version = fs::read_to_string(path.join("postgres/PG_VERSION")).ok();
        let database_version = version.map(|text| terminal::printable(text.trim()));
        Self { path: path.display().to_string(), exists, writable, database_version }
    }

    fn text(&self) -> String {
        let state = match (self.exists, self.writable) {
            (true, true) => "writable",
            (true, false) => "not writable",
            (false, true) => "made at the first start",
            (false, false) => "cannot be made",
        };
        let database = self.database_version.as_ref();
        let database =
            database.map(|version| format!(", database of PostgreSQL {version}")).unwrap_or_default();
        format!("{} ({state}{database})", self.path)
    }
}

impl GuestReport {
    fn make(problems: &mut Vec<String>) -> Self {
        match embedded_guest() {
            Some(guest) => {
                let bytes = guest.code.len() + guest.base.len();
                Self { embedded: true, sha256: Some(guest.hash()), bytes: Some(bytes) }
            }
            None => {
                problems.push(
                    "this program was built without the guest: run `cargo xtask guest` and build it again"
                        .into(),
                );
                Self { embedded: false, sha256: None, bytes: None }
            }
        }
    }

    fn text(&self) -> String {
        match (&self.sha256, self.bytes) {
            (Some(hash), Some(bytes)) => format!("embedded, {} KiB, SHA-256 {hash}", bytes / 1024),
            _ => "missing".into(),
        }
    }
}

impl SandboxReport {
    fn make(
        args: &DoctorArgs,
        readiness: Option<&Readiness>,
        problems: &mut Vec<String>,
        remarks: &mut Vec<String>,
    ) -> Self {
        let pool_mode = match readiness {
            Some(readiness) => Some(readiness.pool_mode.clone()),
            None => Self::detect(args).map_err(|problem| problems.push(problem)).ok(),
        };
        if pool_mode.as_deref().is_some_and(|mode| mode != PoolMode::PoolGuarded.as_str()) {
            remarks.push("the address space is too small for the fastest pool; a smaller one is used".into());
        }
        let reset = Reset::detect();
        if reset == Reset::Decommit {
            remarks.push(
                "this kernel has no PAGEMAP_SCAN (Linux 6.7 or later): a call takes some 30 us more".into(),
            );
        }
        Self { pool_mode, reset: reset.as_str() }
    }

    fn detect(args: &DoctorArgs) -> Result<String, String> {
        let config =
            args.sandbox.executor(&args.connection.data.path()).map_err(|error| error.to_string())?;
        PoolMode::detect(&config).map(|mode| mode.as_str().to_owned()).map_err(|error| error.to_string())
    }

    fn text(&self) -> String {
        format!("{}, reset by {}", self.pool_mode.as_deref().unwrap_or("unusable"), self.reset)
    }
}

impl ServerReport {
    fn make(url: String, readiness: Option<Readiness>, remarks: &mut Vec<String>) -> Self {
        let running = readiness.is_some();
        let confinement = readiness.as_ref().map(|readiness| readiness.confinement.clone());
        let is_missing =
            |protection: &Protection| confinement.as_ref().is_some_and(|all| !all.contains(protection));
        let missing = Protection::ALL.into_iter().filter(is_missing).map(Protection::in_words);
        let missing: Vec<&str> = missing.collect();
        if !missing.is_empty() {
            remarks.push(format!(
                "the server runs without: {}. Its log says why; PICLOUD_CONFINEMENT=required refuses such a start",
                missing.join(", ")
            ));
        }
        let (ready, reasons) = readiness.map_or((false, Vec::new()), |state| (state.ready, state.reasons));
        Self { url, running, ready, reasons, confinement }
    }

    fn text(&self) -> String {
        let state = match (self.running, self.ready) {
            (false, _) => "none answers".to_owned(),
            (true, true) => "ready".to_owned(),
            (true, false) => format!("not ready: {}", self.reasons.join("; ")),
        };
        format!("{} ({state})", self.url)
    }
}
