//! What kind of machine this is, and how missing programs get onto it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use picloud_postgres::find_binaries;

use crate::process;

/// A program from outside that a task needs, with the packages that hold it.
pub(crate) struct Requirement {
    /// What it is for, for the message.
    pub(crate) what: &'static str,
    /// Packages of Debian and its derivatives.
    pub(crate) debian: &'static [&'static str],
    /// Packages of Fedora and its relatives.
    pub(crate) fedora: &'static [&'static str],
    /// Packages of Arch Linux.
    pub(crate) arch: &'static [&'static str],
    /// Formulas of Homebrew.
    pub(crate) homebrew: &'static [&'static str],
}

/// The database server, whose binaries PiCloud runs by itself.
pub(crate) const POSTGRESQL: Requirement = Requirement {
    what: "PostgreSQL's server programs",
    debian: &["postgresql"],
    fedora: &["postgresql-server"],
    arch: &["postgresql"],
    homebrew: &["postgresql@17"],
};

/// The load generator of the benchmarks.
pub(crate) const WRK: Requirement = Requirement {
    what: "the load generator wrk",
    debian: &["wrk"],
    fedora: &["wrk"],
    arch: &["wrk"],
    homebrew: &["wrk"],
};

enum Platform {
    Debian,
    Fedora,
    Arch,
    MacOs,
    Other,
}

impl Platform {
    fn here() -> Self {
        if cfg!(target_os = "macos") {
            return Self::MacOs;
        }
        Self::from_os_release(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn from_os_release(text: &str) -> Self {
        let ids = text
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
            .flat_map(|value| value.trim_matches('"').split(' '));
        for id in ids {
            match id {
                "debian" | "ubuntu" => return Self::Debian,
                "fedora" | "rhel" => return Self::Fedora,
                "arch" => return Self::Arch,
                _ => {}
            }
        }
        Self::Other
    }

    /// The command that installs `requirement`.
    fn advice(&self, requirement: &Requirement) -> String {
        let (command, packages) = match self {
            Self::Debian => ("apt-get install", requirement.debian),
            Self::Fedora => ("dnf install", requirement.fedora),
            Self::Arch => ("pacman -S", requirement.arch),
            Self::MacOs => ("brew install", requirement.homebrew),
            Self::Other => {
                return format!(
                    "install it with your system's package manager ({})",
                    requirement.debian.join(" ")
                );
            }
        };
        let root = if matches!(self, Self::MacOs) || is_root() { "" } else { "sudo " };
        format!("run: {root}{command} {}", packages.join(" "))
    }
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Installs a requirement where that needs no question (root on Debian); elsewhere says how to.
pub(crate) fn install(requirement: &Requirement) -> Result<()> {
    let platform = Platform::here();
    let advice = platform.advice(requirement);
    if !matches!(platform, Platform::Debian) || !is_root() {
        bail!("{} not found; {advice}", requirement.what);
    }
    println!("      installing {} with apt-get", requirement.debian.join(" "));
    apt_get(&["update", "-q"])
        .and_then(|()| {
            let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
            arguments.extend(requirement.debian);
            apt_get(&arguments)
        })
        .with_context(|| format!("{} could not be installed; {advice}", requirement.what))
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    process::run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Makes sure that PostgreSQL's server programs are there; says which were found.
pub(crate) fn ensure_postgresql() -> Result<String> {
    if find_binaries().is_err() {
        if is_root() && Path::new("/etc/debian_version").exists() {
            keep_debian_from_starting_a_cluster()?;
        }
        install(&POSTGRESQL)?;
    }
    let binaries = find_binaries()?;
    Ok(format!("version {} in {}", binaries.major(), binaries.folder().display()))
}

/// Debian's package makes and starts a database cluster of its own, which nobody asked for here.
fn keep_debian_from_starting_a_cluster() -> Result<()> {
    let folder = Path::new("/etc/postgresql-common/createcluster.d");
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let file = folder.join("picloud.conf");
    fs::write(&file, "# PiCloud runs its own PostgreSQL.\ncreate_main_cluster = false\n")
        .with_context(|| format!("writing {}", file.display()))
}

/// Makes sure that a program is in `PATH`, installing it if that is possible.
pub(crate) fn ensure_program(name: &str, requirement: &Requirement) -> Result<()> {
    if process::find_program(name).is_none() {
        install(requirement)?;
        ensure!(process::find_program(name).is_some(), "{name} was installed, but is not in PATH");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_platform_is_told_its_own_command() {
        let advice = |release: &str| Platform::from_os_release(release).advice(&POSTGRESQL);
        assert!(advice("ID=debian\n").ends_with("apt-get install postgresql"));
        assert!(advice("NAME=x\nID=raspbian\nID_LIKE=debian\n").contains("apt-get"));
        assert!(
            advice("ID=rocky\nID_LIKE=\"rhel centos fedora\"\n").contains("dnf install postgresql-server")
        );
        assert!(advice("ID=arch\n").contains("pacman -S postgresql"));
        assert!(advice("ID=nixos\n").contains("package manager"));
        assert!(Platform::MacOs.advice(&POSTGRESQL).contains("brew install postgresql"));
    }
}
