//! The channels that a connection has subscribed to.
//!
//! Most connections have one or two. A map has room for four from the first on, which was a seventh of what an idle
//! connection takes, so few are kept in a list.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use fanfare_protocol::{ChannelName, UserId};

use crate::route::ChannelId;
use crate::sequence::Offset;
use crate::sparse::ShrinkIfSparse;

/// Most subscriptions that stand in a list. To look through more takes longer than to ask a map.
const FEW: usize = 8;

/// A connection's membership of a channel.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: ChannelId,
    /// Its index in the channel's list on this shard.
    pub(crate) index: u32,
    /// Whether it gets each event's position in the channel's history, which makes it stand in a
    /// list of its own.
    pub(crate) wants_positions: bool,
    /// When it was made, in milliseconds since the connection began. The highest number means that it is not known.
    pub(crate) since: u32,
    /// On presence channels: its user, and the position up to which the client knows all changes.
    pub(crate) member: Option<(UserId, u64)>,
    /// The newest cached or recorded event that the client got before or with the subscription.
    pub(crate) replayed: Option<Offset>,
    /// The subscription count that the client got last, if any.
    pub(crate) counted: Option<NonZeroU32>,
}

impl Subscription {
    /// Returns when it was made, since the connection began, or `None` if that was too long after.
    pub(crate) fn since(&self) -> Option<Duration> {
        let known = self.since < u32::MAX;
        known.then(|| Duration::from_millis(self.since.into()))
    }
}

/// A connection's subscriptions by the names of their channels.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// In the order in which they were made. Empty while there are `many`.
    few: Vec<(ChannelName, Subscription)>,
    #[expect(
        clippy::box_collection,
        reason = "one word in each connection instead of a map's six"
    )]
    many: Option<Box<HashMap<ChannelName, Subscription>>>,
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.many.as_ref().map_or(self.few.len(), |many| many.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn contains(&self, channel: &str) -> bool {
        self.get(channel).is_some()
    }

    pub(crate) fn get(&self, channel: &str) -> Option<&Subscription> {
        self.get_entry(channel)
            .map(|(_, subscription)| subscription)
    }

    /// Returns the subscription with the name that the connection keeps, which can be cloned at no cost.
    pub(crate) fn get_entry(&self, channel: &str) -> Option<(&ChannelName, &Subscription)> {
        match &self.many {
            Some(many) => many.get_key_value(channel),
            None => {
                let index = self.index(channel)?;
                let (name, subscription) = &self.few[index];
                Some((name, subscription))
            }
        }
    }

    pub(crate) fn get_mut(&mut self, channel: &str) -> Option<&mut Subscription> {
        if let Some(many) = &mut self.many {
            return many.get_mut(channel);
        }
        let mut few = self.few.iter_mut();
        few.find(|(name, _)| name.as_str() == channel)
            .map(|(_, subscription)| subscription)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ChannelName, &Subscription)> {
        let few = self
            .few
            .iter()
            .map(|(name, subscription)| (name, subscription));
        few.chain(self.many.iter().flat_map(|many| many.iter()))
    }

    pub(crate) fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.iter().map(|(name, _)| name)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Subscription> {
        self.iter().map(|(_, subscription)| subscription)
    }

    /// Adds a subscription, in place of an earlier one to the same channel.
    pub(crate) fn insert(&mut self, channel: ChannelName, subscription: Subscription) {
        if let Some(many) = &mut self.many {
            many.insert(channel, subscription);
        } else if let Some(index) = self.index(channel.as_str()) {
            self.few[index].1 = subscription;
        } else if self.few.len() < FEW {
            if self.few.is_empty() {
                // By itself, a vector begins with room for four.
                self.few.reserve_exact(1);
            }
            self.few.push((channel, subscription));
        } else {
            let mut many: HashMap<_, _> = std::mem::take(&mut self.few).into_iter().collect();
            many.insert(channel, subscription);
            self.many = Some(Box::new(many));
        }
    }

    /// Removes a subscription. Memory that only more subscriptions need is freed.
    pub(crate) fn remove(&mut self, channel: &str) -> Option<(ChannelName, Subscription)> {
        let Some(many) = &mut self.many else {
            let removed = self.few.remove(self.index(channel)?);
            if self.few.is_empty() {
                self.few = Vec::new();
            }
            return Some(removed);
        };
        let removed = many.remove_entry(channel)?;
        if many.len() <= FEW / 2 {
            self.few = self.many.take()?.into_iter().collect();
        } else {
            many.shrink_if_sparse();
        }
        Some(removed)
    }

    fn index(&self, channel: &str) -> Option<usize> {
        self.few
            .iter()
            .position(|(name, _)| name.as_str() == channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(index: u32) -> Subscription {
        Subscription {
            channel: ChannelId(0),
            index,
            wants_positions: false,
            since: 0,
            member: None,
            replayed: None,
            counted: None,
        }
    }

    fn name(number: u32) -> ChannelName {
        ChannelName::parse(&format!("channel-{number}"), 50).unwrap()
    }

    #[test]
    fn few_and_many_subscriptions_are_found_replaced_and_removed_alike() {
        let mut subscriptions = Subscriptions::default();
        for count in 1..=40 {
            subscriptions.insert(name(count), subscription(0));
            subscriptions.insert(name(count), subscription(count));
            assert_eq!(subscriptions.len(), count as usize);
            let mut found: Vec<_> = subscriptions.values().map(|found| found.index).collect();
            found.sort_unstable();
            assert_eq!(found, (1..=count).collect::<Vec<_>>());
        }
        for left in (0..40).rev() {
            let gone = name(left + 1);
            let (removed, _) = subscriptions.remove(gone.as_str()).unwrap();
            assert_eq!(removed, gone);
            assert!(subscriptions.remove(gone.as_str()).is_none());
            assert!(!subscriptions.contains(gone.as_str()));
            assert_eq!(subscriptions.len(), left as usize);
            for number in 1..=left {
                let found = subscriptions.get_entry(name(number).as_str());
                assert_eq!(
                    found.map(|(name, found)| (name.clone(), found.index)),
                    Some((name(number), number))
                );
                subscriptions.get_mut(name(number).as_str()).unwrap().since = 7;
            }
            assert!(subscriptions.iter().all(|(_, found)| found.since == 7));
        }
        assert!(subscriptions.is_empty());
    }

    #[test]
    fn what_few_subscriptions_take_does_not_depend_on_how_many_there_were() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.insert(name(0), subscription(0));
        assert_eq!(subscriptions.few.capacity(), 1);
        for count in 1..1000 {
            subscriptions.insert(name(count), subscription(count));
        }
        for count in 1..1000 {
            subscriptions.remove(name(count).as_str());
        }
        assert!(subscriptions.many.is_none() && subscriptions.few.capacity() <= FEW);
        subscriptions.remove(name(0).as_str());
        assert_eq!(subscriptions.few.capacity(), 0);
    }
}
