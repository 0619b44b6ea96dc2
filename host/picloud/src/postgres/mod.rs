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
mod programs;
mod settings;
mod socket;
mod supervisor;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    error::PostgresError,
    programs::Programs,
    supervisor::{EmbeddedPostgres, PostgresOptions},
};

/// The database and the role in it.
const NAME: &str = "picloud";

/// The port in the socket's file name. No TCP port is opened.
const PORT: u16 = 5432;
