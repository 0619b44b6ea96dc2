//! Temporary.
use crate::{config::ServeArgs, exit::Failure};

pub(super) async fn run(_args: ServeArgs) -> Result<(), Failure> {
    Ok(())
}
