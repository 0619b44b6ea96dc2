//! A cluster that lives as long as the process that started it, for tests and for checking SQL.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::{Binaries, ServerError, ServerUser, find_binaries, server_user};

const SHELL: &str = "/bin/sh";

/// Starts the server, says so, and waits for the end of its input: the pipe closes when the owning process
/// ends, however it ends. Then the server and its files go.
const KEEPER: &str = r#"
set -eu
bin=$1 home=$2
clean() { "$bin/pg_ctl" --pgdata="$home/data" stop --mode=immediate >/dev/null 2>&1 || true; rm -rf "$home"; }
trap clean EXIT
# A signal is an end like any other, and so is an owner that is gone before it has heard of the start: without
# this the shell would die of it and leave the server behind.
trap 'exit 1' HUP INT TERM
trap '' PIPE
cd "$home"
"$bin/initdb" --pgdata="$home/data" --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync \
    >"$home/log" 2>&1 || { cat "$home/log"; exit 1; }
"$bin/pg_ctl" --pgdata="$home/data" start --wait --log="$home/log" --options="$3" >/dev/null 2>&1 \
    || { cat "$home/log"; exit 1; }
echo started 2>/dev/null || exit 1
while read -r command; do
    case $command in
        stop) "$bin/pg_ctl" --pgdata="$home/data" stop --wait --mode=fast >/dev/null 2>&1 ;;
        crash) "$bin/pg_ctl" --pgdata="$home/data" stop --wait --mode=immediate >/dev/null 2>&1 ;;
        start) "$bin/pg_ctl" --pgdata="$home/data" start --wait --log="$home/log" --options="$3" >/dev/null 2>&1 ;;
    esac
    echo "$command"
done
"#;

/// What a cluster does for what is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// Nothing: it is for tests, and nothing of it is kept.
    None,
    /// What PostgreSQL does by default, for measuring what that costs.
    Full,
}

impl Durability {
    const fn options(self) -> &'static str {
        match self {
            Self::None => {
                "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c shared_buffers=32MB \
                 -c autovacuum=off"
            }
            Self::Full => "-c shared_buffers=128MB",
        }
    }
}

/// A new, empty PostgreSQL cluster on a Unix socket in a private folder. Nothing of it is kept: it goes with this
/// value or with the process, also if that is killed.
#[derive(Debug)]
pub struct ThrowawayCluster {
    home: PathBuf,
    binaries: Binaries,
    keeper: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<std::process::ChildStdout>,
}

impl ThrowawayCluster {
    /// The superuser of the cluster; it needs no password.
    pub const USER: &str = "postgres";

    /// Makes and starts a cluster that does not sync to disk. Blocks for about a second.
    pub fn start() -> Result<Self, ServerError> {
        Self::start_as(Durability::None)
    }

    /// Makes and starts a cluster that is as durable as PostgreSQL is by default, for measuring. Blocks for about a
    /// second.
    pub fn start_durable() -> Result<Self, ServerError> {
        Self::start_as(Durability::Full)
    }

    fn start_as(durability: Durability) -> Result<Self, ServerError> {
        let binaries = find_binaries()?;
        let home = make_home(server_user()?.as_ref())?;
        let mut keeper = keeper(&binaries, &home, durability)?;
        let commands = keeper.stdin.take();
        let stdout = keeper.stdout.take().ok_or_else(|| not_run(ErrorKind::BrokenPipe.into()))?;
        let mut cluster = Self { home, binaries, keeper, commands, answers: BufReader::new(stdout) };
        cluster.expect("started")?;
        Ok(cluster)
    }

    /// The folder of its Unix socket; the port is 5432.
    pub fn socket_dir(&self) -> &Path {
        &self.home
    }

