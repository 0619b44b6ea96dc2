//! Secrets that a setting names a file of.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use crate::exit::{Exit, Failure};

/// The longest file of a secret.
const MAX_SECRET_BYTES: u64 = 4096;

/// Reads the secret that `variable` names the file of. Nobody else may be able to read the file.
pub(super) fn read<T>(
    variable: &str,
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, Failure> {
    let refused =
        |problem: String| Failure::new(Exit::Usage, format!("{variable} is {}; {problem}", path.display()));
    let read = || -> io::Result<(u32, String)> {
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        let mut text = String::new();
        file.take(MAX_SECRET_BYTES).read_to_string(&mut text)?;
        Ok((mode, text))
    };
    let (mode, text) = read().map_err(|error| refused(error.to_string()))?;
    if mode & 0o077 != 0 {
        return Err(refused(format!("others can read it (mode {mode:04o}); allowed is 0600")));
    }
    parse(&text).map_err(refused)
}
