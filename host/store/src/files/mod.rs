//! Files of apps: their rows and contents. What writes them is the commit of [`crate::kv`], since a run's files and
//! entries commit together.

mod bundle;
mod commit;
mod read;

pub use bundle::{BundleFile, BundleFiles, PutFiles};
pub use read::FileRow;

pub(crate) use bundle::put_files;
pub(crate) use commit::{agree, write};
