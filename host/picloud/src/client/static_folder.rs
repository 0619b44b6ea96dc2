//! The static files of an app's folder: those in `static/`, which a deployment brings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use picloud_core::{AppName, FileHash, FilePath, MAX_FILE_BYTES, STATIC_FOLDER};
use serde::{Deserialize, Serialize};

use super::{
    api::Api,
    app_path,
    error::ClientError,
    files::{Links, file_error, read_bytes},
    pages::Items,
    project::sorted_entries,
};

/// How deep folders may be nested; a path has 512 bytes.
const MAX_DEPTH: usize = 64;

/// The most bytes of new contents that one deployment brings.
const MOST_NEW_BYTES: u64 = 12 << 20;

/// Contents by path.
pub(super) type StaticFiles = BTreeMap<FilePath, Vec<u8>>;

/// A file as a bundle has it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct BundledFile {
    sha256: String,
    /// Left out where the app has it already.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Present {
    sha256: String,
}

/// Reads `static/` of an app's folder; nothing where it has none. Names that start with a dot are left out, except
/// `.well-known`, which is there to be served.
pub(super) fn read(folder: &Path) -> Result<StaticFiles, ClientError> {
    let mut files = StaticFiles::new();
    let name = STATIC_FOLDER.trim_end_matches('/');
    let path = folder.join(name);
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => collect(&path, &mut vec![name.to_owned()], &mut files)?,
        Ok(_) => {
            let problem =
                format!("{} is no folder; {STATIC_FOLDER} has the files that are served", path.display());
            return Err(ClientError::Input(problem));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file_error(&path)(error)),
    }
    Ok(files)
}

fn collect(folder: &Path, parts: &mut Vec<String>, files: &mut StaticFiles) -> Result<(), ClientError> {
    if parts.len() > MAX_DEPTH {
        return Err(ClientError::Input(format!("{} is nested too deeply", folder.display())));
    }
    for path in sorted_entries(folder)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(ClientError::Input(format!("{}: its name is not UTF-8; rename it", path.display())));
        };
        if name.starts_with('.') && name != ".well-known" {
            continue;
        }
        parts.push(name.to_owned());
        if fs::symlink_metadata(&path).map_err(file_error(&path))?.is_dir() {
            collect(&path, parts, files)?;
        } else {
            let named = FilePath::new(parts.join("/"))
                .map_err(|error| ClientError::Input(format!("{}: {error}; rename it", path.display())))?;
            let missing = || file_error(&path)(io::ErrorKind::NotFound.into());
            files.insert(named, read_bytes(&path, MAX_FILE_BYTES, Links::Refuse)?.ok_or_else(missing)?);
        }
        parts.pop();
    }
    Ok(())
}

/// The files as a bundle has them, with the contents that the app does not have yet.
pub(super) fn bundled(
    api: &Api,
    app: &AppName,
    files: &StaticFiles,
) -> Result<BTreeMap<FilePath, BundledFile>, ClientError> {
    let present = if files.is_empty() { BTreeSet::new() } else { present(api, app) };
    let bundled: BTreeMap<_, _> =
        files.iter().map(|(path, content)| (path.clone(), bundle(content, &present))).collect();
    let is_new = |path: &FilePath| bundled.get(path).is_some_and(|file| file.content.is_some());
    let new: u64 =
        files.iter().filter(|(path, _)| is_new(path)).map(|(_, content)| content.len() as u64).sum();
    if new > MOST_NEW_BYTES {
        return Err(ClientError::Input(format!(
            "the new files in {STATIC_FOLDER} have {new} bytes; a deployment brings at most {MOST_NEW_BYTES}. Upload the \
             large ones first, with `picloud files put PATH FILE --app {app}`: what the app has is not sent again"
        )));
    }
    Ok(bundled)
}

fn bundle(content: &[u8], present: &BTreeSet<String>) -> BundledFile {
    let sha256 = FileHash::of(content).to_string();
    let content = (!present.contains(&sha256)).then(|| STANDARD.encode(content));
    BundledFile { sha256, content }
}

/// The hashes of what the app has. Where it is not there yet, or the token may not read its data, everything is sent.
fn present(api: &Api, app: &AppName) -> BTreeSet<String> {
    let listed = Items::fetch(api, &app_path(app, "/files"), &[], None);
    let listed = listed.and_then(|items| items.read::<Present>(api));
    listed.unwrap_or_default().into_iter().map(|file| file.sha256).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_folder_is_read_without_links_and_hidden_files() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(read(temp.path()).unwrap(), StaticFiles::new());
        for name in [
            "static/a.css",
            "static/.git/x",
            "static/.DS_Store",
            "static/.well-known/security.txt",
            "static/b/c",
        ] {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let files = read(temp.path()).unwrap();
        let names: Vec<_> = files.keys().map(FilePath::as_str).collect();
        assert_eq!(names, ["static/.well-known/security.txt", "static/a.css", "static/b/c"]);
        symlink("/etc/passwd", temp.path().join("static/link")).unwrap();
        assert!(read(temp.path()).unwrap_err().to_string().contains("is a link"));
        fs::remove_file(temp.path().join("static/link")).unwrap();
        fs::write(temp.path().join("static/a\\b"), "").unwrap();
        assert!(read(temp.path()).unwrap_err().to_string().contains("allowed are segments"));
    }

    #[test]
    fn what_the_app_has_is_not_sent_again() {
        let present = BTreeSet::from([FileHash::of(b"old").to_string()]);
        assert_eq!(bundle(b"old", &present).content, None);
        assert_eq!(bundle(b"new", &present).content.as_deref(), Some("bmV3"));
    }
}
