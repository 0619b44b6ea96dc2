//! Scripts' calls to other services, as the settings have them.

use std::{fs, sync::Arc};

use picloud_egress::{AddressPolicy, Egress, EgressConfig, ExtraRoots, SystemResolver};

use crate::{
    config::EgressArgs,
    exit::{Exit, Failure},
};

/// What makes the calls; `listeners` are the ports on which PiCloud listens.
pub(super) fn open(args: &EgressArgs, listeners: Vec<u16>) -> Result<Arc<Egress>, Failure> {
    let opened = args.egress_private.as_deref().map(<[_]>::to_vec).unwrap_or_default();
    if !opened.is_empty() {
        let networks: Vec<String> = opened.iter().map(ToString::to_string).collect();
        tracing::info!(networks = networks.join(", "), "private networks are open to scripts");
    }
    let config = EgressConfig {
        addresses: AddressPolicy { opened, listeners },
        roots: roots(args)?,
        resolver: Arc::new(SystemResolver),
    };
    Egress::new(config).map(Arc::new).map_err(|error| Failure::new(Exit::CannotStart, error))
}

fn roots(args: &EgressArgs) -> Result<ExtraRoots, Failure> {
    let Some(file) = &args.egress_ca_file else { return Ok(ExtraRoots::default()) };
    let unusable = |problem: &dyn std::fmt::Display| {
        let problem = format!(
            "PICLOUD_EGRESS_CA_FILE is {}: {problem}; allowed is a file of certificates in PEM form",
            file.display()
        );
        Failure::new(Exit::Usage, problem)
    };
    let pem = fs::read(file).map_err(|error| unusable(&error))?;
    ExtraRoots::from_pem(&pem).map_err(|error| unusable(&error))
}
