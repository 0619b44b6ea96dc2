//! The supervisor over a real PostgreSQL.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;
use tokio::time::{Duration, sleep, timeout};

use super::{
    EmbeddedPostgres, PostgresError, PostgresOptions,
    ping::{Answer, ping},
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
