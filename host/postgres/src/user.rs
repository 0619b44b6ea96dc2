//! Who runs the server: PostgreSQL refuses to run as root.

use std::{fs, io, os::unix::process::CommandExt, path::Path, process::Command};

use crate::ServerError;

/// Unprivileged users that a root process may run the server as, the best first.
const CANDIDATES: &[&str] = &["picloud", "postgres", "nobody"];

/// An unprivileged user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUser {
    name: String,
    uid: u32,
    gid: u32,
}

/// The user to run the server as: `None` where this process is not root, and so runs it itself.
pub fn server_user() -> Result<Option<ServerUser>, ServerError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    choose(&read_passwd()?).map(Some).ok_or(ServerError::NoUser)
}

/// The user with this id. PostgreSQL runs as, and by its socket lets in, only users that have a name.
pub fn user_by_id(uid: u32) -> Result<ServerUser, ServerError> {
    let passwd = read_passwd()?;
    let user = passwd.lines().filter_map(parse).find(|user| user.uid == uid);
    user.ok_or(ServerError::NamelessUser(uid))
}

/// The local users. Directory services are left out: a database must start without them.
fn read_passwd() -> Result<String, ServerError> {
    let path = Path::new("/etc/passwd");
    fs::read_to_string(path).map_err(|source| ServerError::Io { path: path.to_owned(), source })
}

impl ServerUser {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its numeric id.
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// The numeric id of its group.
    pub const fn gid(&self) -> u32 {
        self.gid
    }

    /// Makes `command` run as this user, without root's supplementary groups.
    pub fn run(&self, command: &mut Command) {
        // The standard library drops the supplementary groups itself where a uid is given.
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives a file or folder to this user.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }
}

fn choose(passwd: &str) -> Option<ServerUser> {
    let users: Vec<ServerUser> = passwd.lines().filter_map(parse).collect();
    CANDIDATES.iter().find_map(|name| users.iter().find(|user| user.name == **name && user.uid != 0)).cloned()
}

fn parse(line: &str) -> Option<ServerUser> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(ServerUser { name, uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_unprivileged_user_is_chosen() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:\n\nbroken\n";
        let nobody = choose(passwd).unwrap();
        assert_eq!((nobody.name(), nobody.uid(), nobody.gid()), ("nobody", 65534, 65533));
        let passwd = format!("{passwd}postgres:x:104:112::/var/lib/postgresql:/bin/bash\n");
        assert_eq!(choose(&passwd).unwrap().name(), "postgres");
    }

    #[test]
    fn root_under_another_name_is_not_chosen() {
        assert_eq!(choose("nobody:x:0:0::/:\n"), None);
    }
}
