//! The supervisor over a real PostgreSQL.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{Duration, sleep, timeout},
};

use super::{
    EmbeddedPostgres, PostgresError, PostgresOptions,
    ping::{Answer, ping},
    programs, socket as socket_files,
};
use crate::config::DataDir;

const OPTIONS: PostgresOptions = PostgresOptions { programs: None, connections: 4 };

/// A data folder that PostgreSQL's user can pass through.
fn folder() -> (TempDir, DataDir) {
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let folder = DataDir::open(&temp.path().join("data")).unwrap();
    (temp, folder)
}

fn postmaster(folder: &DataDir) -> Pid {
    let text = fs::read_to_string(folder.path().join("postgres/postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap()
}

fn socket(folder: &DataDir) -> std::path::PathBuf {
    folder.path().join("run/.s.PGSQL.5432")
}

/// Starts PostgreSQL over a folder that had one before, as a child that nobody waits for.
async fn start_unwatched(folder: &DataDir) -> Child {
    let mut command = Command::new(programs::find(None, None).unwrap().program("postgres"));
    let config = folder.path().join("postgres-config/postgresql.conf");
    command.arg("-D").arg(folder.path().join("postgres"));
    command.arg("-c").arg(format!("config_file={}", config.display()));
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    as_server_user(&mut command);
    let child = command.spawn().unwrap();
    until(async || ping(&socket(folder)).await == Answer::Ready).await;
    child
}

fn as_server_user(command: &mut Command) {
    if let Some(user) = picloud_postgres::server_user().unwrap() {
        user.run(command);
    }
}

/// Looks again and again, as neither PostgreSQL nor the kernel gives a signal of it.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_mins(1), wait).await.unwrap();
}

fn is_zombie(child: &Child) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") Z ")
}

/// Begins a statement that runs on in its server process also when the postmaster is gone.
async fn keep_busy(folder: &DataDir) -> UnixStream {
    let mut stream = UnixStream::connect(socket(folder)).await.unwrap();
    let start = b"\0\x03\0\0user\0picloud\0database\0picloud\0\0";
    let query = b"DO $$ BEGIN RAISE WARNING 'is busy'; LOOP END LOOP; END $$\0";
    stream.write_u32(start.len() as u32 + 4).await.unwrap();
    stream.write_all(start).await.unwrap();
    stream.write_u8(b'Q').await.unwrap();
    stream.write_u32(query.len() as u32 + 4).await.unwrap();
    stream.write_all(query).await.unwrap();
    let mut said = Vec::new();
    while !said.windows(7).any(|part| part == b"is busy") {
        assert_ne!(stream.read_buf(&mut said).await.unwrap(), 0, "{}", String::from_utf8_lossy(&said));
    }
    stream
}

#[tokio::test]
async fn it_starts_answers_stops_and_starts_again() {
    let (_temp, folder) = folder();
    for _ in 0..2 {
        let postgres = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap();
        assert_eq!(ping(&socket(&folder)).await, Answer::Ready);
        let pid = postmaster(&folder);
        postgres.stop().await;
        assert!(test_kill_process(pid).is_err());
        assert!(!socket(&folder).exists());
    }
}

#[tokio::test]
async fn its_socket_is_private_and_its_files_are_out_of_its_users_reach() {
    let (_temp, folder) = folder();
    let postgres = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap();
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("run"), 0o700);
    assert_eq!(mode("postgres"), 0o700);
    assert_eq!(mode("postgres-config/pg_hba.conf"), 0o644);
    postgres.stop().await;
}

#[tokio::test]
async fn one_that_a_killed_parent_left_is_replaced() {
    let (_temp, folder) = folder();
    let orphan = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap();
    let first = postmaster(&folder);
    // Nobody stops or waits for it any more: what is left of a parent that was killed.
    orphan.task.abort();
    let postgres = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap();
    let second = postmaster(&folder);
    assert_ne!(first, second);
    assert_eq!(ping(&socket(&folder)).await, Answer::Ready);
    postgres.stop().await;
}

#[tokio::test]
async fn a_stale_pid_file_that_names_a_living_stranger_is_no_obstacle() {
    let (_temp, folder) = folder();
    EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap().stop().await;
    let file = folder.path().join("postgres/postmaster.pid");
    fs::write(&file, format!("{}\n{}\n", std::process::id(), folder.path().display())).unwrap();
    let postgres = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap();
    postgres.stop().await;
}

