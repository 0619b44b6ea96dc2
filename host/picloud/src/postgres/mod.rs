//! PiCloud's own PostgreSQL: a child process on a Unix socket, used where no `DATABASE_URL` is set.
//!
//! The child is an ordinary PostgreSQL of the system, over a cluster in the data folder. It belongs to one
//! unprivileged user, listens on no network, and believes nobody but the user that PiCloud runs as. Nothing
//! here speaks SQL beyond the creation of the one database.

mod cluster;
mod error;
mod log;
mod orphan;
mod owner;
mod ping;
mod process;
mod processes;
mod programs;
mod settings;
mod socket;
mod supervisor;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    error::PostgresError,
    programs::find as find_programs,
    socket::{existing_folder as existing_socket_folder, shared_parent as shared_socket_parent},
    supervisor::{EmbeddedPostgres, PostgresOptions, StopRequest},
};

/// The database and the role in it.
pub(crate) const NAME: &str = "picloud";

/// The port in the socket's file name. No TCP port is opened.
pub(crate) const PORT: u16 = 5432;
