//! The key file: read only where nobody else can, replaced as a whole.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{VaultError, ring::KeyRing};

/// The longest file that is read: some ten thousand keys.
const MAX_BYTES: u64 = 1 << 20;

/// Tells one file from the next at the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The stamp of the file; `None` if there is none.
pub(crate) fn stamp(path: &Path) -> Result<Option<Stamp>, VaultError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(Stamp::of(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

/// Reads the file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<(KeyRing, Stamp)>, VaultError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path)(error)),
    };
    let metadata = file.metadata().map_err(failed(path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(VaultError::FileIsOpen { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(metadata.len().min(MAX_BYTES) as usize + 1));
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed(path))?;
    let ring = KeyRing::parse(&text).map_err(|(line, problem)| VaultError::BadFile {
        path: path.to_owned(),
        line,
        problem,
    })?;
    Ok(Some((ring, Stamp::of(&metadata))))
}

/// Writes the file so that, whenever the machine stops, the old or the new one is there whole. To be called with the
/// lock held.
pub(crate) fn write(path: &Path, ring: &KeyRing) -> Result<(), VaultError> {
    let draft = beside(path, "new");
    let write = || {
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        // The umask can only have taken bits away; it must not take the owner's own.
        file.set_permissions(Permissions::from_mode(0o600))?;
        // Root may do this for a server of another user, who has to read it.
        if let Ok(old) = fs::metadata(path)
            && old.uid() != file.metadata()?.uid()
        {
            chown(&draft, Some(old.uid()), Some(old.gid()))?;
        }
        file.write_all(ring.to_text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(folder(path))?.sync_all()
    };
    write().map_err(failed(path))
}

/// Waits for the turn to change the file; it ends when the lock is dropped.
pub(crate) fn lock(path: &Path) -> Result<File, VaultError> {
    let lock = || {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(beside(path, "lock"))?;
        file.lock()?;
        Ok(file)
    };
    lock().map_err(failed(path))
}

/// `.NAME.SUFFIX` in the same folder.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder(path).join(format!(".{name}.{suffix}"))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> VaultError {
    let path = path.to_owned();
    move |source| VaultError::File { path, source }
}
