//! PostgreSQL's configuration files. They stand in a folder of PiCloud's own user, not in the cluster, so that
//! the database's user cannot change who is let in, and root never writes where that user can.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{NAME, PORT, error::PostgresError, owner::Owner};

/// Connections beside the pool's: `psql` of an operator, and PostgreSQL's own reserve.
const SPARE_CONNECTIONS: u64 = 6;

/// The configuration folder.
#[derive(Debug)]
pub(super) struct Settings {
    folder: PathBuf,
}

impl Settings {
    /// Writes the files anew: they follow the settings and the user of this start.
    pub(super) fn write(data_dir: &Path, socket: &Path, connections: u64) -> Result<Self, PostgresError> {
        let folder = data_dir.join("postgres-config");
        fs::create_dir_all(&folder).map_err(PostgresError::file(&folder))?;
        set_mode(&folder, 0o755)?;
        let settings = Self { folder };
        settings.put("postgresql.conf", &configuration(&settings.folder, socket, connections))?;
        settings.put("pg_hba.conf", HBA)?;
        settings.put("pg_ident.conf", &format!("{NAME} {} {NAME}\n", quoted(&Owner::client_name()?, '"')))?;
        Ok(settings)
    }

    /// The file that `postgres` is started with.
    pub(super) fn main_file(&self) -> PathBuf {
        self.folder.join("postgresql.conf")
    }

    fn put(&self, name: &str, text: &str) -> Result<(), PostgresError> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(PostgresError::file(&path))?;
        set_mode(&path, 0o644)
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), PostgresError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(PostgresError::file(path))
}

/// Nobody but the user that PiCloud runs as, known by the socket, as the one role.
const HBA: &str = "\
# Written by PiCloud at every start. Only the user that PiCloud runs as is let in, over the socket.
local all picloud peer map=picloud
";

fn configuration(folder: &Path, socket: &Path, connections: u64) -> String {
    let file = |name: &str| quoted(&folder.join(name).to_string_lossy(), '\'');
    let (hba, ident, custom) = (file("pg_hba.conf"), file("pg_ident.conf"), file("custom.conf"));
    let socket = quoted(&socket.to_string_lossy(), '\'');
    let max_connections = connections + SPARE_CONNECTIONS;
    format!(
        "\
# Written by PiCloud at every start; your own settings go into custom.conf beside this file.

# Sized for a board with 1 GB of memory.
shared_buffers = 32MB
work_mem = 2MB
maintenance_work_mem = 16MB
autovacuum_max_workers = 1
max_worker_processes = 2
max_parallel_workers = 0
max_parallel_workers_per_gather = 0
max_parallel_maintenance_workers = 0
jit = off

# Kind to an SD card, and still on it when a commit returns: few checkpoints, small and compressed WAL.
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = minimal
max_wal_senders = 0
wal_compression = on
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
max_wal_size = 256MB
min_wal_size = 32MB

# Standard error goes to PiCloud, which keeps postgres.log small.
log_destination = stderr
logging_collector = off
log_min_messages = warning
log_min_error_statement = panic
log_checkpoints = off
log_line_prefix = '%m [%p] '
log_timezone = UTC
timezone = UTC
lc_messages = C
cluster_name = {NAME}

include_if_exists {custom}

# What keeps it private and reachable comes last, so that nothing above can change it.
listen_addresses = ''
port = {PORT}
unix_socket_directories = {socket}
unix_socket_permissions = 0700
hba_file = {hba}
ident_file = {ident}
max_connections = {max_connections}
"
    )
}

/// `text` between `quote`s, with the quote doubled, as PostgreSQL's configuration files have it.
fn quoted(text: &str, quote: char) -> String {
    format!("{quote}{}{quote}", text.replace(quote, &format!("{quote}{quote}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_trusted_and_no_network_is_open() {
        assert!(!HBA.contains("trust") && !HBA.contains("host "));
        let text = configuration(Path::new("/it's"), Path::new("/run/x"), 8);
        assert!(text.contains("listen_addresses = ''\n"));
        assert!(text.contains("hba_file = '/it''s/pg_hba.conf'\n"));
        assert!(text.contains("max_connections = 14\n"));
    }
}