    /// The programs it runs with.
    pub const fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// A connection URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user={}", self.home.display(), Self::USER)
    }

    /// Stops the server as an administrator would, and returns when it has stopped.
    pub fn stop_server(&mut self) -> Result<(), ServerError> {
        self.command("stop")
    }

    /// Stops the server as a crash would: what it has not written is gone.
    pub fn crash_server(&mut self) -> Result<(), ServerError> {
        self.command("crash")
    }

    /// Starts the stopped server again, and returns when it answers.
    pub fn start_server(&mut self) -> Result<(), ServerError> {
        self.command("start")
    }

    fn command(&mut self, command: &str) -> Result<(), ServerError> {
        if let Some(commands) = &mut self.commands {
            writeln!(commands, "{command}")
                .map_err(|source| ServerError::Io { path: self.home.clone(), source })?;
        }
        self.expect(command)
    }

    fn expect(&mut self, answer: &str) -> Result<(), ServerError> {
        let io = |source| ServerError::Io { path: self.home.clone(), source };
        let mut output = String::new();
        self.answers.read_line(&mut output).map_err(io)?;
        if output.trim_end() == answer {
            return Ok(());
        }
        self.answers.read_to_string(&mut output).map_err(io)?;
        Err(ServerError::Failed { program: self.binaries.program("pg_ctl"), output })
    }
}

impl Drop for ThrowawayCluster {
    fn drop(&mut self) {
        drop(self.commands.take());
        // Its own clean-up is all that is waited for; there is nobody to tell if it fails.
        let _ = self.keeper.wait();
    }
}

/// Starts the shell that keeps the server in `home`, as the user that owns it.
fn keeper(binaries: &Binaries, home: &Path, durability: Durability) -> Result<Child, ServerError> {
    let options = format!(
        "-c listen_addresses='' -c unix_socket_directories='{}' -c unix_socket_permissions=0777 \
         -c max_connections=200 {}",
        home.display(),
        durability.options()
    );
    let mut command = Command::new(SHELL);
    command.args(["-c", KEEPER, "keeper"]).arg(binaries.folder()).arg(home).arg(options);
    // A group of its own: Ctrl-C is for the owner, whose end the keeper notices by itself.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    if let Some(user) = server_user()? {
        user.run(&mut command);
    }
    command.spawn().map_err(not_run)
}

fn not_run(source: io::Error) -> ServerError {
    ServerError::Run { program: SHELL.into(), source }
}

/// A new private folder for the server's user. The keeper removes it.
fn make_home(user: Option<&ServerUser>) -> Result<PathBuf, ServerError> {
    let temp = std::env::temp_dir();
    // Short, since a socket's path may have some 100 bytes.
    let folder = tempfile::Builder::new().prefix("pcl").tempdir_in(&temp);
    let home = folder.map_err(|source| ServerError::Io { path: temp, source })?;
    if let Some(user) = user {
        user.own(home.path()).map_err(|source| ServerError::Io { path: home.path().to_owned(), source })?;
    }
    Ok(home.keep())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_is_gone_early_leaves_nothing_behind() {
        let home = make_home(server_user().unwrap().as_ref()).unwrap();
        let mut keeper = keeper(&find_binaries().unwrap(), &home, Durability::None).unwrap();
        // As the end of a process does, also of a killed one.
        drop(keeper.stdin.take());
        drop(keeper.stdout.take());
        keeper.wait().unwrap();
        assert!(!home.exists());
    }

    #[test]
    fn a_cluster_leaves_nothing_behind() {
        let mut cluster = ThrowawayCluster::start().unwrap();
        let home = cluster.socket_dir().to_owned();
        let socket = home.join(".s.PGSQL.5432");
        assert!(socket.exists());
        cluster.stop_server().unwrap();
        assert!(!socket.exists());
        cluster.start_server().unwrap();
        cluster.crash_server().unwrap();
        cluster.start_server().unwrap();
        assert!(socket.exists());
        drop(cluster);
        assert!(!home.exists());
    }

    #[test]
    fn a_cluster_for_measuring_is_durable_and_others_are_not() {
        let show = |cluster: &ThrowawayCluster| {
            let mut psql = Command::new(cluster.binaries().program("psql"));
            psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--username", ThrowawayCluster::USER])
                .args(["--command", "SHOW fsync", "--command", "SHOW synchronous_commit", "--host"])
                .arg(cluster.socket_dir());
            String::from_utf8(psql.output().unwrap().stdout).unwrap()
        };
        assert_eq!(show(&ThrowawayCluster::start_durable().unwrap()), "on\non\n");
        assert_eq!(show(&ThrowawayCluster::start().unwrap()), "off\noff\n");
    }
}
