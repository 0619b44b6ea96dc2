//! Secrets and variables of an app in memory, fetched when a script first asks for them.
//!
//! They live as long as the app's entry in the directory: a change of the app makes a new entry, so that nothing here
//! is ever out of date for a request that began after the change was answered.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// What all apps of a node may keep, in bytes. What does not fit is fetched each time.
const ROOM_BYTES: usize = 8 << 20;

/// What a value takes beside its text, roughly.
const ENTRY_BYTES: usize = 256;

/// The room that is left for values on this node.
#[derive(Debug, Default)]
pub(crate) struct Room {
    taken: AtomicUsize,
}

/// A part of the room, given back when it is dropped.
struct Place {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    fn take(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= ROOM_BYTES);
        self.taken.fetch_update(Relaxed, Relaxed, fits).ok()?;
        Some(Place { room: Arc::clone(self), bytes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Relaxed);
    }
}

/// Values by name; `None` of a value is that there is none of its name.
pub(crate) struct Values<N, V: ?Sized> {
    known: Mutex<HashMap<N, Known<V>>>,
    room: Arc<Room>,
}

struct Known<V: ?Sized> {
    value: Option<Arc<V>>,
    _place: Place,
}

impl<N: Clone + Eq + Hash, V: ?Sized> Values<N, V> {
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Self { known: Mutex::default(), room }
    }

    /// The value of a name: the one that is known, or what `fetch` gives. `bytes` is the size of a value. A failure is
    /// not kept.
    pub(crate) async fn get<E>(
        &self,
        name: &N,
        bytes: impl Fn(&V) -> usize,
        fetch: impl Future<Output = Result<Option<Arc<V>>, E>>,
    ) -> Result<Option<Arc<V>>, E> {
        if let Some(known) = self.lock().get(name) {
            return Ok(known.value.clone());
        }
        let value = fetch.await?;
        let size = ENTRY_BYTES + value.as_deref().map_or(0, bytes);
        if let Some(place) = self.room.take(size) {
            self.lock().insert(name.clone(), Known { value: value.clone(), _place: place });
        }
        Ok(value)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<N, Known<V>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    async fn get(
        values: &Values<u32, str>,
        name: u32,
        found: Result<Option<&str>, ()>,
    ) -> Result<Option<String>, ()> {
        let found = found.map(|text| text.map(Arc::from));
        let value = values.get(&name, str::len, ready(found)).await?;
        Ok(value.map(|text| text.as_ref().to_owned()))
    }

    #[tokio::test]
    async fn what_was_fetched_is_kept_but_no_failure() {
        let values = Values::new(Arc::default());
        assert_eq!(get(&values, 1, Err(())).await, Err(()));
        assert_eq!(get(&values, 1, Ok(Some("a"))).await, Ok(Some("a".into())));
        assert_eq!(get(&values, 1, Ok(Some("b"))).await, Ok(Some("a".into())));
        assert_eq!(get(&values, 2, Ok(None)).await, Ok(None));
        assert_eq!(get(&values, 2, Ok(Some("b"))).await, Ok(None));
    }

    #[tokio::test]
    async fn the_room_is_bounded_for_all_and_given_back() {
        let room: Arc<Room> = Arc::default();
        let (one, other) = (Values::new(Arc::clone(&room)), Values::new(Arc::clone(&room)));
        let large = "x".repeat(ROOM_BYTES / 2);
        for name in 1..=2 {
            get(&one, name, Ok(Some(&large))).await.unwrap();
        }
        assert_eq!(get(&one, 2, Ok(Some("fetched"))).await, Ok(Some("fetched".into())), "it did not fit");
        assert_eq!(get(&other, 1, Ok(Some(&large))).await.unwrap().unwrap().len(), large.len());
        assert_eq!(get(&other, 1, Ok(Some("again"))).await, Ok(Some("again".into())));
        drop(one);
        drop(other);
        assert_eq!(room.taken.load(Relaxed), 0);
    }
}
