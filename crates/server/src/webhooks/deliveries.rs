//! The deliveries of a webhook that are known here, in their lanes, with what is asked of them for each one that is sent:
//! how many wait, and which is first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::endpoint::{Item, LANES};

const LANE_COUNT: usize = LANES as usize;

/// A delivery that is known here.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) item: Item,
    /// Whether it is in flight. [`Deliveries::set_in_flight`] changes it.
    pub(super) is_in_flight: bool,
    /// Whether it no longer holds up its lane, because the receiver takes others.
    pub(super) is_aside: bool,
    pub(super) first_failed_at: Option<i64>,
}

impl Tracked {
    /// Returns its lane. Replays have others.
    pub(super) fn lane(&self) -> (bool, i64) {
        (self.item.is_replay, self.item.lane.rem_euclid(LANES))
    }

    /// Returns the channel that is refused because this delivery is. Replays hold up nothing, so they say nothing of others.
    fn refused_channel(&self) -> Option<&String> {
        let channel = self.item.channel.as_ref();
        channel.filter(|_| self.is_aside && !self.item.is_replay)
    }
}

/// The sequence numbers of some deliveries.
#[derive(Debug, Default)]
struct Group {
    sequences: BTreeSet<i64>,
    in_flight: usize,
}

impl Group {
    fn waiting(&self) -> usize {
        self.sequences.len() - self.in_flight
    }
}

/// The deliveries by sequence number. Each is in its lane, or aside.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    by_sequence: BTreeMap<i64, Tracked>,
    live: [Group; LANE_COUNT],
    replays: [Group; LANE_COUNT],
    aside: Group,
    /// The channels of those that are aside, and how many each has.
    refused: HashMap<String, usize>,
}

impl Deliveries {
    pub(super) fn contains(&self, sequence: i64) -> bool {
        self.by_sequence.contains_key(&sequence)
    }

    #[cfg(test)]
    pub(super) fn get(&self, sequence: i64) -> Option<&Tracked> {
        self.by_sequence.get(&sequence)
    }

