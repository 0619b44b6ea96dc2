//! Configuration of the server: every setting is a flag and an environment variable of the same meaning.
//!
//! A flag wins over its variable. A variable that is set but empty counts as unset, so that a service file or
//! a compose file can list what it does not set. A wrong value is refused before anything is touched.

mod ceiling;
mod data_dir;
mod environment;
mod mail;
mod oidc;
mod secret_file;
mod triggers;
mod values;

use std::{
    env, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use picloud_core::{DomainName, SandboxCeiling};
use picloud_egress::OpenNetwork;
use picloud_executor::{Compiler, ExecutorConfig};
use picloud_vault::SECRET_KEYS_FILE;

pub(crate) use self::{
    ceiling::CeilingArgs,
    data_dir::{DataDir, DataDirError, DataDirLock, default_data_dir},
    environment::{refusal, unknown_variables, without_empty_variables},
    mail::MailArgs,
    oidc::OidcArgs,
    triggers::TriggerArgs,
    values::{parse_address, reachable},
};
use crate::{
    confinement::ConfinementMode,
    exit::{Exit, Failure},
};

/// Where the server keeps its files.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataDirArgs {
    /// Folder of the server's data [default: /var/lib/picloud as root, else ./.picloud]
    #[arg(long, env = "PICLOUD_DATA_DIR", value_name = "FOLDER", help_heading = "Storage")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl DataDirArgs {
    /// The folder, whether it exists or not.
    pub(crate) fn path(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(default_data_dir)
    }
}

/// The database: an outside one, or PostgreSQL as a child of the server.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(crate) struct DatabaseArgs {
    #[command(flatten)]
    pub(crate) data: DataDirArgs,

    /// PostgreSQL server to use, as `postgres://USER:PASSWORD@HOST/DATABASE` [default: its own, under the data
    /// folder]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = values::database_url)]
    pub(crate) database_url: Option<String>,

    /// Most connections to the database
    #[arg(long, env = "PICLOUD_DATABASE_CONNECTIONS", value_name = "COUNT", default_value = "8", value_parser = values::whole(2, 200))]
    pub(crate) database_connections: u64,

    /// Folder of PostgreSQL's programs (postgres, initdb) for its own server [default: found by itself]
    #[arg(long, env = "PICLOUD_POSTGRES_BIN", value_name = "FOLDER")]
    pub(crate) postgres_bin: Option<PathBuf>,
}

/// Where the keys of secrets are.
#[derive(Clone, Debug, Args)]
pub(crate) struct SecretKeysArgs {
    /// File of the keys that secrets are encrypted with [default: secret-keys in the data folder]
    #[arg(long, env = "PICLOUD_SECRET_KEYS_FILE", value_name = "FILE", help_heading = "Storage")]
    pub(crate) secret_keys_file: Option<PathBuf>,
}

impl SecretKeysArgs {
    /// The file, whether it exists or not.
    pub(crate) fn path(&self, data_dir: &Path) -> PathBuf {
        self.secret_keys_file.clone().unwrap_or_else(|| data_dir.join(SECRET_KEYS_FILE))
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How the program logs.
#[expect(clippy::doc_markdown, reason = "the text of --help")]
#[derive(Clone, Debug, Args)]
pub(crate) struct LogArgs {
    /// How log lines look on standard error; RUST_LOG selects them (default `info`)
    #[arg(
        long,
        env = "PICLOUD_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value = "text",
        help_heading = "Logging"
    )]
    pub(crate) log_format: LogFormat,
}

/// The sandbox.
#[derive(Clone, Debug, Args)]
pub(crate) struct SandboxArgs {
    /// Invocations that run at once on this node
    #[arg(long, env = "PICLOUD_CONCURRENCY", value_name = "COUNT", default_value = "32", value_parser = values::whole(1, 1024), help_heading = "Sandbox")]
    pub(crate) concurrency: u64,

    /// Memory for script images; a number of bytes, or with KiB, MiB or GiB
    #[arg(long, env = "PICLOUD_IMAGE_MEMORY_BYTES", value_name = "BYTES", default_value = "64MiB", value_parser = values::bytes(1 << 20, 1 << 40), help_heading = "Sandbox")]
    pub(crate) image_memory_bytes: u64,

