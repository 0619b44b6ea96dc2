//! Keeping the cache within its bound: what was used the longest ago goes first.

use std::{collections::HashMap, io, time::Duration, time::SystemTime};

use cap_std::fs::Dir;

use crate::disk::{TEMPORARY, modified, remove};

/// What a file takes on disk at least.
const BLOCK: u64 = 4096;

/// A temporary file that is older than this belongs to a process that died.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);

/// When each file was last used by this process, by app and name.
pub(crate) type LastUses = HashMap<(String, String), SystemTime>;

/// What a content takes on disk.
pub(crate) const fn room_of(size: u64) -> u64 {
    let rest = size % BLOCK;
    if rest == 0 && size > 0 { size } else { size - rest + BLOCK }
}

struct Found {
    app: String,
    name: String,
    room: u64,
    used: SystemTime,
}

/// Looks through the whole cache, removes what processes that died left behind, and then the least recently used files
/// until what is left takes at most `target` bytes. Answers what that is, and what was removed.
pub(crate) fn sweep(root: &Dir, target: u64, uses: &LastUses) -> io::Result<(u64, Vec<(String, String)>)> {
    let mut found = Vec::new();
    for entry in root.entries()? {
        let entry = entry?;
        let Ok(app) = entry.file_name().into_string() else { continue };
        if !entry.file_type()?.is_dir() {
            remove(root, &app);
            continue;
        }
        // Another process may have removed it.
        let Ok(folder) = root.open_dir(&app) else { continue };
        collect(&folder, &app, uses, &mut found)?;
    }
    let mut total: u64 = found.iter().map(|file| file.room).sum();
    found.sort_unstable_by_key(|file| file.used);
    let mut removed = Vec::new();
    for file in found {
        if total <= target {
            break;
        }
        if let Ok(folder) = root.open_dir(&file.app) {
            remove(&folder, &file.name);
        }
        total -= file.room;
        removed.push((file.app, file.name));
    }
    Ok((total, removed))
}

fn collect(folder: &Dir, app: &str, uses: &LastUses, found: &mut Vec<Found>) -> io::Result<()> {
    for entry in folder.entries()? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(metadata) = folder.symlink_metadata(&name) else { continue };
        if metadata.is_dir() {
            continue;
        }
        let written = modified(&metadata);
        let is_abandoned = || written.elapsed().is_ok_and(|age| age > ABANDONED_AFTER);
        if !metadata.is_file() || (name.ends_with(TEMPORARY) && is_abandoned()) {
            remove(folder, &name);
            continue;
        }
        let used = uses.get(&(app.to_owned(), name.clone())).map_or(written, |used| written.max(*used));
        found.push(Found { app: app.to_owned(), name, room: room_of(metadata.len()), used });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_take_a_block() {
        assert_eq!([0, 1, 4096, 4097].map(room_of), [4096, 4096, 4096, 8192]);
    }
}
