//! The unprivileged user that PostgreSQL runs as, and what that user can reach.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use picloud_postgres::{ServerError, ServerUser, server_user, user_by_id};
use rustix::process::geteuid;
use tokio::process::Command;

use super::error::PostgresError;

/// The user that owns the cluster and runs PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    user: ServerUser,
    /// Whether PiCloud itself is another user (root), so that the child has to change to this one.
    drops: bool,
}

impl Owner {
    /// Ourselves; or, as root, whoever owns the cluster already, or else an unprivileged user of the system.
    pub(super) fn of(cluster: &Path) -> Result<Self, PostgresError> {
        let uid = geteuid();
        if !uid.is_root() {
            return Ok(Self { user: user_by_id(uid.as_raw())?, drops: false });
        }
        let owner = fs::metadata(cluster).map(|metadata| metadata.uid()).unwrap_or_default();
        let user = if owner == 0 { server_user()?.ok_or(ServerError::NoUser)? } else { user_by_id(owner)? };
        Ok(Self { user, drops: true })
    }

    /// The name of the user that PiCloud runs as: the one whom PostgreSQL lets in.
    pub(super) fn client_name() -> Result<String, PostgresError> {
        Ok(user_by_id(geteuid().as_raw())?.name().to_owned())
    }

    /// The user's id.
    pub(super) fn uid(&self) -> u32 {
        self.user.uid()
    }

    /// The user's name.
    pub(super) fn name(&self) -> &str {
        self.user.name()
    }

    /// Makes `command` run as this user, with no further groups.
    pub(super) fn run_as(&self, command: &mut Command) {
        if self.drops {
            self.user.run(command.as_std_mut());
        }
    }

    /// Gives a folder to this user.
    pub(super) fn take(&self, folder: &Path) -> Result<(), PostgresError> {
        if self.drops {
            self.user.own(folder).map_err(PostgresError::file(folder))?;
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
                () if metadata.uid() == self.user.uid() => 0o100,
                () if metadata.gid() == self.user.gid() => 0o010,
                () => 0o001,
            };
            if metadata.mode() & search == 0 {
                return Err(PostgresError::Unreachable {
                    user: self.name().to_owned(),
                    folder: folder.to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_folder_on_the_way_is_named() {
        use std::os::unix::fs::PermissionsExt;

        let temp = tempfile::tempdir().unwrap();
        let closed = temp.path().join("closed");
        let inner = closed.join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let owner = Owner { user: picloud_postgres::user_by_id(65_534).unwrap(), drops: true };
        match owner.check_reach(&inner) {
            Err(PostgresError::Unreachable { folder, .. }) => assert_eq!(folder, closed),
            other => panic!("{other:?}"),
        }
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
        owner.check_reach(&inner).unwrap();
    }
}
