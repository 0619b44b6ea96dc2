//! The handlers of `/api/v1`, one module a kind of thing.

pub(crate) mod apps;
pub(crate) mod audit;
pub(crate) mod bundle;
pub(crate) mod data;
pub(crate) mod domains;
pub(crate) mod egress;
pub(crate) mod endpoint_access;
pub(crate) mod executions;
pub(crate) mod files;
pub(crate) mod grants;
pub(crate) mod invoke;
pub(crate) mod limits;
pub(crate) mod logs;
pub(crate) mod members;
pub(crate) mod node;
pub(crate) mod principals;
pub(crate) mod routes;
pub(crate) mod script_limits;
pub(crate) mod scripts;
pub(crate) mod secrets;
pub(crate) mod sessions;
pub(crate) mod signing_keys;
pub(crate) mod tokens;
pub(crate) mod usage;
pub(crate) mod variables;