    /// Returns all of them in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Tracked> {
        self.by_sequence.values()
    }

    pub(super) fn in_flight(&self) -> usize {
        let groups = self.live.iter().chain(&self.replays);
        groups.map(|group| group.in_flight).sum::<usize>() + self.aside.in_flight
    }

    /// Returns how many aren't in flight.
    pub(super) fn waiting(&self) -> usize {
        self.by_sequence.len() - self.in_flight()
    }

    /// Returns how many of a lane wait in their order.
    pub(super) fn waiting_in(&self, lane: i64) -> usize {
        self.live[lane_index(lane)].waiting()
    }

    /// Returns how many replays wait in their order.
    pub(super) fn waiting_replays(&self) -> usize {
        self.replays.iter().map(Group::waiting).sum()
    }

    /// Returns whether a lane of deliveries that aren't replays has none.
    pub(super) fn has_idle_lane(&self) -> bool {
        self.live.iter().any(|lane| lane.sequences.is_empty())
    }

    /// Returns how many are aside.
    pub(super) fn aside(&self) -> usize {
        self.aside.sequences.len()
    }

    pub(super) fn is_aside_in_flight(&self) -> bool {
        self.aside.in_flight > 0
    }

    /// Returns how many replays are in flight, without those that are aside.
    pub(super) fn replays_in_flight(&self) -> usize {
        self.replays.iter().map(|lane| lane.in_flight).sum()
    }

    /// Returns those that are aside, in their order.
    pub(super) fn iter_aside(&self) -> impl Iterator<Item = &Tracked> {
        let sequences = self.aside.sequences.iter();
        sequences.filter_map(|sequence| self.by_sequence.get(sequence))
    }

    /// Returns whether a delivery is of a channel of which another one is aside: it would hold up its lane for minutes too.
    pub(super) fn is_refused(&self, item: &Item) -> bool {
        let channel = item.channel.as_ref().filter(|_| !item.is_replay);
        channel.is_some_and(|channel| self.refused.contains_key(channel))
    }

    /// Returns the first delivery of each lane that has none in flight. `of_replays` says of which lanes.
    pub(super) fn heads(&self, of_replays: bool) -> impl Iterator<Item = &Tracked> {
        let lanes = if of_replays {
            &self.replays
        } else {
            &self.live
        };
        let free = lanes.iter().filter(|lane| lane.in_flight == 0);
        free.filter_map(|lane| self.by_sequence.get(lane.sequences.first()?))
    }

    /// Adds a delivery. One that is aside takes those of its channel along.
    pub(super) fn insert(&mut self, tracked: Tracked) {
        let sequence = tracked.item.sequence;
        let newly_refused = tracked.refused_channel().cloned();
        if let Some(channel) = &newly_refused {
            *self.refused.entry(channel.clone()).or_default() += 1;
        }
        let group = self.group(tracked.is_aside, tracked.lane());
        group.sequences.insert(sequence);
        group.in_flight += usize::from(tracked.is_in_flight);
        let lane = tracked.lane().1;
        self.by_sequence.insert(sequence, tracked);
        if newly_refused.is_some_and(|channel| self.refused[&channel] == 1) {
            self.set_refused_aside(lane);
        }
    }

    /// Sets those of a lane aside whose channel is refused.
    fn set_refused_aside(&mut self, lane: i64) {
        let lane = self.live[lane_index(lane)].sequences.iter();
        let refused: Vec<i64> = lane
            .filter(|sequence| self.is_refused(&self.by_sequence[sequence].item))
            .copied()
            .collect();
        for sequence in refused {
            if let Some(mut tracked) = self.remove(sequence) {
                tracked.is_aside = true;
                self.insert(tracked);
            }
        }
    }

    pub(super) fn remove(&mut self, sequence: i64) -> Option<Tracked> {
        let tracked = self.by_sequence.remove(&sequence)?;
        let group = self.group(tracked.is_aside, tracked.lane());
        group.sequences.remove(&sequence);
        group.in_flight -= usize::from(tracked.is_in_flight);
        if let Some(channel) = tracked.refused_channel()
            && let Some(count) = self.refused.get_mut(channel)
        {
            *count -= 1;
            if *count == 0 {
                self.refused.remove(channel);
            }
        }
        Some(tracked)
    }

    pub(super) fn set_in_flight(&mut self, sequence: i64, is_in_flight: bool) {
        let Some(tracked) = self.by_sequence.get_mut(&sequence) else {
            return;
        };
        let was_in_flight = std::mem::replace(&mut tracked.is_in_flight, is_in_flight);
        let (is_aside, lane) = (tracked.is_aside, tracked.lane());
        let group = self.group(is_aside, lane);
        group.in_flight = group.in_flight + usize::from(is_in_flight) - usize::from(was_in_flight);
    }

    /// Makes all due that aren't aside.
    pub(super) fn make_due(&mut self, now: i64) {
        let in_order = self.by_sequence.values_mut();
        for tracked in in_order.filter(|tracked| !tracked.is_aside) {
            tracked.item.due = tracked.item.due.min(now);
        }
    }

    pub(super) fn make_all_due(&mut self, now: i64) {
        for tracked in self.by_sequence.values_mut() {
            tracked.item.due = tracked.item.due.min(now);
        }
    }

    fn group(&mut self, is_aside: bool, (is_replay, lane): (bool, i64)) -> &mut Group {
        match (is_aside, is_replay) {
            (true, _) => &mut self.aside,
            (false, true) => &mut self.replays[lane_index(lane)],
            (false, false) => &mut self.live[lane_index(lane)],
        }
    }
}

fn lane_index(lane: i64) -> usize {
    usize::try_from(lane.rem_euclid(LANES)).unwrap_or_default()
}
