//! The folder of PostgreSQL's socket: mode 0700 and a path short enough for a socket address.

use std::{
    env, fs,
    fs::Permissions,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;
use sha2::{Digest, Sha256};

use super::{PORT, error::PostgresError, owner::Owner};

/// The longest path of a socket, in bytes: `sun_path` of Linux less its final NUL. Other systems have less.
const MAX_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The socket's file name in its folder, as PostgreSQL makes it.
pub(super) fn file_name() -> String {
    format!(".s.PGSQL.{PORT}")
}

/// What PostgreSQL makes in the folder: the socket, and the file that says whose it is.
pub(super) fn files(folder: &Path) -> [PathBuf; 2] {
    let name = file_name();
    [folder.join(format!("{name}.lock")), folder.join(name)]
}

/// Makes the folder: `run` in the data folder, or, where that path is too long, one of a runtime folder with a
/// name made from it.
pub(super) fn make_folder(data_dir: &Path, owner: &Owner) -> Result<PathBuf, PostgresError> {
    let folder = choose(data_dir);
    let file = PostgresError::file(folder.clone());
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => owner.take(&folder)?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(file(error)),
    }
    check(&folder, owner)?;
    owner.check_reach(&folder)?;
    Ok(folder)
}

/// The folder of the socket of a server that runs over this data folder; `None` where none has its socket
/// there.
pub(crate) fn existing_folder(data_dir: &Path) -> Option<PathBuf> {
    Some(choose(data_dir)).filter(|folder| folder.join(file_name()).exists())
}

/// The folder in which the socket's folder is made, where that is not the data folder.
pub(crate) fn shared_parent(data_dir: &Path) -> Option<PathBuf> {
    let folder = choose(data_dir);
    folder.parent().filter(|parent| *parent != data_dir).map(Path::to_owned)
}

fn choose(data_dir: &Path) -> PathBuf {
    let own = data_dir.join("run");
    if own.join(file_name()).as_os_str().len() <= MAX_PATH {
        return own;
    }
    let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    let name = digest[..6].iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}"));
    let runtime = if geteuid().is_root() {
        Some(PathBuf::from("/run")).filter(|folder| folder.is_dir())
    } else {
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_dir())
    };
    // /tmp and not TMPDIR, which may be as deep as the folder that was refused.
    runtime.unwrap_or_else(|| PathBuf::from("/tmp")).join(format!("picloud-{name}"))
}

/// Refuses a folder that someone else has made, or may write: in /tmp anyone can be first.
fn check(folder: &Path, owner: &Owner) -> Result<(), PostgresError> {
    let refused = |problem: String| Err(PostgresError::Socket { folder: folder.to_owned(), problem });
    let metadata = fs::symlink_metadata(folder).map_err(PostgresError::file(folder))?;
    if !metadata.is_dir() {
        return refused("it is not a folder; remove it".into());
    }
    if metadata.uid() != owner.uid() {
        return refused(format!("it belongs to user {}, not to {}; remove it", metadata.uid(), owner.name()));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(PostgresError::file(folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_data_folder_gets_a_short_socket_path() {
        assert_eq!(choose(Path::new("/var/lib/picloud")), Path::new("/var/lib/picloud/run"));
        let deep = PathBuf::from("/").join("x".repeat(90));
        let chosen = choose(&deep);
        assert!(chosen.join(file_name()).as_os_str().len() <= MAX_PATH);
        assert!(!chosen.starts_with(&deep));
        assert_eq!(chosen, choose(&deep));
        assert_ne!(chosen, choose(&deep.join("y")));
    }

    #[test]
    fn a_folder_that_is_a_link_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let owner = Owner::of(temp.path()).unwrap();
        let link = temp.path().join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert!(matches!(check(&link, &owner), Err(PostgresError::Socket { .. })));
    }
}
