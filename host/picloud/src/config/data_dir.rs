//! The data folder: made with the right mode, held by one server at a time.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::geteuid,
};

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// It can be neither made nor written.
    #[error("the data folder {} cannot be used: {problem}; choose another with PICLOUD_DATA_DIR or --data-dir", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// Another server has it.
    #[error("the data folder {} is in use by another PiCloud server{}; stop that one, or choose another folder with PICLOUD_DATA_DIR", path.display(), holder(*pid))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that has it, if it said so.
        pid: Option<u32>,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// The folder where the server keeps its files, which exists and can be written.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
}

/// Holds the folder until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _file: File,
}

/// `/var/lib/picloud` for root, `./.picloud` for anyone else.
pub(crate) fn default_data_dir() -> PathBuf {
    if geteuid().is_root() { PathBuf::from("/var/lib/picloud") } else { PathBuf::from(".picloud") }
}

impl DataDir {
    /// Opens the folder, and makes it where it is missing.
    ///
    /// As root it is made searchable by others, because PostgreSQL's own user must reach its folder in it;
    /// what is secret in it has a mode of its own.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        let unusable =
            |error: io::Error| DataDirError::Unusable { path: path.to_owned(), problem: error.to_string() };
        if !path.exists() {
            let mode = if geteuid().is_root() { 0o711 } else { 0o700 };
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(unusable)?;
            fs::set_permissions(path, Permissions::from_mode(mode)).map_err(unusable)?;
        }
        let path_text = path.canonicalize().map_err(unusable)?;
        if !path_text.is_dir() {
            return Err(unusable(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        let folder = Self { path: path_text };
        // Opening the lock file for writing is what shows that the folder can be written.
        folder.lock_file().map_err(unusable)?;
        Ok(folder)
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the folder for this process.
    pub(crate) fn lock(&self) -> Result<DataDirLock, DataDirError> {
        let unusable =
            |error: io::Error| DataDirError::Unusable { path: self.path.clone(), problem: error.to_string() };
        let mut file = self.lock_file().map_err(unusable)?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(unusable(error.into()));
            }
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(DataDirError::InUse { path: self.path.clone(), pid });
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(unusable)?;
        Ok(DataDirLock { _file: file })
    }

    fn lock_file(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(self.path.join("lock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let folder = DataDir::open(&temp.path().join("a/b")).unwrap();
        let lock = folder.lock().unwrap();
        let pid = std::process::id();
        match folder.lock() {
            Err(DataDirError::InUse { pid: holder, .. }) => assert_eq!(holder, Some(pid)),
            other => panic!("{other:?}"),
        }
        drop(lock);
        folder.lock().unwrap();
    }

    #[test]
    fn a_file_is_no_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataDir::open(file.path()).unwrap_err().to_string();
        assert!(error.contains("PICLOUD_DATA_DIR"), "{error}");
    }
}
