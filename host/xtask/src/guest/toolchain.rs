//! Finds a compiler for `wasm32-unknown-unknown`, in the order of docs/adr/0002-guest-toolchain.md.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

const TARGET: &str = "wasm32-unknown-unknown";
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// What the packages and their dependencies added on Debian 12.
const DEBIAN_SIZE: &str = "about 400 MB";
const DEBIAN_SOURCES: &str = "/usr/src/rustc-web";

/// A way to compile the guest.
pub(crate) enum Toolchain {
    /// The toolchain that builds everything else, with the target's standard library installed.
    Rustup,
    /// Debian's compiler for the web, which builds the standard library from source.
    Debian {
        /// The linker: `rust-lld` of the rustup toolchain, or Debian's.
        linker: PathBuf,
    },
}

/// Finds a toolchain, installing what is missing where that is possible.
pub(crate) fn find() -> Result<Toolchain> {
    if rustup_has_target() {
        return Ok(Toolchain::Rustup);
    }
    if Command::new("rustup")
        .args(["target", "add", TARGET])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
        && rustup_has_target()
    {
        return Ok(Toolchain::Rustup);
    }
    if !has_debian_compiler() {
        install_debian_compiler()?;
    }
    Ok(Toolchain::Debian { linker: find_linker()? })
}

impl Toolchain {
    /// One line for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Rustup => format!("the rustup toolchain's {TARGET} target"),
            Self::Debian { linker } => {
                format!("Debian's rustc-web and the linker {}", linker.display())
            }
        }
    }

    /// Compiles the guest and gives the path of its core module.
    pub(crate) fn build(&self, root: &Path) -> Result<PathBuf> {
        let target_dir = root.join("target/guest/build");
        let mut command = match self {
            Self::Rustup => Command::new("cargo"),
            Self::Debian { linker } => {
                let mut command = Command::new("/usr/bin/cargo");
                command
                    .arg("-Zbuild-std=std,panic_abort")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                command
            }
        };
        // What the outer cargo tells its own children must not reach this one.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let kept = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_CAINFO", "CARGO_BUILD_JOBS"];
            if text == "CARGO" || (text.starts_with("CARGO_") && !kept.contains(&&*text)) {
                command.env_remove(&name);
            }
        }
        if let Self::Debian { linker } = self {
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker).env_remove("RUSTUP_TOOLCHAIN");
        }
        let status = command
            .args(["build", "--locked", "--package", "picloud-guest", "--lib", "--profile", "guest"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(&target_dir)
            .current_dir(root)
            .status()
            .context("starting cargo for the guest")?;
        if !status.success() {
            bail!("the guest does not build ({status})");
        }
        Ok(target_dir.join(TARGET).join("guest/picloud_guest.wasm"))
    }
}

fn rustup_has_target() -> bool {
    rustc_print("target-libdir", &["--target", TARGET]).is_some_and(|folder| folder.is_dir())
}

fn rustc_print(what: &str, more: &[&str]) -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", what]).args(more).output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn has_debian_compiler() -> bool {
    ["/usr/bin/rustc", "/usr/bin/cargo"].iter().all(|path| Path::new(path).exists())
        && debian_sources().is_some()
}

/// The standard library's sources, as `rust-web-src` installs them for the compiler's version.
fn debian_sources() -> Option<PathBuf> {
    let output = Command::new("/usr/bin/rustc").args(["--print", "sysroot"]).output().ok()?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let sources = sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml");
    (sources.exists() || Path::new(DEBIAN_SOURCES).exists()).then_some(sources)
}

fn install_debian_compiler() -> Result<()> {
    let packages = DEBIAN_PACKAGES.join(" ");
    let advice = format!(
        "no compiler for {TARGET} was found. With internet: rustup target add {TARGET}. \
         On Debian 12: apt-get install {packages}"
    );
    if !Path::new("/etc/debian_version").exists() || !is_root() {
        bail!("{advice}");
    }
    eprintln!("installing {packages}, the compiler for the guest: {DEBIAN_SIZE} of disk");
    for arguments in [&["update", "-q"][..], &["install", "-q", "-y", "--no-install-recommends"]] {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        if arguments[0] == "install" {
            command.args(DEBIAN_PACKAGES);
        }
        let status = command.status().context("starting apt-get")?;
        if !status.success() {
            bail!("apt-get {} failed ({status}); {advice}", arguments[0]);
        }
    }
    if has_debian_compiler() { Ok(()) } else { bail!("{advice}") }
}

/// Whether this process is root: `/proc/self` belongs to the process's effective user.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The rustup toolchain ships LLVM's linker; Debian has it as the package lld.
fn find_linker() -> Result<PathBuf> {
    if let Some(sysroot) = rustc_print("sysroot", &[])
        && let Ok(hosts) = std::fs::read_dir(sysroot.join("lib/rustlib"))
    {
        let mut found = hosts.flatten().map(|host| host.path().join("bin/rust-lld"));
        if let Some(linker) = found.find(|path| path.exists()) {
            return Ok(linker);
        }
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .map(|folder| folder.join("wasm-ld"))
        .find(|path| path.exists())
        .context("no linker for WebAssembly was found; on Debian: apt-get install lld")
}
