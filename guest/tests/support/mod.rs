//! What the native tests share.

#[expect(unreachable_pub, reason = "the file is a module of the executor's tests as well")]
pub(crate) mod case;
pub(crate) mod host;
