//! PostgreSQL's programs as the system has them installed.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::error::PostgresError;

/// The oldest major version whose `initdb` and settings are used here.
const LEAST_VERSION: u32 = 14;

/// Folders that hold one folder a version, by the name of those and the way from there to the programs.
const VERSIONED: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"), // Debian, Ubuntu, Raspberry Pi OS
    ("/usr", "pgsql-", "bin"),          // PostgreSQL's own packages for Fedora and its kin
    ("/usr/libexec", "postgresql", ""), // Alpine
    ("/opt/homebrew/opt", "postgresql@", "bin"), // Homebrew on ARM
    ("/usr/local/opt", "postgresql@", "bin"), // Homebrew on Intel
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
];

/// An installation of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Programs {
    folder: PathBuf,
    version: u32,
}

impl Programs {
    /// Finds an installation: in `chosen` alone, if that is given; else wherever systems put it. Of several,
    /// the one of the version `wanted` (that of the data), else the newest.
    pub(crate) fn find(chosen: Option<&Path>, wanted: Option<u32>) -> Result<Self, PostgresError> {
        let (folders, searched) = match chosen {
            Some(folder) => (
                vec![folder.to_owned()],
                format!("PICLOUD_POSTGRES_BIN is {:?}", folder.display().to_string()),
            ),
            None => {
                (usual_folders(), "no `postgres` and `initdb` on PATH or where systems put them".to_owned())
            }
        };
        let mut found = Vec::new();
        for folder in folders {
            if folder.join("postgres").is_file() && folder.join("initdb").is_file() {
                found.push(Self { version: version(&folder.join("postgres"))?, folder });
            }
        }
        let newest = found.iter().max_by_key(|programs| programs.version);
        let best = found.iter().find(|programs| Some(programs.version) == wanted).or(newest);
        let Some(best) = best else {
            return Err(PostgresError::NotInstalled { searched, install: install_command() });
        };
        if best.version < LEAST_VERSION {
            return Err(PostgresError::TooOld {
                found: best.version,
                least: LEAST_VERSION,
                folder: best.folder.clone(),
            });
        }
        Ok(best.clone())
    }

    /// Where they are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Their major version.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }
}

fn usual_folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    for (parent, prefix, rest) in VERSIONED {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        let names = entries.flatten().filter(|entry| {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix));
            version.is_some_and(|version| version.parse::<u32>().is_ok())
        });
        folders.extend(names.map(|entry| entry.path().join(rest)));
    }
    folders
}

/// The major version that `postgres --version` names: `postgres (PostgreSQL) 15.14 (Debian ...)`.
fn version(program: &Path) -> Result<u32, PostgresError> {
    let fail = |problem: String| PostgresError::Program { program: program.to_owned(), problem };
    let output = std::process::Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| fail(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let major = number.map(|number| number.chars().take_while(char::is_ascii_digit).collect::<String>());
    major
        .and_then(|major| major.parse().ok())
        .ok_or_else(|| fail(format!("`--version` says {:?}", text.trim())))
}

/// The command that installs PostgreSQL on this system.
fn install_command() -> &'static str {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is = |name: &str| {
        let ids = release.lines().filter(|line| line.starts_with("ID=") || line.starts_with("ID_LIKE="));
        ids.flat_map(|line| line.split(['=', ' ', '"'])).any(|id| id == name)
    };
    match () {
        () if cfg!(target_os = "macos") => "brew install postgresql@17",
        () if is("fedora") || is("rhel") => "sudo dnf install postgresql-server",
        () if is("alpine") => "sudo apk add postgresql",
        () if is("arch") => "sudo pacman -S postgresql",
        () if is("suse") => "sudo zypper install postgresql-server",
        () => "sudo apt-get install postgresql",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_has_an_installation() {
        let found = Programs::find(None, None).unwrap();
        assert!(found.version() >= LEAST_VERSION);
        assert_eq!(Programs::find(Some(found.folder()), None).unwrap(), found);
    }

    #[test]
    fn an_empty_folder_is_refused_with_the_command_that_helps() {
        let temp = tempfile::tempdir().unwrap();
        let error = Programs::find(Some(temp.path()), None).unwrap_err().to_string();
        assert!(error.contains("PICLOUD_POSTGRES_BIN is "), "{error}");
        assert!(error.contains("install"), "{error}");
    }

    #[test]
    fn the_installation_that_fits_the_data_is_preferred() {
        use std::os::unix::fs::PermissionsExt;

        let temp = tempfile::tempdir().unwrap();
        for program in ["postgres", "initdb"] {
            let path = temp.path().join(program);
            fs::write(&path, "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.1'\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let error = Programs::find(Some(temp.path()), None).unwrap_err();
        assert!(matches!(error, PostgresError::TooOld { found: 9, .. }), "{error}");
    }
}
