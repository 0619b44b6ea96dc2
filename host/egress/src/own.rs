//! The addresses of this machine's interfaces.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::Ownership;

/// How long the addresses are taken as they were: an interface seldom gets another, and to ask is a system call.
const FRESH: Duration = Duration::from_secs(5);

/// Knows which addresses are this machine's.
#[derive(Debug, Default)]
pub(crate) struct OwnAddresses(Mutex<Option<Seen>>);

#[derive(Debug)]
struct Seen {
    at: Instant,
    addresses: Vec<IpAddr>,
}

impl OwnAddresses {
    /// Whether an address is this machine's. If that cannot be known, it is.
    pub(crate) fn of(&self, ip: IpAddr) -> Ownership {
        let ip = ip.to_canonical();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|seen| seen.at.elapsed() > FRESH) {
            match if_addrs::get_if_addrs() {
                Ok(interfaces) => {
                    let addresses =
                        interfaces.iter().map(|interface| interface.ip().to_canonical()).collect();
                    *seen = Some(Seen { at: Instant::now(), addresses });
                }
                Err(error) => {
                    tracing::warn!(%error, "the addresses of this machine cannot be read");
                    return Ownership::Own;
                }
            }
        }
        let is_own = seen.as_ref().is_some_and(|seen| seen.addresses.contains(&ip));
        if is_own { Ownership::Own } else { Ownership::Foreign }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_own_and_a_documentation_address_is_not() {
        let own = OwnAddresses::default();
        assert_eq!(own.of("127.0.0.1".parse().unwrap()), Ownership::Own);
        assert_eq!(own.of("::ffff:127.0.0.1".parse().unwrap()), Ownership::Own);
        assert_eq!(own.of("192.0.2.1".parse().unwrap()), Ownership::Foreign);
    }
}
