//! What /proc tells of a process: its children, its CPU time, its memory.

use std::{
    collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path, process::Command, time::Duration,
};

use anyhow::{Context, Result};

use crate::process;

/// Clock ticks of /proc/PID/stat: a fixed 100 a second on every Linux that is supported.
const TICKS_PER_SECOND: u64 = 100;

/// One line of /proc/PID/stat.
struct Stat {
    name: String,
    parent: u32,
    /// CPU time in ticks, with that of children that have ended.
    ticks: u64,
}

fn stat(pid: u32) -> Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    parse_stat(&text).with_context(|| format!("{path} has an unknown form"))
}

/// The name stands in parentheses and may itself have any character.
fn parse_stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(") ")?;
    let (_, name) = before.split_once(" (")?;
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Stat { name: name.to_owned(), parent: fields.get(1)?.parse().ok()?, ticks })
}

/// A server's processes: its own, and those of the PostgreSQL that it runs.
pub(super) struct Tree {
    /// The server.
    pub(super) own: Vec<u32>,
    /// Its database, apart because an outside one can take its place.
    pub(super) database: Vec<u32>,
}

/// The process and everything under it.
pub(super) fn tree(root: u32) -> Result<Tree> {
    let mut children: BTreeMap<u32, Vec<(u32, String)>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("listing /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end between the listing and the look.
        if let Ok(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push((pid, stat.name));
        }
    }
    let mut tree = Tree { own: Vec::new(), database: Vec::new() };
    let mut open = vec![(root, false)];
    while let Some((pid, in_database)) = open.pop() {
        if in_database { &mut tree.database } else { &mut tree.own }.push(pid);
        let below = children.remove(&pid).unwrap_or_default();
        open.extend(below.into_iter().map(|(child, name)| (child, in_database || name == "postgres")));
    }
    Ok(tree)
}

/// CPU time that the processes have used so far.
pub(super) fn cpu_time(pids: &[u32]) -> Result<Duration> {
    let ticks = pids.iter().map(|pid| stat(*pid).map(|stat| stat.ticks)).sum::<Result<u64>>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Memory that cannot be taken back without ending the processes, in bytes: anonymous pages (shared ones by
/// their share) and what the memory files hold that they have open, mapped or not. Page cache is left out.
pub(super) fn memory(pids: &[u32]) -> Result<u64> {
    let mut total = 0;
    let mut memory_files: BTreeMap<u64, u64> = BTreeMap::new();
    let mut shared = 0;
    for pid in pids {
        // A process of the list may have ended since, as database backends do; it has no memory then.
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        total += rollup(&text, "Pss_Anon:").context("smaps_rollup has no Pss_Anon")?;
        shared += rollup(&text, "Pss_Shmem:").context("smaps_rollup has no Pss_Shmem")?;
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for path in descriptors.flatten().map(|entry| entry.path()) {
            let is_memory = fs::read_link(&path).is_ok_and(|target| target.starts_with("/memfd:"));
            if is_memory && let Ok(metadata) = fs::metadata(&path) {
                memory_files.insert(metadata.ino(), metadata.blocks() * 512);
            }
        }
    }
    // What is mapped of the memory files counts among the shared pages already.
    Ok(total + shared.max(memory_files.values().sum()))
}

fn rollup(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Moves processes, all their threads included, to one core.
pub(super) fn pin(pids: &[u32], core: u32) -> Result<()> {
    for pid in pids {
        let arguments = ["-a", "-c", "-p", &core.to_string(), &pid.to_string()];
        process::capture(Command::new("taskset").args(arguments))?;
    }
    Ok(())
}

/// A command whose program runs on one core.
pub(super) fn on_core(core: u32, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_anything_in_it() {
        let text = "7 (a) (b) S 3 7 7 0 -1 4194560 1 2 3 4 10 20 1 2 20 0 1 0 99 0\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.ticks), ("a) (b", 3, 33));
    }

    #[test]
    fn this_process_has_memory_and_is_its_own_root() {
        let own = std::process::id();
        assert_eq!(tree(own).unwrap().own.first(), Some(&own));
        assert!(memory(&[own]).unwrap() > 0);
    }
}
