//! How often a sign-in may fail, by name and by address, in a fixed amount of memory.
//!
//! Each table has a fixed number of cells, and a key uses the one that its hash says. The hash has a random key, so
//! that nobody can choose whose cell to share; whoever shares one by chance shares its allowance. Nothing is ever
//! evicted, so that no flood of other keys makes a failure forgotten.
//!
//! Where a name has been signed in before, it has an allowance of its own: whoever fails under a name from elsewhere
//! does not lock its user out.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hash},
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use picloud_core::PrincipalName;

/// Cells of a table; each takes 8 bytes.
const CELLS: usize = 4096;

/// Who may try, and when. Attempts are counted when they begin; one that succeeds is given back.
pub(crate) struct SignInLimiter {
    start: Instant,
    names: Table,
    addresses: Table,
    /// For names at addresses where they have been signed in.
    at_home: Table,
    homes: Homes,
}

impl Default for SignInLimiter {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            names: Table::new(10, Duration::from_mins(1)),
            addresses: Table::new(30, Duration::from_secs(10)),
            at_home: Table::new(10, Duration::from_mins(1)),
            homes: Homes::default(),
        }
    }
}

impl SignInLimiter {
    /// Counts an attempt, or answers after which time there may be one.
    pub(crate) fn take(&self, name: &PrincipalName, address: IpAddr) -> Result<(), Duration> {
        let now = self.start.elapsed();
        let address = neighbourhood(address);
        self.addresses.take(address, now)?;
        let taken = if self.homes.has(name, address) {
            self.at_home.take((name, address), now)
        } else {
            self.names.take(name, now)
        };
        if taken.is_err() {
            self.addresses.give_back(address);
        }
        taken
    }

    /// Counts an attempt whose name is not known yet.
    pub(crate) fn take_address(&self, address: IpAddr) -> Result<(), Duration> {
        self.addresses.take(neighbourhood(address), self.start.elapsed())
    }

    /// Takes back what [`Self::take_address`] counted.
    pub(crate) fn give_back_address(&self, address: IpAddr) {
        self.addresses.give_back(neighbourhood(address));
    }

    /// Takes back what [`Self::take`] counted.
    pub(crate) fn give_back(&self, name: &PrincipalName, address: IpAddr) {
        let address = neighbourhood(address);
        if self.homes.has(name, address) {
            self.at_home.give_back((name, address));
        } else {
            self.names.give_back(name);
        }
        self.addresses.give_back(address);
    }

    /// Takes back what [`Self::take`] counted, and remembers that the name belongs to somebody at this address.
    pub(crate) fn succeeded(&self, name: &PrincipalName, address: IpAddr) {
        self.give_back(name, address);
        self.homes.add(name, neighbourhood(address));
    }
}

/// Where names have been signed in since the start, in a fixed amount of memory: the later of two that share a cell
/// counts.
struct Homes {
    cells: Mutex<Box<[u64]>>,
    hasher: RandomState,
}

impl Default for Homes {
    fn default() -> Self {
        Self { cells: Mutex::new(vec![0; CELLS].into()), hasher: RandomState::new() }
    }
}

impl Homes {
    fn has(&self, name: &PrincipalName, address: IpAddr) -> bool {
        let hash = self.hash(name, address);
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)[hash as usize % CELLS] == hash
    }

    fn add(&self, name: &PrincipalName, address: IpAddr) {
        let hash = self.hash(name, address);
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)[hash as usize % CELLS] = hash;
    }

    /// Never 0, which stands for an empty cell.
    fn hash(&self, name: &PrincipalName, address: IpAddr) -> u64 {
        self.hasher.hash_one((name, address)) | 1 << 63
    }
}

/// Whoever has one IPv6 address has the 2^64 beside it.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (!0 << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The generic cell rate algorithm (ITU-T I.371): a cell holds when its allowance will be whole again, in nanoseconds.
struct Table {
    cells: Mutex<Box<[u64]>>,
    hasher: RandomState,
    interval: u64,
    burst: u64,
}

