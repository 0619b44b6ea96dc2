//! Which processes are PostgreSQL's over one cluster, by what `/proc` says of them.
//!
//! A zombie is none of them: it has ended, and holds nothing but its number until its parent asks for it, which
//! the first process of a container may never do. Nor is a process of another program with a number that once
//! was PostgreSQL's. A signal of zero tells neither of them from a server that lives.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, test_kill_process};

use super::{error::PostgresError, owner::Owner};

const PROC: &str = "/proc";

/// The server's program. The kernel's name of a process has 15 bytes of its file's name, and that of a wrapped
/// program has an addition.
const PROGRAM: &[u8] = b"postgres";

/// The processes of one cluster.
#[derive(Debug)]
pub(super) struct Processes<'a> {
    cluster: &'a Path,
    /// The device and the inode of the cluster's folder.
    identity: (u64, u64),
    uid: u32,
}

impl<'a> Processes<'a> {
    /// Those of `owner` over `cluster`.
    pub(super) fn of(cluster: &'a Path, owner: &Owner) -> Result<Self, PostgresError> {
        let metadata = fs::metadata(cluster).map_err(PostgresError::file(cluster))?;
        Ok(Self { cluster, identity: (metadata.dev(), metadata.ino()), uid: owner.uid() })
    }

    /// Whether the process that a lock file of the cluster names still is the server, be it on its way out.
    pub(super) fn is_postmaster(&self, pid: Pid) -> bool {
        if !has_proc() {
            // Without /proc (macOS) the lock file is all there is.
            return test_kill_process(pid).is_ok();
        }
        let process = folder(pid);
        // One that is being killed has lost its arguments and its folder before it is a zombie.
        let is_ending = || fs::read(process.join("cmdline")).is_ok_and(|arguments| arguments.is_empty());
        self.is_live_server(&process) && (self.uses_cluster(&process) || is_ending())
    }

    /// All that live, also those whose postmaster does not: PostgreSQL does not start beside them. None without
    /// `/proc`, and none that root may not look into because it lacks `CAP_SYS_PTRACE`; PostgreSQL's own check
    /// of its shared memory stands behind this one.
    pub(super) fn living(&self) -> Vec<Pid> {
        let entries = fs::read_dir(PROC).into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| pid(entry.file_name().to_str()?));
        let uses_cluster = |pid: &Pid| {
            let process = folder(*pid);
            self.is_live_server(&process) && self.uses_cluster(&process)
        };
        pids.filter(uses_cluster).collect()
    }

    fn is_live_server(&self, process: &Path) -> bool {
        fs::metadata(process).is_ok_and(|metadata| metadata.uid() == self.uid)
            && fs::read(process.join("stat")).is_ok_and(|stat| is_live_server(&stat))
    }

    /// Whether it was started over the cluster, or works in its folder as each of the server's processes does.
    fn uses_cluster(&self, process: &Path) -> bool {
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
        let arguments: Vec<_> = arguments.split(|byte| *byte == 0).collect();
        let option: [&[u8]; 2] = [b"-D", self.cluster.as_os_str().as_encoded_bytes()];
        let works_in_it = || {
            let folder = fs::metadata(process.join("cwd"));
            folder.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
        };
        arguments.windows(2).any(|pair| pair == option) || works_in_it()
    }
}

/// The process that a text names; PostgreSQL writes a negative number where no postmaster but a single-user
/// process has the cluster.
pub(super) fn pid(text: &str) -> Option<Pid> {
    let number = text.trim().parse().ok().filter(|number| *number > 0)?;
    Pid::from_raw(number)
}

fn has_proc() -> bool {
    Path::new("/proc/self").exists()
}

fn folder(pid: Pid) -> PathBuf {
    Path::new(PROC).join(pid.as_raw_nonzero().to_string())
}

/// Whether `/proc/PID/stat` is that of a server process that has not ended. Its fields are the number, the
/// program's name in parentheses, which may contain any byte, and the state: see `proc_pid_stat(5)`.
fn is_live_server(stat: &[u8]) -> bool {
    let Some(close) = stat.iter().rposition(|byte| *byte == b')') else { return false };
    let (name, rest) = stat.split_at(close);
    let is_server = name.windows(PROGRAM.len()).any(|part| part == PROGRAM);
    let has_ended = matches!(rest.get(2), None | Some(b'Z' | b'X' | b'x'));
    is_server && !has_ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_or_another_program_is_no_live_server() {
        assert!(is_live_server(b"12 (postgres) S 1 12 12 0"));
        assert!(is_live_server(b"12 (.postgres-wrapp) D 1 12 12 0"));
        assert!(!is_live_server(b"12 (postgres) Z 1 12 12 0"));
        assert!(!is_live_server(b"12 (postgres) X 1 12 12 0"));
        assert!(!is_live_server(b"12 (odd) S (postgres) Z 1 12 12 0"));
        assert!(!is_live_server(b"12 (sh) S 1 12 12 0"));
        assert!(!is_live_server(b""));
    }

    #[test]
    fn only_a_postmaster_has_a_number() {
        assert_eq!(pid("12\n").map(Pid::as_raw_nonzero).map(i32::from), Some(12));
        assert_eq!(["-12", "0", "", "self"].map(pid), [None; 4]);
    }
}
