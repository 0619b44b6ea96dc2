//! A bucket for each client, in a memory that does not grow.

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, OnceLock, PoisonError},
    time::Instant,
};

use super::{Nanos, Quota, Verdict};

const SHARDS: usize = 64;
const SETS: usize = 128;
const WAYS: usize = 8;

/// The buckets of clients: 65,536 at most, a megabyte, made when the first is needed.
///
/// A client's place is one of eight, found by a hash with a secret key, so that nobody can choose addresses that meet in
/// one place. Where all eight are taken, the client whose bucket is the fullest makes room: who has used up its limit is
/// remembered the longest.
pub(crate) struct Clients {
    started: Instant,
    hasher: RandomState,
    shards: OnceLock<Vec<Mutex<Vec<Set>>>>,
}

type Set = [Slot; WAYS];

#[derive(Clone, Copy, Default)]
struct Slot {
    /// The hash of the client and of what it is counted for.
    hash: u64,
    /// When its bucket is full again; what lies in the past is free.
    full_at: Nanos,
}

impl Clients {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), hasher: RandomState::new(), shards: OnceLock::new() }
    }

    /// Now, for every bucket of the node.
    pub(crate) fn now(&self) -> Nanos {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Asks the bucket of a client for one request. `counted_for` is the id of the app or the route.
    pub(crate) fn take(&self, counted_for: u128, client: IpAddr, quota: Quota, now: Nanos) -> Verdict {
        let hash = self.hasher.hash_one((counted_for, network(client)));
        let index = hash as usize;
        let shards = self
            .shards
            .get_or_init(|| (0..SHARDS).map(|_| Mutex::new(vec![[Slot::default(); WAYS]; SETS])).collect());
        let mut sets = shards[index % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let set = &mut sets[index / SHARDS % SETS];
        let at = match set.iter().position(|slot| slot.hash == hash && slot.full_at > now) {
            Some(known) => known,
            None => {
                let fullest = (0..WAYS).min_by_key(|at| set[*at].full_at).unwrap_or(0);
                set[fullest] = Slot { hash, full_at: 0 };
                fullest
            }
        };
        let (verdict, full_at) = quota.take(set[at].full_at, now);
        set[at].full_at = full_at;
        verdict
    }

    /// Places, and those of clients whose bucket is not full.
    #[cfg(test)]
    fn places(&self, now: Nanos) -> (usize, usize) {
        let shards = self.shards.get().map(Vec::as_slice).unwrap_or_default();
        let shards: Vec<Vec<Set>> = shards.iter().map(|shard| shard.lock().unwrap().clone()).collect();
        let slots: Vec<Slot> = shards.into_iter().flatten().flatten().collect();
        (slots.len(), slots.iter().filter(|slot| slot.full_at > now).count())
    }
}

/// What counts as one client: an IPv4 address, or the /64 that an IPv6 address is of, since whoever has one address of
/// it has them all.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use picloud_core::RateLimit;

    use super::*;

    const SECOND: u64 = super::super::SECOND;

    fn quota(requests: u32, seconds: u32) -> Quota {
        Quota::new(RateLimit::new(requests, seconds).unwrap())
    }

    fn passes(clients: &Clients, counted_for: u128, ip: &str) -> bool {
        let verdict = clients.take(counted_for, ip.parse().unwrap(), quota(1, 60), SECOND);
        matches!(verdict, Verdict::Passed { .. })
    }

    #[test]
    fn each_client_has_its_own_bucket_for_each_thing() {
        let clients = Clients::new();
        assert!(passes(&clients, 1, "192.0.2.1"));
        assert!(!passes(&clients, 1, "192.0.2.1"));
        assert!(!passes(&clients, 1, "::ffff:192.0.2.1"), "the same address in another form");
        assert!(passes(&clients, 1, "192.0.2.2"));
        assert!(passes(&clients, 2, "192.0.2.1"), "counted for another app");
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let clients = Clients::new();
        assert!(passes(&clients, 1, "2001:db8::1"));
        assert!(!passes(&clients, 1, "2001:db8::ffff:ffff:ffff:ffff"));
        assert!(passes(&clients, 1, "2001:db8:0:1::1"));
    }

    #[test]
    fn a_flood_of_addresses_does_not_grow_it() {
        let clients = Clients::new();
        assert_eq!(clients.places(0), (0, 0), "nothing is allocated before it is needed");
        for number in 0..300_000_u32 {
            clients.take(1, Ipv4Addr::from_bits(number).into(), quota(5, 3600), SECOND);
        }
        let (places, taken) = clients.places(SECOND);
        assert_eq!(places, SHARDS * SETS * WAYS);
        assert!(taken > places * 9 / 10 && taken <= places, "{taken} of {places}");
    }

    #[test]
    fn who_has_used_up_its_limit_is_remembered_through_a_flood() {
        let clients = Clients::new();
        let offender: IpAddr = "198.51.100.7".parse().unwrap();
        for _ in 0..6 {
            clients.take(1, offender, quota(5, 3600), SECOND);
        }
        for number in 0..300_000_u32 {
            clients.take(1, Ipv4Addr::from_bits(number).into(), quota(5, 3600), SECOND);
        }
        let verdict = clients.take(1, offender, quota(5, 3600), SECOND);
        assert!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
    }

    #[test]
    fn full_buckets_make_room_first() {
        let clients = Clients::new();
        for number in 0..100_000_u32 {
            clients.take(1, Ipv4Addr::from_bits(number).into(), quota(1, 1), SECOND);
        }
        assert_eq!(clients.places(3 * SECOND).1, 0, "a second later all of them are full");
    }
}