impl Table {
    /// `burst` attempts at once, and one more with every `interval`.
    fn new(burst: u64, interval: Duration) -> Self {
        Self {
            cells: Mutex::new(vec![0; CELLS].into()),
            hasher: RandomState::new(),
            interval: nanos(interval),
            burst,
        }
    }

    fn take(&self, key: impl Hash, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        self.with_cell(key, |whole_again| {
            let next = (*whole_again).max(now) + self.interval;
            let wait = next.saturating_sub(now + self.burst * self.interval);
            if wait > 0 {
                return Err(Duration::from_nanos(wait));
            }
            *whole_again = next;
            Ok(())
        })
    }

    fn give_back(&self, key: impl Hash) {
        self.with_cell(key, |whole_again| *whole_again = whole_again.saturating_sub(self.interval));
    }

    fn with_cell<T>(&self, key: impl Hash, change: impl FnOnce(&mut u64) -> T) -> T {
        let index = self.index(key);
        change(&mut self.cells.lock().unwrap_or_else(PoisonError::into_inner)[index])
    }

    fn index(&self, key: impl Hash) -> usize {
        self.hasher.hash_one(key) as usize % CELLS
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_burst_is_allowed_and_then_one_with_every_interval() {
        let table = Table::new(10, MINUTE);
        let at = |seconds: u64| table.take("ada", Duration::from_secs(seconds));
        assert!((0..10).all(|_| at(0).is_ok()));
        assert_eq!(at(0), Err(MINUTE));
        assert_eq!(at(45), Err(Duration::from_secs(15)));
        assert_eq!(at(60), Ok(()));
        assert_eq!(at(61), Err(Duration::from_secs(59)));
        let other = (0..CELLS).find(|name| table.index(name) != table.index("ada")).unwrap();
        assert!(table.take(other, Duration::ZERO).is_ok(), "another name's cell is not touched");
        assert!((0..10).all(|_| at(100_000).is_ok()));
        assert!(at(100_000).is_err(), "an unused allowance does not grow");
    }

    #[test]
    fn what_succeeds_is_given_back() {
        let table = Table::new(2, MINUTE);
        for _ in 0..100 {
            table.take("ada", Duration::ZERO).unwrap();
            table.give_back("ada");
        }
        table.give_back("ada");
        assert!(table.take("ada", Duration::ZERO).is_ok() && table.take("ada", Duration::ZERO).is_ok());
        assert!(table.take("ada", Duration::ZERO).is_err());
    }

    #[test]
    fn whoever_fails_elsewhere_locks_nobody_out_at_home() {
        let limiter = SignInLimiter::default();
        let name = PrincipalName::new("ada").unwrap();
        let (home, strange) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([198, 51, 100, 1]));
        limiter.take(&name, home).unwrap();
        limiter.succeeded(&name, home);
        while limiter.take(&name, strange).is_ok() {}
        assert!(limiter.take(&name, IpAddr::from([203, 0, 113, 1])).is_err(), "locked from everywhere else");
        // Whoever guesses from there has as few attempts as anywhere.
        assert_eq!((0..100).filter(|_| limiter.take(&name, home).is_ok()).count(), 10);
        limiter.succeeded(&name, home);
        assert!(limiter.take(&name, home).is_ok());
        let other = PrincipalName::new("bob").unwrap();
        while limiter.take(&other, strange).is_ok() {}
        assert!(limiter.take(&other, home).is_err(), "the home is that of one name");
    }

    #[test]
    fn neither_other_names_nor_other_addresses_of_a_network_help() {
        let limiter = SignInLimiter::default();
        let name = |number: u32| PrincipalName::new(format!("name-{number}")).unwrap();
        let address =
            |number: u32| IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(number)));
        let allowed =
            (0..1000).filter(|number| limiter.take(&name(*number), address(*number)).is_ok()).count();
        assert_eq!(allowed, 30);
        let v4 = |last: u8| IpAddr::from([192, 0, 2, last]);
        let allowed = (0..200).filter(|last| limiter.take(&name(5000), v4(*last)).is_ok()).count();
        assert!(allowed <= 10, "{allowed}");
    }
}
