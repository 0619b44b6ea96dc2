//! What the operating system keeps the server from: what a flaw in it could otherwise be used for.
//!
//! All of it belongs to a thread and what that starts: it is to be done before the runtime's threads are there. The
//! embedded PostgreSQL and the compiling child inherit it.

mod capabilities;
mod paths;
mod system_calls;

use std::path::PathBuf;

use clap::ValueEnum;
use picloud_core::{Confinement, Protection};
use rustix::process::{Resource, Rlimit, setrlimit};

/// `PICLOUD_CONFINEMENT`: how much is asked of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfinementMode {
    /// All that it has.
    Auto,
    /// All of it, or no start.
    Required,
    /// Nothing.
    Off,
}

/// Confines this thread and all that it starts. `writable` are the folders and files that stay writable; what does
/// not exist is left out. Where something is required and missing, the error says what.
pub(crate) fn confine(mode: ConfinementMode, writable: &[PathBuf]) -> Result<Confinement, String> {
    if mode == ConfinementMode::Off {
        return Ok(Confinement::default());
    }
    let (mut confinement, mut missing) = (Confinement::new(), Vec::new());
    // In the order of `ALL`: without privileges the others may be done only after the first, and the last refuses what
    // the others need.
    for protection in Protection::ALL {
        let done = match protection {
            Protection::NoNewPrivileges => no_new_privileges(),
            Protection::Capabilities => capabilities::drop_unneeded(),
            Protection::CoreDumps => no_core_dumps(),
            Protection::WritePaths => paths::restrict(writable),
            Protection::SystemCalls => system_calls::refuse_unneeded(),
        };
        match done {
            Ok(()) => _ = confinement.insert(protection),
            Err(problem) => missing.push(format!("{} ({problem})", protection.in_words())),
        }
    }
    if missing.is_empty() {
        return Ok(confinement);
    }
    let missing = missing.join(", ");
    if mode == ConfinementMode::Required {
        return Err(format!(
            "PICLOUD_CONFINEMENT is required, but this system does not give all of it; missing: {missing}"
        ));
    }
    tracing::warn!(missing, "the system does not confine the server in every way");
    Ok(confinement)
}

#[cfg(target_os = "linux")]
fn no_new_privileges() -> Result<(), String> {
    rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())
}

#[cfg(not(target_os = "linux"))]
fn no_new_privileges() -> Result<(), String> {
    Err("only Linux has it".into())
}

/// A dump of the memory would have secrets in it.
fn no_core_dumps() -> Result<(), String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|error| error.to_string())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs, io, thread};

    use super::*;

    /// What confined code answers, in a thread of its own, which ends with its confinement.
    fn confined<T: Send>(writable: &[PathBuf], inside: impl FnOnce(Confinement) -> T + Send) -> T {
        thread::scope(|scope| {
            let confined = || inside(confine(ConfinementMode::Auto, writable).expect("auto never fails"));
            scope.spawn(confined).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    #[test]
    fn only_the_own_folders_can_be_written() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("there"), "1").unwrap();
        let (inside, outside) = (own.path().to_owned(), other.path().to_owned());
        confined(std::slice::from_ref(&inside), |confinement| {
            assert!(confinement.contains(&Protection::WritePaths), "this kernel has no Landlock");
            fs::create_dir(inside.join("a")).unwrap();
            fs::write(inside.join("a/new"), "1").unwrap();
            fs::rename(inside.join("a/new"), inside.join("moved")).unwrap();
            let denied = |outcome: io::Result<()>| {
                assert_eq!(outcome.map_err(|error| error.kind()), Err(io::ErrorKind::PermissionDenied));
            };
            denied(fs::write(outside.join("new"), "1"));
            denied(fs::write(outside.join("there"), "2"));
            denied(fs::create_dir(outside.join("folder")));
            denied(fs::remove_file(outside.join("there")));
            denied(std::os::unix::fs::symlink("/etc", outside.join("link")));
            let linked = fs::hard_link(outside.join("there"), inside.join("linked"));
            assert_eq!(linked.map_err(|error| error.kind()), Err(io::ErrorKind::CrossesDevices));
            assert_eq!(fs::read_to_string(outside.join("there")).unwrap(), "1", "reading stays as it was");
        });
    }

    #[test]
    fn a_link_out_of_an_own_folder_leads_nowhere_writable() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (inside, outside) = (own.path().to_owned(), other.path().to_owned());
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        confined(std::slice::from_ref(&inside), |_| {
            let outcome = fs::write(inside.join("link/new"), "1").map_err(|error| error.kind());
            assert_eq!(outcome, Err(io::ErrorKind::PermissionDenied));
        });
    }

    #[test]
    fn nothing_is_done_where_it_is_switched_off() {
        let outside = tempfile::tempdir().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(confine(ConfinementMode::Off, &[]), Ok(Confinement::default()));
                fs::write(outside.path().join("new"), "1").unwrap();
                assert!(!rustix::thread::no_new_privs().unwrap());
            });
        });
    }
}
