//! The unprivileged user that PostgreSQL runs as, and what that user can reach.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
};

use rustix::process::{getegid, geteuid};
use tokio::process::Command;

use super::error::PostgresError;

/// Users to run PostgreSQL as when PiCloud is root, in this order.
const CANDIDATES: [&str; 3] = ["picloud", "postgres", "nobody"];

/// The user that owns the cluster and runs PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: String,
    uid: u32,
    gid: u32,
    /// Whether PiCloud itself is another user (root), so that the child has to change to this one.
    drops: bool,
}

impl Owner {
    /// Ourselves; or, as root, whoever owns the cluster already, or else the first of the usual users.
    pub(super) fn of(cluster: &Path) -> Result<Self, PostgresError> {
        let users = Passwd::read()?;
        let uid = geteuid();
        if !uid.is_root() {
            let name = users.name(uid.as_raw())?;
            return Ok(Self { name, uid: uid.as_raw(), gid: getegid().as_raw(), drops: false });
        }
        if let Ok(metadata) = fs::metadata(cluster)
            && metadata.uid() != 0
        {
            let name = users.name(metadata.uid())?;
            return Ok(Self { name, uid: metadata.uid(), gid: metadata.gid(), drops: true });
        }
        let found = CANDIDATES.iter().find_map(|name| users.entry(|entry| entry.name == *name));
        let Some(entry) = found.filter(|entry| entry.uid != 0) else {
            return Err(PostgresError::NoUser { tried: CANDIDATES.join(", ") });
        };
        Ok(Self { name: entry.name.to_owned(), uid: entry.uid, gid: entry.gid, drops: true })
    }

    /// The name of the user that PiCloud runs as: the one whom PostgreSQL lets in.
    pub(super) fn client_name() -> Result<String, PostgresError> {
        Passwd::read()?.name(geteuid().as_raw())
    }

    /// The user's id.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Makes `command` run as this user, with no further groups.
    pub(super) fn run_as(&self, command: &mut Command) {
        if self.drops {
            command.gid(self.gid).uid(self.uid);
        }
    }

    /// Gives a folder to this user.
    pub(super) fn take(&self, folder: &Path) -> Result<(), PostgresError> {
        if self.drops {
            chown(folder, Some(self.uid), Some(self.gid)).map_err(PostgresError::file(folder))?;
        }
        Ok(())
    }

    /// Checks that this user can pass through every folder on the way to `path`, an absolute path.
    pub(super) fn check_reach(&self, path: &Path) -> Result<(), PostgresError> {
        if !self.drops {
            return Ok(());
        }
        let mut folders: Vec<_> = path.ancestors().collect();
        folders.reverse();
        for folder in folders {
            let metadata = fs::metadata(folder).map_err(PostgresError::file(folder))?;
            let search = match () {
                () if metadata.uid() == self.uid => 0o100,
                () if metadata.gid() == self.gid => 0o010,
                () => 0o001,
            };
            if metadata.mode() & search == 0 {
                return Err(PostgresError::Unreachable {
                    user: self.name.clone(),
                    folder: folder.to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// The local users. Directory services are left out: a database must start without them.
struct Passwd {
    text: String,
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

impl Passwd {
    const PATH: &'static str = "/etc/passwd";

    fn read() -> Result<Self, PostgresError> {
        let text = fs::read_to_string(Self::PATH).map_err(PostgresError::file(Self::PATH))?;
        Ok(Self { text })
    }

    fn entry(&self, wanted: impl Fn(&Entry<'_>) -> bool) -> Option<Entry<'_>> {
        self.text.lines().filter_map(Entry::parse).find(wanted)
    }

    fn name(&self, uid: u32) -> Result<String, PostgresError> {
        let entry = self.entry(|entry| entry.uid == uid);
        entry.map(|entry| entry.name.to_owned()).ok_or(PostgresError::NamelessUser { uid })
    }
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_lines_are_parsed() {
        let entry = Entry::parse("postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash").unwrap();
        assert_eq!((entry.name, entry.uid, entry.gid), ("postgres", 101, 104));
        assert!(Entry::parse("# a comment").is_none());
    }

    #[test]
    fn a_closed_folder_on_the_way_is_named() {
        use std::os::unix::fs::PermissionsExt;

        let temp = tempfile::tempdir().unwrap();
        let closed = temp.path().join("closed");
        let inner = closed.join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let owner = Owner { name: "other".into(), uid: 54_321, gid: 54_321, drops: true };
        match owner.check_reach(&inner) {
            Err(PostgresError::Unreachable { folder, .. }) => assert_eq!(folder, closed),
            other => panic!("{other:?}"),
        }
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
        owner.check_reach(&inner).unwrap();
    }
}