    /// Disk for script images, under the data folder
    #[arg(long, env = "PICLOUD_IMAGE_DISK_BYTES", value_name = "BYTES", default_value = "1GiB", value_parser = values::bytes(1 << 20, 1 << 44), help_heading = "Sandbox")]
    pub(crate) image_disk_bytes: u64,

    #[command(flatten)]
    pub(crate) ceiling: CeilingArgs,
}

/// What scripts may reach.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Calls of scripts")]
pub(crate) struct EgressArgs {
    /// Private or local networks that scripts may call, if their app's list has the host: addresses or networks, with a
    /// port or without one (192.168.1.0/24, 192.168.1.20:8080), separated by commas [default: none]
    #[arg(long, env = "PICLOUD_EGRESS_PRIVATE", value_name = "NETWORKS", value_parser = values::open_networks)]
    pub(crate) egress_private: Option<OpenNetworks>,

    /// File of certificates (PEM) of authorities to trust for scripts' calls, beside the public ones
    #[arg(long, env = "PICLOUD_EGRESS_CA_FILE", value_name = "FILE")]
    pub(crate) egress_ca_file: Option<PathBuf>,
}

/// Every setting of `picloud serve`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    /// Control listener: management API, health and metrics. Keep it private
    #[arg(long, env = "PICLOUD_ADMIN_ADDR", value_name = "IP:PORT", default_value = "127.0.0.1:8420", value_parser = parse_address, help_heading = "Listeners")]
    pub(crate) admin_addr: SocketAddr,

    /// App listener: the traffic of apps and nothing else
    #[arg(long, env = "PICLOUD_APP_ADDR", value_name = "IP:PORT", default_value = "127.0.0.1:8421", value_parser = parse_address, help_heading = "Listeners")]
    pub(crate) app_addr: SocketAddr,

    /// Domain under which each app has its host name, APP.DOMAIN. A domain other than `localhost` switches the
    /// path form `/@APP/...` off
    #[arg(long, env = "PICLOUD_APP_DOMAIN", value_name = "DOMAIN", default_value = "localhost", value_parser = values::domain, help_heading = "Listeners")]
    pub(crate) app_domain: DomainName,

    /// Further host names that the control listener answers to, separated by commas; loopback names and its
    /// own address always are
    #[arg(long, env = "PICLOUD_ADMIN_HOSTS", value_name = "HOSTS", value_parser = values::host_names, help_heading = "Listeners")]
    pub(crate) admin_hosts: Option<HostNames>,

    /// Proxies whose `x-forwarded-for` is believed: addresses or networks (10.0.0.0/8), separated by commas
    #[arg(long, env = "PICLOUD_TRUSTED_PROXIES", value_name = "NETWORKS", value_parser = values::networks, help_heading = "Listeners")]
    pub(crate) trusted_proxies: Option<Networks>,

    /// Name server that is asked for the proofs of apps' domains [default: those of /etc/resolv.conf]
    #[arg(long, env = "PICLOUD_NAME_SERVER", value_name = "IP:PORT", value_parser = parse_address, help_heading = "Listeners")]
    pub(crate) name_server: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) oidc: OidcArgs,

    #[command(flatten)]
    pub(crate) database: DatabaseArgs,

    #[command(flatten)]
    pub(crate) secret_keys: SecretKeysArgs,

    /// Disk for contents of apps' files, under the data folder; a number of bytes, or with KiB, MiB or GiB
    #[arg(long, env = "PICLOUD_FILE_CACHE_BYTES", value_name = "BYTES", default_value = "256MiB", value_parser = values::bytes(1 << 20, 1 << 44), help_heading = "Storage")]
    pub(crate) file_cache_bytes: u64,

    /// Days that the history of invocations is kept
    #[arg(long, env = "PICLOUD_HISTORY_DAYS", value_name = "DAYS", default_value = "14", value_parser = values::whole(1, 3650), help_heading = "Storage")]
    pub(crate) history_days: u64,

    /// Successful invocations kept in the history per second and app; failures are always kept
    #[arg(long, env = "PICLOUD_HISTORY_SUCCESS_PER_SECOND", value_name = "COUNT", default_value = "10", value_parser = values::whole(0, 100_000), help_heading = "Storage")]
    pub(crate) history_success_per_second: u64,

    /// Days that the hourly counters of usage are kept
    #[arg(long, env = "PICLOUD_USAGE_RETENTION_DAYS", value_name = "DAYS", default_value = "90", value_parser = values::whole(2, 3650), help_heading = "Storage")]
    pub(crate) usage_retention_days: u64,

    /// Days that the audit log is kept
    #[arg(long, env = "PICLOUD_AUDIT_RETENTION_DAYS", value_name = "DAYS", default_value = "365", value_parser = values::whole(1, 36_500), help_heading = "Storage")]
    pub(crate) audit_retention_days: u64,

    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,

    #[command(flatten)]
    pub(crate) egress: EgressArgs,

    #[command(flatten)]
    pub(crate) triggers: TriggerArgs,

    #[command(flatten)]
    pub(crate) mail: MailArgs,

    /// Threads that serve requests and run scripts [default: one a core]
    #[arg(long, env = "PICLOUD_WORKER_THREADS", value_name = "COUNT", value_parser = values::whole(1, 256), help_heading = "Sandbox")]
    pub(crate) worker_threads: Option<u64>,

    /// What the operating system is asked to keep the server from (privileges, writing outside its folders, system
    /// calls): all that it has, all of it or no start, or nothing
    #[arg(
        long,
        env = "PICLOUD_CONFINEMENT",
        value_name = "HOW",
        value_enum,
        default_value = "auto",
        help_heading = "Sandbox"
    )]
    pub(crate) confinement: ConfinementMode,

    /// Longest time for running requests to end after SIGTERM or Ctrl-C
    #[arg(long, env = "PICLOUD_DRAIN_SECONDS", value_name = "SECONDS", default_value = "30", value_parser = values::whole(0, 3600), help_heading = "Shutdown")]
    pub(crate) drain_seconds: u64,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// A list of host names: one value for clap.
