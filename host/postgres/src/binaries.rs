//! Where a system keeps PostgreSQL's server programs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::ServerError;

/// Folders that hold one sub-folder a major version, each with `bin` (Debian and Ubuntu, the PGDG packages of
/// Fedora and RHEL, Alpine).
const VERSIONED: &[&str] = &["/usr/lib/postgresql", "/usr", "/usr/libexec", "/opt"];

/// Folders that hold the programs themselves (Fedora, Arch, Homebrew on both kinds of Mac, from source).
const PLAIN: &[&str] = &[
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/postgresql/bin",
    "/usr/local/opt/postgresql/bin",
];

/// Folders in which Homebrew keeps `postgresql@15` and the like.
const HOMEBREW: &[&str] = &["/opt/homebrew/opt", "/usr/local/opt"];

/// PostgreSQL's programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// The folder they are in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The major version, like 15. A data folder belongs to one major version.
    pub const fn major(&self) -> u32 {
        self.major
    }

    /// The path of a program, like `initdb`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Finds the newest PostgreSQL of this machine: the folder that `PICLOUD_POSTGRES_BIN` names, or the first of
/// `PATH` and the usual folders of Debian, Fedora, Alpine and Homebrew.
pub fn find_binaries() -> Result<Binaries, ServerError> {
    match env::var_os("PICLOUD_POSTGRES_BIN") {
        Some(folder) => binaries_in(Path::new(&folder)),
        None => installed_binaries().into_iter().next().ok_or(ServerError::NotInstalled),
    }
}

/// The PostgreSQL in one folder, that of `PICLOUD_POSTGRES_BIN`.
pub fn binaries_in(folder: &Path) -> Result<Binaries, ServerError> {
    at(folder).ok_or_else(|| ServerError::WrongFolder(folder.to_owned()))
}

/// Every PostgreSQL in `PATH` and the usual folders, the newest first.
pub fn installed_binaries() -> Vec<Binaries> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in candidates().iter().filter_map(|folder| home_of(folder)) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    let mut found: Vec<Binaries> = folders.iter().filter_map(|folder| at(folder)).collect();
    // The sort is stable: of one version, the first place wins.
    found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
    found
}

fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.extend(PLAIN.iter().map(PathBuf::from));
    for parent in VERSIONED {
        folders.extend(children(Path::new(parent), |name| {
            let version = name.strip_prefix("pgsql-").or_else(|| name.strip_prefix("postgresql"));
            version.unwrap_or(name).parse::<u32>().is_ok()
        }));
    }
    for parent in HOMEBREW {
        folders.extend(children(Path::new(parent), |name| name.starts_with("postgresql@")));
    }
    folders
}

/// The `bin` folders of those children of `parent` whose name is wanted.
fn children(parent: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    // A folder that cannot be read is as good as none.
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let names = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&wanted));
    names.map(|entry| entry.path().join("bin")).collect()
}

fn at(folder: &Path) -> Option<Binaries> {
    let folder = home_of(folder)?;
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let major = major_version(&String::from_utf8_lossy(&output.stdout))?;
    Some(Binaries { folder, major })
}

/// Where the programs of a folder really are: a folder of `PATH` may have links to some of them, and the rest
/// is beside what they point to.
fn home_of(folder: &Path) -> Option<PathBuf> {
    let has_programs = |folder: &Path| folder.join("postgres").is_file() && folder.join("initdb").is_file();
    let linked = fs::canonicalize(folder.join("postgres")).ok()?.parent()?.to_owned();
    let folders = [linked, folder.to_owned()];
    folders.into_iter().find(|folder| has_programs(folder))
}

/// The major version in `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` or `... 18beta1`.
fn major_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("(PostgreSQL) ")?;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_every_form() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_version("postgres 9"), None);
    }

    #[test]
    fn this_machine_has_a_server() {
        let binaries = find_binaries().unwrap();
        assert!(binaries.program("initdb").is_file());
        assert!(binaries.major() >= 13);
    }

    #[test]
    fn links_lead_to_where_all_programs_are() {
        let real = find_binaries().unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["postgres", "initdb"] {
            std::os::unix::fs::symlink(real.program(name), folder.path().join(name)).unwrap();
        }
        assert_eq!(binaries_in(folder.path()).unwrap(), real);
    }
}
