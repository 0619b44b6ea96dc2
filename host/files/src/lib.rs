//! The node's cache of files' contents.
//!
//! Contents are fetched from the database once and kept in a folder per app, under their hash. The whole folder is
//! opened once as a directory of `cap-std`, and everything in it is reached through that: no name leads out of it,
//! links included. No name in it comes from a user either: they are ids of apps and hashes.
//!
//! A content is written under another name and renamed, and verified by its hash before this process first gives it, so
//! that a torn or changed file is found out and fetched again. Several processes may share the folder. It holds nothing
//! that is not in the database, and may be deleted at any time.
//!
//! What does not live here: which files there are and who may have them, HTTP, SQL.

mod cache;
mod compress;
mod content;
mod disk;
mod evict;

pub use cache::FileCache;
pub use compress::Compression;
pub use content::{Content, Part};
