//! What the native tests share.

pub(crate) mod case;
pub(crate) mod host;