pub(crate) type HostNames = values::List<DomainNameOrIp>;

/// A list of networks: one value for clap.
pub(crate) type Networks = values::List<IpNet>;

/// A list of opened networks: one value for clap.
pub(crate) type OpenNetworks = values::List<OpenNetwork>;

/// What a `Host` header may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DomainNameOrIp {
    /// A host name.
    Domain(DomainName),
    /// An address.
    Ip(IpAddr),
}

impl std::fmt::Display for DomainNameOrIp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(name) => name.fmt(f),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl SandboxArgs {
    /// The platform's ceiling over apps' limits.
    pub(crate) fn ceiling(&self) -> SandboxCeiling {
        self.ceiling.0
    }

    /// What the executor is started with.
    pub(crate) fn executor(&self, data_dir: &Path) -> io::Result<ExecutorConfig> {
        let program = env::current_exe()?;
        Ok(ExecutorConfig {
            cache_dir: data_dir.join("cache"),
            concurrency: self.concurrency as u32,
            max_memory_bytes: self.ceiling().limits().memory_bytes,
            image_memory_bytes: self.image_memory_bytes,
            image_disk_bytes: self.image_disk_bytes,
            compiler: Compiler::Child { program, args: vec!["precompile-guest".into()] },
            pool_mode: None,
        })
    }
}

impl ServeArgs {
    /// Checks what no single setting can know.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let (admin, app) = (self.admin_addr, self.app_addr);
        let same_ip = admin.ip() == app.ip() || admin.ip().is_unspecified() || app.ip().is_unspecified();
        if same_ip && admin.port() == app.port() && admin.port() != 0 {
            return Err(Failure::new(
                Exit::Usage,
                format_args!(
                    "PICLOUD_ADMIN_ADDR is {admin} and PICLOUD_APP_ADDR is {app}: the control listener and \
                     the app listener need different ports"
                ),
            ));
        }
        self.mail.relay(&self.app_domain).map(drop)
    }

    /// The threads to serve with.
    pub(crate) fn threads(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        self.worker_threads.map_or_else(cores, |count| count as usize)
    }

    /// How long a drain may take.
    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}