#[tokio::test]
async fn a_killed_postmaster_that_stays_a_zombie_is_no_obstacle() {
    let (_temp, folder) = folder();
    EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap().stop().await;
    let mut zombie = start_unwatched(&folder).await;
    zombie.kill().unwrap();
    until(async || is_zombie(&zombie)).await;
    // The number of a zombie still takes a signal, and with both files PostgreSQL would believe in it.
    assert!(test_kill_process(Pid::from_child(&zombie)).is_ok());
    assert!(socket_files::files(&folder.path().join("run")).iter().all(|file| file.exists()));

    let postgres = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap();
    assert!(is_zombie(&zombie));
    assert_eq!(ping(&socket(&folder)).await, Answer::Ready);
    postgres.stop().await;
    zombie.wait().unwrap();
}

#[tokio::test]
async fn a_postmaster_that_was_killed_this_moment_is_waited_for() {
    let (_temp, folder) = folder();
    EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap().stop().await;
    let mut dying = start_unwatched(&folder).await;
    dying.kill().unwrap();
    let postgres = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap();
    postgres.stop().await;
    dying.wait().unwrap();
}

#[tokio::test]
async fn a_server_process_that_outlives_the_killed_postmaster_is_stopped() {
    let (_temp, folder) = folder();
    EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap().stop().await;
    let mut zombie = start_unwatched(&folder).await;
    let mut busy = keep_busy(&folder).await;
    zombie.kill().unwrap();
    let postgres = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap();
    // It has closed its end, also of this connection.
    let _ = busy.read_to_end(&mut Vec::new()).await;
    postgres.stop().await;
    zombie.wait().unwrap();
}

#[tokio::test]
async fn stale_lock_files_that_name_another_program_of_its_user_are_no_obstacle_to_either() {
    let (_temp, folder) = folder();
    EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap().stop().await;
    let cluster = folder.path().join("postgres");
    let mut command = Command::new("/bin/sh");
    // It speaks of the cluster as the server does, and lives until its input ends.
    command.args(["-c", "read -r line", "-D"]).arg(&cluster).stdin(Stdio::piped());
    as_server_user(&mut command);
    let mut stranger = command.spawn().unwrap();
    let lock = format!("{}\n{}\n", stranger.id(), cluster.display());
    fs::write(cluster.join("postmaster.pid"), &lock).unwrap();
    for file in socket_files::files(&folder.path().join("run")) {
        fs::write(file, &lock).unwrap();
    }

    let postgres = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap();
    postgres.stop().await;
    assert!(stranger.try_wait().unwrap().is_none());
    drop(stranger.stdin.take());
    stranger.wait().unwrap();
}

#[tokio::test]
async fn it_is_started_again_when_it_dies() {
    let (_temp, folder) = folder();
    let postgres = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap();
    let first = postmaster(&folder);
    kill_process(first, Signal::KILL).unwrap();
    let again = async {
        // PostgreSQL gives no other signal of its return than its answer.
        while ping(&socket(&folder)).await != Answer::Ready || postmaster(&folder) == first {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_mins(1), again).await.unwrap();
    postgres.stop().await;
}

#[tokio::test]
async fn data_of_another_major_version_are_left_alone() {
    let (_temp, folder) = folder();
    EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap().stop().await;
    let file = folder.path().join("postgres/PG_VERSION");
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, "9\n").unwrap();
    let error = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap_err();
    assert!(matches!(&error, PostgresError::OtherVersion { data, .. } if data == "9"), "{error}");
    assert!(error.to_string().contains("PICLOUD_POSTGRES_BIN"), "{error}");
    fs::write(&file, before).unwrap();
    EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_start_that_was_cut_short_is_begun_again() {
    let (_temp, folder) = folder();
    fs::create_dir(folder.path().join("postgres.new")).unwrap();
    fs::write(folder.path().join("postgres.new/PG_VERSION"), "15\n").unwrap();
    let postgres = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap();
    assert!(!Path::new(&folder.path().join("postgres.new")).exists());
    postgres.stop().await;
}

#[tokio::test]
async fn what_it_said_is_shown_when_it_does_not_start() {
    let (_temp, folder) = folder();
    EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap().stop().await;
    fs::write(folder.path().join("postgres-config/custom.conf"), "no_such_setting = 1\n").unwrap();
    let error = EmbeddedPostgres::start(&folder, &OPTIONS).await.unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}
