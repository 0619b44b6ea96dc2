//! Reads the files that are uploaded.
//!
//! A folder may come from somebody else, as a repository does. A link in it could lead to any file of the user, which
//! would be uploaded or shown in an error; a pipe would never end. So regular files are read, of bounded length, and in
//! an app's folder no links are followed.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
};

use super::error::ClientError;

/// Whether a link at the path itself is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// The user named the file.
    Follow,
    /// It was found in a folder.
    Refuse,
}

/// The text of a regular file of at most `max` bytes; `None` if there is no file.
pub(super) fn read_text(path: &Path, max: u64, links: Links) -> Result<Option<String>, ClientError> {
    let Some(bytes) = read_bytes(path, max, links)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ClientError::Input(format!("{} is not UTF-8 text (byte {at})", path.display()))
    })
}

/// The content of a regular file of at most `max` bytes; `None` if there is no file.
pub(super) fn read_bytes(path: &Path, max: u64, links: Links) -> Result<Option<Vec<u8>>, ClientError> {
    let wrong = |problem: String| Err(ClientError::Input(format!("{} {problem}", path.display())));
    // Without waiting, since opening a pipe waits for its writer.
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    if links == Links::Refuse {
        flags |= OFlags::NOFOLLOW;
    }
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return wrong("is a link; those in an app's folder are not followed".into()),
        Err(error) => return Err(file_error(path)(error.into())),
    };
    if !file.metadata().map_err(file_error(path))?.is_file() {
        return wrong("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(file_error(path))?;
    if bytes.len() as u64 > max {
        return wrong(format!("has more than {max} bytes"));
    }
    Ok(Some(bytes))
}

pub(super) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ClientError {
    let path = path.display().to_string();
    move |source| ClientError::File { path, source }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn only_regular_files_of_bounded_length_are_read() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        fs::write(path("plain"), "1 + 1").unwrap();
        fs::write(path("latin1"), b"ab\xff").unwrap();
        symlink(path("plain"), path("link")).unwrap();
        symlink("/dev/zero", path("zero")).unwrap();
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();

        let read = |name: &str, links: Links| read_text(&path(name), 5, links);
        assert_eq!(read("plain", Links::Refuse).unwrap().as_deref(), Some("1 + 1"));
        assert_eq!(read("link", Links::Follow).unwrap().as_deref(), Some("1 + 1"));
        assert_eq!(read("missing", Links::Refuse).unwrap(), None);

        let refused = |name: &str, links: Links| read(name, links).unwrap_err().to_string();
        assert!(refused("link", Links::Refuse).contains("is a link"));
        assert!(refused("zero", Links::Refuse).contains("is a link"));
        assert!(refused("zero", Links::Follow).contains("not a regular file"));
        assert!(refused("pipe", Links::Follow).contains("not a regular file"));
        assert!(refused("latin1", Links::Follow).contains("not UTF-8 text (byte 2)"));
        let long = read_text(&path("plain"), 4, Links::Follow).unwrap_err().to_string();
        assert!(long.contains("more than 4 bytes"), "{long}");
    }
}
