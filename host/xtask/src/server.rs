//! Starting `picloud serve` as a child, and finding one that runs already.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};

use crate::{http, process, system};

/// A first start makes the database and compiles the guest's code; on a small board both take their time.
const START_LIMIT: Duration = Duration::from_mins(5);
/// The server's own drain is bounded; this is a little more than its default.
const STOP_LIMIT: Duration = Duration::from_secs(45);

/// Where a server is and what it keeps, as the environment has it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The program.
    pub(crate) program: PathBuf,
    /// Absolute.
    pub(crate) data_dir: PathBuf,
    /// The control listener.
    pub(crate) admin: SocketAddr,
    /// The app listener.
    pub(crate) app: SocketAddr,
}

impl Place {
    /// The place that the environment names, with PiCloud's own defaults.
    pub(crate) fn from_env(root: &Path, program: PathBuf) -> Result<Self> {
        let data_dir = match std::env::var_os("PICLOUD_DATA_DIR").filter(|value| !value.is_empty()) {
            Some(folder) => std::path::absolute(folder)?,
            None if system::is_root() => PathBuf::from("/var/lib/picloud"),
            None => root.join(".picloud"),
        };
        Ok(Self {
            program,
            data_dir,
            admin: address("PICLOUD_ADMIN_ADDR", "127.0.0.1:8420")?,
            app: address("PICLOUD_APP_ADDR", "127.0.0.1:8421")?,
        })
    }

    /// A command of the program that means this server.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        self.tell(&mut command);
        command
    }

    /// Makes a command mean this server.
    pub(crate) fn tell(&self, command: &mut Command) {
        command
            .env("PICLOUD_DATA_DIR", &self.data_dir)
            .env("PICLOUD_ADMIN_ADDR", self.admin.to_string())
            .env("PICLOUD_APP_ADDR", self.app.to_string());
    }

    /// The file with the owner's token.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.data_dir.join("owner-token")
    }

    /// The process that holds the data folder, if one does: a server that runs.
    pub(crate) fn running(&self) -> Result<Option<u32>> {
        let path = self.data_dir.join("lock");
        let Ok(mut file) = OpenOptions::new().read(true).write(true).open(&path) else { return Ok(None) };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error).with_context(|| format!("looking at {}", path.display())),
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let pid = text.trim().parse().with_context(|| format!("{} names no process", path.display()))?;
        Ok(Some(pid))
    }

    /// Says plainly if another program has one of the ports.
    pub(crate) fn check_ports(&self) -> Result<()> {
        for (variable, address) in [("PICLOUD_ADMIN_ADDR", self.admin), ("PICLOUD_APP_ADDR", self.app)] {
            if let Err(error) = TcpListener::bind(address) {
                let other = SocketAddr::new(address.ip(), address.port().wrapping_add(10_000).max(1024));
                bail!(
                    "cannot listen on {address}: {error}. Stop what has it, or choose: {variable}={other} cargo xtask up"
                );
            }
        }
        Ok(())
    }

    /// Starts the server in a process group of its own, so that Ctrl-C in the terminal reaches only this
    /// program, which then asks the server to drain, once.
    pub(crate) fn start(&self, output: Output) -> Result<Child> {
        let (stdout, stderr) = match output {
            Output::Terminal => (Stdio::inherit(), Stdio::inherit()),
            Output::Log => {
                let log = self.open_log()?;
                (log.try_clone()?.into(), log.into())
            }
        };
        self.command()
            .arg("serve")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))
    }

    /// The log of a server that was left running.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.data_dir.join("server.log")
    }

    fn open_log(&self) -> Result<File> {
        if !self.data_dir.exists() {
            fs::create_dir_all(&self.data_dir)
                .with_context(|| format!("making the data folder {}", self.data_dir.display()))?;
            // The modes that the server gives it: PostgreSQL's own user must get through root's folder.
            let mode = if system::is_root() { 0o711 } else { 0o700 };
            fs::set_permissions(&self.data_dir, fs::Permissions::from_mode(mode))?;
        }
        let path = self.log_file();
        let open = OpenOptions::new().create(true).append(true).open(&path);
        open.with_context(|| format!("opening {}", path.display()))
    }

    /// Waits for `/readyz`. `pause` waits a moment between two looks, and ends the wait by an error.
    pub(crate) fn wait_until_ready(&self, mut pause: impl FnMut() -> Result<()>) -> Result<()> {
        let started = Instant::now();
        let mut last = anyhow!("it was not asked");
        while started.elapsed() < START_LIMIT {
            match self.readyz() {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            pause()?;
        }
        bail!("the server is not ready after {} s: {last:#}", START_LIMIT.as_secs())
    }

    /// Whether the server takes requests.
    pub(crate) fn readyz(&self) -> Result<()> {
        let admin = reachable(self.admin);
        let response = http::send(admin, &http::Request::get(&admin.to_string(), "/readyz"))?;
        match response.status {
            200 => Ok(()),
            status => bail!("/readyz answers {status}: {}", response.text()),
        }
    }
}

/// Where a started server writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output {
    /// To this program's terminal.
    Terminal,
    /// To [`Place::log_file`].
    Log,
}

/// Asks a server to drain, and waits until it is gone.
pub(crate) fn stop(pid: u32) -> Result<()> {
    process::signal(pid, Signal::TERM)?;
    if !process::wait_until_gone(pid, STOP_LIMIT) {
        bail!("process {pid} still runs {} s after it was asked to stop", STOP_LIMIT.as_secs());
    }
    Ok(())
}

/// An address to connect to, for one to listen on: "any address" is reached over loopback.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn address(variable: &str, default: &str) -> Result<SocketAddr> {
    let text = std::env::var(variable).ok().filter(|value| !value.is_empty());
    let text = text.unwrap_or_else(|| default.to_owned()).replacen("localhost:", "127.0.0.1:", 1);
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => bail!("{variable} is {text:?}; allowed is IP:PORT with a port of 1 to 65535, such as {default}"),
    }
}
