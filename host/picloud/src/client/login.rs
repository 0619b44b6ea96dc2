//! Which token goes to which server.
//!
//! A token is only ever sent to the server it is for: a saved one to the address it was saved with, the
//! owner's from the data folder to this machine.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::error::ClientError;

/// The file in the data folder that the server writes the owner's token to.
const OWNER_TOKEN: &str = "owner-token";

/// The saved tokens, by server address.
#[derive(Debug)]
pub(super) struct Logins {
    path: PathBuf,
    tokens: BTreeMap<String, String>,
}

impl Logins {
    /// Reads `picloud/logins.json` of the user's configuration folder.
    pub(super) fn load() -> Result<Self, ClientError> {
        let folder = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
        let folder = folder.or_else(home).unwrap_or_else(|| PathBuf::from("."));
        Self::read(folder.join("picloud/logins.json"))
    }

    fn read(path: PathBuf) -> Result<Self, ClientError> {
        let tokens = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                ClientError::Input(format!("{}: {error}; remove the file and log in again", path.display()))
            })?,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                BTreeMap::new()
            }
            Err(error) => return Err(file_error(&path)(error)),
        };
        Ok(Self { path, tokens })
    }

    /// The token saved for a server.
    pub(super) fn token(&self, url: &str) -> Option<&str> {
        self.tokens.get(url).map(String::as_str)
    }

    /// Saves a token for a server, readable by this user alone.
    pub(super) fn save(&mut self, url: &str, token: &str) -> Result<&Path, ClientError> {
        self.tokens.insert(url.to_owned(), token.to_owned());
        self.write()?;
        Ok(&self.path)
    }

    /// Forgets the token of a server; says whether there was one.
    pub(super) fn forget(&mut self, url: &str) -> Result<bool, ClientError> {
        if self.tokens.remove(url).is_none() {
            return Ok(false);
        }
        self.write()?;
        Ok(true)
    }

    fn write(&self) -> Result<(), ClientError> {
        let write = || {
            if let Some(folder) = self.path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let draft = self.path.with_extension(format!("json.{}", std::process::id()));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(serde_json::to_string_pretty(&self.tokens)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &self.path)
        };
        write().map_err(file_error(&self.path))
    }
}

/// The owner's token, if `url` is this machine and there is one.
pub(super) fn owner_token(url: &str, data_dir: &Path) -> Result<Option<String>, ClientError> {
    if !is_this_machine(url) {
        return Ok(None);
    }
    let path = data_dir.join(OWNER_TOKEN);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty())),
        Err(error) => unread(&path, error),
    }
}

/// A file that this user may not read is another matter than one that is not there.
fn unread(path: &Path, error: io::Error) -> Result<Option<String>, ClientError> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(None),
        io::ErrorKind::PermissionDenied => Err(ClientError::UnreadableToken(path.display().to_string())),
        _ => Err(file_error(path)(error)),
    }
}

/// Whether an address is a loopback one, so that what is sent there stays here.
pub(super) fn is_this_machine(url: &str) -> bool {
    let host = host(url);
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

fn host(url: &str) -> String {
    let uri = url.parse::<ureq::http::Uri>();
    uri.ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase)).unwrap_or_default()
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ClientError {
    let path = path.display().to_string();
    move |source| ClientError::File { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn tokens_are_saved_by_server_and_for_this_user_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("picloud/logins.json");
        let mut logins = Logins::read(path.clone()).unwrap();
        logins.save("http://a", "pcl_a").unwrap();
        logins.save("http://b", "pcl_b").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut logins = Logins::read(path).unwrap();
        assert_eq!(logins.token("http://a"), Some("pcl_a"));
        assert!(logins.forget("http://a").unwrap());
        assert_eq!(logins.token("http://a"), None);
        assert_eq!(logins.token("http://b"), Some("pcl_b"));
    }

    #[test]
    fn a_token_that_may_not_be_read_is_not_called_missing() {
        let path = Path::new("/data/owner-token");
        assert!(unread(path, io::ErrorKind::NotFound.into()).unwrap().is_none());
        let error = unread(path, io::ErrorKind::PermissionDenied.into()).unwrap_err().to_string();
        assert!(
            error.contains("/data/owner-token has the owner's token, but this user may not read it")
                && error.contains("picloud login"),
            "{error}"
        );
    }

    #[test]
    fn the_owners_token_stays_on_this_machine() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(OWNER_TOKEN), "pcl_x\n").unwrap();
        for here in ["http://127.0.0.1:8420", "http://[::1]:1", "http://localhost:8420", "http://LOCALHOST"] {
            assert_eq!(owner_token(here, temp.path()).unwrap().as_deref(), Some("pcl_x"), "{here}");
        }
        for away in ["http://example.org", "http://127.0.0.1.example.org", "http://localhost@example.org"] {
            assert_eq!(owner_token(away, temp.path()).unwrap(), None, "{away}");
        }
    }
}
