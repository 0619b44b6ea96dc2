//! Signatures that were used: each is good once.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

/// What a signature is remembered by: the first half of its digest.
pub(super) type Mark = [u8; 16];

/// The signatures of the last requests, as many as [`Self::MOST`]. A node that has had more within the time in which one
/// is good, or was started in between, takes one again.
#[derive(Default)]
pub(crate) struct Replays(Mutex<Used>);

#[derive(Default)]
struct Used {
    marks: HashSet<Mark>,
    /// In the order they came; those that were taken back are in here only.
    order: VecDeque<Mark>,
}

/// A signature that is being used. It counts as used while this lives, and for good with [`Self::keep`]: a request that
/// is refused for load may come again as it is.
pub(crate) struct Claimed<'a> {
    replays: &'a Replays,
    marks: Vec<Mark>,
    is_kept: bool,
}

impl Replays {
    /// The most that are remembered: two megabytes.
    const MOST: usize = 32 * 1024;

    /// Claims a signature by all its marks; `None` if one of them was claimed before.
    pub(super) fn claim(&self, marks: Vec<Mark>) -> Option<Claimed<'_>> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.iter().any(|mark| used.marks.contains(mark)) {
            return None;
        }
        for mark in &marks {
            if used.order.len() == Self::MOST
                && let Some(oldest) = used.order.pop_front()
            {
                used.marks.remove(&oldest);
            }
            used.marks.insert(*mark);
            used.order.push_back(*mark);
        }
        drop(used);
        Some(Claimed { replays: self, marks, is_kept: false })
    }
}

impl Claimed<'_> {
    /// From now on it is used.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let mut used = self.replays.0.lock().unwrap_or_else(PoisonError::into_inner);
        for mark in &self.marks {
            used.marks.remove(mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u32) -> Vec<Mark> {
        vec![u128::from(number).to_le_bytes()]
    }

    #[test]
    fn a_signature_is_good_once_unless_its_request_was_refused() {
        let replays = Replays::default();
        let claimed = replays.claim(mark(1)).unwrap();
        assert!(replays.claim(mark(1)).is_none(), "two at the same moment");
        drop(claimed);
        replays.claim(mark(1)).unwrap().keep();
        assert!(replays.claim(mark(1)).is_none());
        assert!(replays.claim([mark(2), mark(1)].concat()).is_none(), "one mark of several is enough");
        assert!(replays.claim(mark(2)).is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let replays = Replays::default();
        for number in 0..100_000 {
            let claimed = replays.claim(mark(number)).unwrap();
            if number % 2 == 0 {
                claimed.keep();
            }
        }
        let used = replays.0.lock().unwrap();
        assert_eq!(used.order.len(), Replays::MOST);
        assert!(used.marks.len() <= Replays::MOST);
    }
}
