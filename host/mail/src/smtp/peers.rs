//! What each peer has: connections at once, and mails a minute.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::SmtpConfig;

/// Peers that are remembered. Beyond that, those that have nothing are forgotten, and strangers are refused while
/// there are none such.
const MAX_PEERS: usize = 16_384;

/// Every peer that has a connection, or had mail lately.
#[derive(Default)]
pub(super) struct Peers {
    known: Mutex<HashMap<IpAddr, Peer>>,
}

struct Peer {
    connections: usize,
    mails: f64,
    at: Instant,
}

/// A connection's place among those of its peer; given back when dropped.
pub(super) struct Place {
    peers: Arc<Peers>,
    key: IpAddr,
    most: f64,
}

impl Peers {
    /// A place for a connection; `None` where the peer has as many as it may.
    pub(super) fn connect(self: &Arc<Self>, address: IpAddr, config: &SmtpConfig) -> Option<Place> {
        let key = key(address);
        let most = f64::from(config.mails_per_minute.max(1));
        let mut known = self.lock();
        if known.len() >= MAX_PEERS && !known.contains_key(&key) {
            known.retain(|_, peer| {
                peer.refill(most);
                peer.connections > 0 || peer.mails < most
            });
            if known.len() >= MAX_PEERS {
                return None;
            }
        }
        let peer =
            known.entry(key).or_insert_with(|| Peer { connections: 0, mails: most, at: Instant::now() });
        if peer.connections >= config.max_connections_per_peer {
            return None;
        }
        peer.connections += 1;
        Some(Place { peers: Arc::clone(self), key, most })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Peer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    fn refill(&mut self, most: f64) {
        let now = Instant::now();
        let minutes = now.duration_since(self.at).as_secs_f64() / 60.0;
        self.mails = (self.mails + minutes * most).min(most);
        self.at = now;
    }
}

impl Place {
    /// Whether the peer may send one more mail now.
    pub(super) fn may_send(&self) -> bool {
        let mut known = self.peers.lock();
        let Some(peer) = known.get_mut(&self.key) else { return false };
        peer.refill(self.most);
        let may = peer.mails >= 1.0;
        if may {
            peer.mails -= 1.0;
        }
        may
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(peer) = self.peers.lock().get_mut(&self.key) {
            peer.connections -= 1;
        }
    }
}

/// What counts as one peer: an address, or the network of 64 bits that one subscriber has.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config() -> SmtpConfig {
        SmtpConfig {
            max_connections_per_peer: 2,
            mails_per_minute: 2,
            ..SmtpConfig::new("mail.example.org".parse().unwrap())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_has_so_many_connections_and_mails() {
        let (peers, config) = (Arc::new(Peers::default()), config());
        let connect = |address: &str| peers.connect(address.parse().unwrap(), &config);
        let first = connect("192.0.2.1").unwrap();
        let second = connect("::ffff:192.0.2.1").unwrap();
        assert!(connect("192.0.2.1").is_none());
        assert!(connect("192.0.2.2").is_some());
        drop(second);
        assert!(first.may_send() && first.may_send() && !first.may_send());
        let again = connect("192.0.2.1").unwrap();
        assert!(!again.may_send(), "a new connection brings no new mails");
        tokio::time::advance(Duration::from_secs(31)).await;
        assert!(again.may_send() && !again.may_send());
    }

    #[test]
    fn one_network_of_ipv6_is_one_peer() {
        let (peers, config) = (Arc::new(Peers::default()), config());
        let connect = |address: &str| peers.connect(address.parse().unwrap(), &config);
        let _places = [connect("2001:db8::1").unwrap(), connect("2001:db8::ffff:2").unwrap()];
        assert!(connect("2001:db8::3").is_none());
        assert!(connect("2001:db8:0:1::1").is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (peers, config) = (Arc::new(Peers::default()), config());
        for number in 0..(MAX_PEERS as u32 + 10) {
            assert!(peers.connect(IpAddr::V4(number.into()), &config).is_some());
        }
        assert!(peers.lock().len() <= MAX_PEERS);
    }
}
