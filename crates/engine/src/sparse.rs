//! Maps that give memory back once they have lost most of their entries.
//!
//! A map of the standard library keeps the memory of its largest size. Many entries here exist because of clients, so a
//! peak would stay in memory after they have left.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

/// Entries for which a map may keep its memory.
const ENTRIES_KEPT: usize = 64;

/// A collection whose memory can be given back.
pub(crate) trait ShrinkIfSparse {
    /// Gives memory back if most of it is unused. Called after entries were removed: what a call moves has then been
    /// removed several times over, so the cost of a removal stays constant on average.
    fn shrink_if_sparse(&mut self);
}

impl<K: Eq + Hash, V, S: BuildHasher> ShrinkIfSparse for HashMap<K, V, S> {
    fn shrink_if_sparse(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            // Some room stays, so that the next entries don't make the map grow again.
            self.shrink_to(2 * self.len());
        }
    }
}

impl<T: Eq + Hash, S: BuildHasher> ShrinkIfSparse for HashSet<T, S> {
    fn shrink_if_sparse(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len());
        }
    }
}

fn is_sparse(entries: usize, capacity: usize) -> bool {
    capacity > 8 * entries.max(ENTRIES_KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_loses_its_entries_gives_its_memory_back_step_by_step() {
        let mut map: HashMap<usize, usize> = (0..100_000).map(|key| (key, key)).collect();
        let mut set: HashSet<usize> = (0..100_000).collect();
        let (mut shrunk, mut before) = (0, map.capacity());
        for key in 0..100_000 {
            map.remove(&key);
            map.shrink_if_sparse();
            set.remove(&key);
            set.shrink_if_sparse();
            assert!(map.capacity() <= 8 * map.len().max(ENTRIES_KEPT));
            // Removals alone lower it as well, one by one.
            shrunk += usize::from(map.capacity() < before / 2);
            before = map.capacity();
        }
        assert!(set.capacity() <= 8 * ENTRIES_KEPT);
        assert!((2..10).contains(&shrunk), "{shrunk}");
    }
}
