//! Which of the system's PostgreSQL installations is used.

use std::path::Path;

use picloud_postgres::{Binaries, ServerError, binaries_in, installed_binaries};

use super::error::PostgresError;

/// The oldest major version whose `initdb` and settings are used here.
const LEAST_VERSION: u32 = 13;

/// The installation in the folder `chosen`; without one, the one of the version `wanted` (that of the data),
/// else the newest.
pub(crate) fn find(chosen: Option<&Path>, wanted: Option<u32>) -> Result<Binaries, PostgresError> {
    let found = match chosen {
        Some(folder) => binaries_in(folder)?,
        None => {
            let all = installed_binaries();
            let fitting = all.iter().find(|binaries| Some(binaries.major()) == wanted);
            fitting.or(all.first()).cloned().ok_or(ServerError::NotInstalled)?
        }
    };
    if found.major() < LEAST_VERSION {
        let folder = found.folder().to_owned();
        return Err(PostgresError::TooOld { found: found.major(), least: LEAST_VERSION, folder });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn the_system_has_an_installation() {
        let found = find(None, None).unwrap();
        assert_eq!(find(Some(found.folder()), None).unwrap(), found);
        assert_eq!(find(None, Some(found.major())).unwrap(), found);
    }

    #[test]
    fn an_empty_folder_is_refused_by_its_variable() {
        let temp = tempfile::tempdir().unwrap();
        let error = find(Some(temp.path()), None).unwrap_err().to_string();
        assert!(error.starts_with("PICLOUD_POSTGRES_BIN is "), "{error}");
    }

    #[test]
    fn an_old_version_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        for program in ["postgres", "initdb"] {
            let path = temp.path().join(program);
            fs::write(&path, "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.1'\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let error = find(Some(temp.path()), None).unwrap_err();
        assert!(matches!(error, PostgresError::TooOld { found: 9, .. }), "{error}");
    }
}
