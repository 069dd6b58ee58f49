//! Values by channel that are evicted in an order of their own: the least recently used ones, or the
//! oldest. Written here because crates for least recently used maps count entries, not bytes, and
//! know only that one order.

use std::collections::{BTreeMap, HashMap};

use fanfare_protocol::ChannelName;

use crate::sparse::ShrinkIfSparse;

/// Values by channel, each with its weight in bytes and a rank that no other value has. The lowest
/// rank is evicted first.
#[derive(Debug)]
pub(crate) struct EvictionMap<R, V> {
    by_channel: HashMap<ChannelName, Entry<R, V>>,
    by_rank: BTreeMap<R, ChannelName>,
    weight: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Entry<R, V> {
    rank: R,
    weight: usize,
    value: V,
}

impl<R, V> Default for EvictionMap<R, V> {
    fn default() -> Self {
        Self {
            by_channel: HashMap::new(),
            by_rank: BTreeMap::new(),
            weight: 0,
            evicted: 0,
        }
    }
}

impl<R: Ord + Copy, V> EvictionMap<R, V> {
    /// Returns the weight of all values, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Returns how many values were evicted so far.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_channel.is_empty()
    }

    /// Returns the number of values, each of which has a rank.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.by_rank.len(), self.by_channel.len());
        self.by_rank.len()
    }

    pub(crate) fn get(&self, channel: &str) -> Option<&V> {
        self.by_channel.get(channel).map(|entry| &entry.value)
    }

    /// Adds a channel's value in place of the one that it has.
    pub(crate) fn insert(&mut self, channel: &ChannelName, rank: R, weight: usize, value: V) {
        self.remove(channel.as_str());
        self.weight += weight;
        self.by_rank.insert(rank, channel.clone());
        let entry = Entry {
            rank,
            weight,
            value,
        };
        self.by_channel.insert(channel.clone(), entry);
    }

    pub(crate) fn remove(&mut self, channel: &str) -> Option<V> {
        let entry = self.by_channel.remove(channel)?;
        self.by_channel.shrink_if_sparse();
        self.by_rank.remove(&entry.rank);
        self.weight -= entry.weight;
        Some(entry.value)
    }

    /// Returns the value that is evicted next.
    pub(crate) fn first(&self) -> Option<(&ChannelName, &V)> {
        let (_, channel) = self.by_rank.first_key_value()?;
        Some((channel, &self.by_channel.get(channel)?.value))
    }

    /// Removes the value of the lowest rank, which doesn't count as evicted.
    pub(crate) fn pop_first(&mut self) -> Option<(ChannelName, V)> {
        let (_, channel) = self.by_rank.pop_first()?;
        let value = self.remove(channel.as_str())?;
        Some((channel, value))
    }

    /// Evicts the value of the lowest rank.
    pub(crate) fn evict_first(&mut self) -> Option<(ChannelName, V)> {
        let first = self.pop_first()?;
        self.evicted += 1;
        Some(first)
    }

    /// Removes all values. None of them counts as evicted.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            evicted: self.evicted,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text, 200).unwrap()
    }

    #[test]
    fn the_lowest_rank_goes_first_and_weights_add_up() {
        let mut map = EvictionMap::default();
        for (channel, rank, weight) in [("a", 3, 30), ("b", 1, 10), ("c", 2, 20)] {
            map.insert(&name(channel), rank, weight, channel);
        }
        assert_eq!((map.weight(), map.first()), (60, Some((&name("b"), &"b"))));
        // Used again, so that it is the last.
        map.insert(&name("b"), 4, 11, "b again");
        assert_eq!((map.weight(), map.get("b")), (61, Some(&"b again")));
        assert_eq!(map.evict_first(), Some((name("c"), "c")));
        assert_eq!(map.remove("a"), Some("a"));
        assert_eq!((map.weight(), map.evicted()), (11, 1));
        assert_eq!(map.pop_first(), Some((name("b"), "b again")));
        assert_eq!((map.weight(), map.evicted(), map.is_empty()), (0, 1, true));
        assert_eq!(map.evict_first(), None);
        map.insert(&name("a"), 1, 1, "a");
        map.clear();
        assert_eq!((map.weight(), map.evicted(), map.first()), (0, 1, None));
    }
}
