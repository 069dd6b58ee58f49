//! Which deliveries of a webhook are sent next, and what an attempt's outcome means: a state machine without clock and
//! network, so that days of failures take a test no time.
//!
//! Deliveries are in four lanes by channel. Those of a lane are sent one after the other, so a channel's events keep their
//! order while the receiver answers. Replays have lanes of their own, so that they hold up nothing.

use std::time::Duration;

use super::deliveries::{Deliveries, Tracked};
use super::schedule::{ATTEMPTS_WITH_SHORT_GAPS, gap_after, next_attempt};

/// Lanes of a webhook, and most requests to it at once.
pub(super) const LANES: i64 = 4;
/// Most replays at once while other deliveries are ready.
const REPLAYS_BESIDE: usize = 2;
/// Failures in a row from which on there is one request at a time: a receiver that is dead costs the node little.
const CAREFUL_FROM: u32 = 4;
/// Failures in a row from which on a receiver counts as failing.
pub(crate) const FAILING_FROM: u32 = 10;
/// Milliseconds between two attempts on a failing receiver while several deliveries wait.
const PROBE_GAP: i64 = 5 * 60_000;
/// Deliveries of a lane that are known at most, so that a lane that stands doesn't take the room of the others.
pub(super) const MAX_IN_LANE: usize = 256;
/// The same of those that are aside.
const MAX_ASIDE: usize = 256;
/// Milliseconds after which a delivery that fails no longer holds up those behind it, even those of its own channel.
const MAX_HOLD: i64 = 2 * 3_600_000;
/// Milliseconds without a success after which a webhook is disabled, and the least attempts in that time.
const DISABLE_AFTER: i64 = 5 * 24 * 3_600_000;
const DISABLE_ATTEMPTS: u32 = 20;

/// A delivery that waits. Times are Unix time in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) sequence: i64,
    pub(super) lane: i64,
    /// The channel of all its events, if they have the same.
    pub(super) channel: Option<String>,
    /// When it was recorded, or when its replay was asked for.
    pub(super) queued_at: i64,
    /// Attempts that were made since then.
    pub(super) attempts: u32,
    pub(super) due: i64,
    pub(super) is_replay: bool,
}

/// How a webhook's receiver has answered lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// Since the last success; replays don't count.
    pub(super) failures: u32,
    /// When the first of them was.
    pub(super) failing_since: Option<i64>,
    pub(super) last_success_at: Option<i64>,
    pub(super) last_failure_at: Option<i64>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Delivered,
    /// With the time that the receiver asks for.
    Failed(Option<Duration>),
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Delivered,
    RetryAt(i64),
    GivenUp,
}

/// Which deliveries may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sends {
    All,
    /// The webhook is paused or disabled.
    Replays,
}

/// The receiver of a webhook.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Milliseconds after which a delivery is given up.
    retry_for: i64,
    known: Deliveries,
    health: Health,
    sends: Sends,
    /// Nothing is sent before, because the receiver asked for it while it was failing.
    held_until: i64,
    /// When replays may be tried on a failing receiver again.
    replays_from: i64,
    /// The delivery that was tried last while the receiver was failing.
    last_probe: Option<i64>,
    /// Whether the receiver is known to take deliveries: it has taken one since this node sends to it, or its last answer
    /// before was a success.
    has_succeeded: bool,
    /// Whether deliveries were left out that would be aside.
    has_left_out: bool,
}

impl Endpoint {
    pub(super) fn new(retry_for: Duration, health: Health, sends: Sends) -> Self {
        Self {
            retry_for: i64::try_from(retry_for.as_millis()).unwrap_or(i64::MAX),
            known: Deliveries::default(),
            health,
            sends,
            held_until: i64::MIN,
            replays_from: i64::MIN,
            last_probe: None,
            has_succeeded: health.failures == 0 && health.last_success_at.is_some(),
            has_left_out: false,
        }
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    pub(super) fn set_sends(&mut self, sends: Sends) {
        self.sends = sends;
    }

    /// Returns whether the receiver has failed so often that only one delivery is tried.
    pub(super) fn is_failing(&self) -> bool {
        self.health.failures >= FAILING_FROM
    }

    /// Returns whether there is one request at a time: the receiver has failed several times in a row, or hasn't taken
    /// anything yet, so it may be dead and its requests may take as long as they can.
    pub(super) fn is_careful(&self) -> bool {
        !self.has_succeeded || self.health.failures >= CAREFUL_FROM
    }

    /// Returns whether the webhook is to be disabled.
    pub(super) fn is_hopeless(&self, now: i64) -> bool {
        let since = self.health.failing_since;
        self.health.failures >= DISABLE_ATTEMPTS
            && since.is_some_and(|since| now - since >= DISABLE_AFTER)
    }

    /// Returns the number of deliveries that are known and not in flight.
    pub(super) fn waiting(&self) -> usize {
        self.known.waiting()
    }

    /// Returns the number of those that may be sent at all and wait in their order. Those that are aside don't count: they
    /// wait for hours, and others would not be read meanwhile.
    pub(super) fn possible_waiting(&self) -> usize {
        let live = match self.sends {
            Sends::All => (0..LANES).map(|lane| self.waiting_in(lane)).sum(),
            Sends::Replays => 0,
        };
        live + self.known.waiting_replays()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.known.in_flight()
    }

    /// Adds a delivery that waits, and returns whether it is known then. One that is known stays as it is.
    pub(super) fn add(&mut self, now: i64, item: Item) -> bool {
        if self.known.contains(item.sequence) {
            return true;
        }
        // Of a delivery that failed on another node, or before a restart, only the number of attempts is known.
        let is_aside = !self.is_failing()
            && (item.attempts >= ATTEMPTS_WITH_SHORT_GAPS || self.known.is_refused(&item));
        if is_aside && self.known.aside() >= MAX_ASIDE {
            self.has_left_out = true;
            return false;
        }
        self.known.insert(Tracked {
            first_failed_at: (item.attempts > 0).then_some(now),
            item,
            is_in_flight: false,
            is_aside,
        });
        true
    }

    /// Returns whether deliveries were left out for which there is room now. They are read again.
    pub(super) fn take_room_for_left_out(&mut self) -> bool {
        let has_room = self.has_left_out && self.known.aside() < MAX_ASIDE / 2;
        self.has_left_out &= !has_room;
        has_room
    }

    /// Returns how many deliveries of a lane wait in their order.
    pub(super) fn waiting_in(&self, lane: i64) -> usize {
        self.known.waiting_in(lane)
    }

    /// Returns whether no more of a lane's deliveries should be read.
    pub(super) fn is_full(&self, lane: i64) -> bool {
        self.waiting_in(lane) >= MAX_IN_LANE
    }

    /// Returns whether a lane of deliveries that aren't replays has none in its order, while others may wait behind those of
    /// the other lanes.
    pub(super) fn has_idle_lane(&self) -> bool {
        self.sends == Sends::All && self.known.has_idle_lane()
    }

    /// Returns a delivery by its sequence number.
    #[cfg(test)]
    fn get(&self, sequence: i64) -> Option<&Item> {
        self.known.get(sequence).map(|tracked| &tracked.item)
    }

    /// Takes out and returns the deliveries that are too old to be tried again.
    pub(super) fn take_expired(&mut self, now: i64) -> Vec<i64> {
        let retry_for = self.retry_for;
        let is_expired = |tracked: &Tracked| {
            let item = &tracked.item;
            // What has never been tried gets its attempt, unless it may not be sent or the receiver takes nothing.
            let cannot_be_sent = self.sends == Sends::Replays && !item.is_replay;
            let is_tried = item.attempts > 0 || self.is_failing() || cannot_be_sent;
            !tracked.is_in_flight && is_tried && now > item.queued_at.saturating_add(retry_for)
        };
        let expired = self.known.iter().filter(|tracked| is_expired(tracked));
        let expired: Vec<i64> = expired.map(|tracked| tracked.item.sequence).collect();
        for sequence in &expired {
            self.known.remove(*sequence);
        }
        expired
    }

    /// Returns the deliveries that are sent now, and counts them as in flight.
    pub(super) fn take_ready(&mut self, now: i64) -> Vec<i64> {
        let ready = if now < self.held_until {
            Vec::new()
        } else if self.is_failing() {
            self.ready_while_failing(now).into_iter().collect()
        } else {
            self.ready_in_lanes(now)
        };
        for sequence in &ready {
            self.known.set_in_flight(*sequence, true);
        }
        ready
    }

    fn ready_in_lanes(&self, now: i64) -> Vec<i64> {
        let in_flight = self.in_flight();
        let max = match self.is_careful() {
            true => 1,
            false => usize::try_from(LANES).unwrap_or(1),
        };
        let mut free = max.saturating_sub(in_flight);
        let is_due = |tracked: &&Tracked| tracked.item.due <= now;
        let sequence = |tracked: &Tracked| tracked.item.sequence;
        let mut ready = Vec::new();
        // One at a time of those that hold up nothing, so that they never take all the room.
        if free > 0 && !self.known.is_aside_in_flight() {
            let aside = self.possible_aside().filter(is_due);
            ready.extend(aside.min_by_key(|tracked| tracked.item.due).map(sequence));
        }
        free -= ready.len();
        let heads = self.heads().into_iter().filter(is_due);
        let (mut replays, live): (Vec<_>, Vec<_>) =
            heads.partition(|tracked| tracked.item.is_replay);
        let replaying = self.known.replays_in_flight();
        if !live.is_empty() {
            replays.truncate(REPLAYS_BESIDE.saturating_sub(replaying));
        }
        // A replay goes first if none is in flight: otherwise a busy webhook would never come to it.
        let first = if replaying == 0 { 1 } else { 0 };
        let rest = replays.split_off(replays.len().min(first));
        let chosen = replays.into_iter().chain(live).chain(rest);
        ready.extend(chosen.take(free).map(sequence));
        ready
    }

    /// Returns the deliveries that may be sent at all, in their order.
    fn possible(&self) -> impl Iterator<Item = &Tracked> {
        let all = self.sends == Sends::All;
        let known = self.known.iter();
        known.filter(move |tracked| all || tracked.item.is_replay)
    }

    /// Returns those of them that are aside.
    fn possible_aside(&self) -> impl Iterator<Item = &Tracked> {
        let all = self.sends == Sends::All;
        let aside = self.known.iter_aside();
        aside.filter(move |tracked| all || tracked.item.is_replay)
    }

    /// Returns the first delivery of each lane that has none in flight, if it may be sent. The oldest is the first.
    fn heads(&self) -> Vec<&Tracked> {
        let live = self.known.heads(false);
        let live = live.filter(|_| self.sends == Sends::All);
        let mut heads: Vec<_> = live.chain(self.known.heads(true)).collect();
        heads.sort_unstable_by_key(|tracked| tracked.item.sequence);
        heads
    }

    /// Returns the one delivery that is tried on a failing receiver, if its time has come.
    fn ready_while_failing(&self, now: i64) -> Option<i64> {
        if self.in_flight() > 0 {
            return None;
        }
        // Somebody has just asked for a replay and looks at what comes of it.
        let replays = self.possible().filter(|tracked| tracked.item.is_replay);
        let fresh = replays
            .filter(|tracked| tracked.item.attempts == 0)
            .min_by_key(|tracked| tracked.item.due);
        if let Some(replay) = fresh
            && now >= replay.item.due.max(self.replays_from)
        {
            return Some(replay.item.sequence);
        }
        let probe = self.probe()?;
        (now >= self.probe_at(probe)).then_some(probe.item.sequence)
    }

    /// Returns the delivery with which a failing receiver is tried: the oldest, and in turn with it another one, because
    /// the receiver may be well and refuse just the oldest.
    fn probe(&self) -> Option<&Tracked> {
        let oldest = self.possible().find(|tracked| !tracked.is_aside);
        let Some(oldest) = oldest else {
            return self.possible().min_by_key(|tracked| tracked.item.due);
        };
        let is_others_turn = oldest.item.attempts >= ATTEMPTS_WITH_SHORT_GAPS
            && self.last_probe == Some(oldest.item.sequence);
        let other = is_others_turn.then(|| self.other_probe(oldest)).flatten();
        Some(other.unwrap_or(oldest))
    }

    /// Returns a delivery that can overtake the oldest one without changing the order of a channel's events. After two
    /// hours even that is given up.
    fn other_probe(&self, oldest: &Tracked) -> Option<&Tracked> {
        let mut others = self.possible().filter(|tracked| !tracked.is_aside).skip(1);
        let independent = |other: &Tracked| {
            other.lane() != oldest.lane()
                || matches!((&other.item.channel, &oldest.item.channel), (Some(a), Some(b)) if a != b)
        };
        let held = oldest.first_failed_at.zip(self.health.last_failure_at);
        if held.is_some_and(|(first, last)| last - first >= MAX_HOLD) {
            return others.next();
        }
        // The first one that is independent is also the first of its channel: what is before it is of the oldest one's.
        let mut before: Vec<&Tracked> = Vec::new();
        for other in others {
            let overtakes_own = before.iter().any(|earlier| {
                earlier.lane() == other.lane() && earlier.item.channel == other.item.channel
                    || earlier.lane() == other.lane() && earlier.item.channel.is_none()
            });
            if independent(other) && !overtakes_own {
                return Some(other);
            }
            before.push(other);
        }
        None
    }

    /// Returns when a failing receiver is tried with a delivery.
    fn probe_at(&self, probe: &Tracked) -> i64 {
        let due = probe.item.due;
        let is_alone = self.possible().nth(1).is_none();
        let Some(failed_at) = self.health.last_failure_at.filter(|_| !is_alone) else {
            return due;
        };
        let since = self.health.failing_since.unwrap_or(failed_at);
        if failed_at - since >= PROBE_GAP {
            failed_at + PROBE_GAP
        } else {
            due.min(failed_at + PROBE_GAP)
        }
    }

    /// Returns a delivery to those that wait, without an attempt.
    pub(super) fn put_back(&mut self, sequence: i64) {
        self.known.set_in_flight(sequence, false);
    }

    /// Notes how an attempt ended at `now`, and returns what becomes of the delivery. `random` is a number from 0 to 1.
    pub(super) fn finish(
        &mut self,
        sequence: i64,
        verdict: Verdict,
        now: i64,
        random: f64,
    ) -> Next {
        let was_failing = self.is_failing();
        let Some(mut tracked) = self.known.remove(sequence) else {
            return Next::GivenUp;
        };
        if was_failing && !tracked.item.is_replay {
            self.last_probe = Some(sequence);
        }
        match verdict {
            Verdict::Delivered => {
                self.note_success(now);
                if was_failing {
                    // They have waited for the receiver.
                    self.known.make_due(now);
                }
                Next::Delivered
            }
            Verdict::Failed(retry_after) => {
                tracked.item.attempts = tracked.item.attempts.saturating_add(1);
                let gap = gap_after(tracked.item.attempts, retry_after, random);
                // What is aside is refused while the receiver takes others, so it says nothing about the receiver.
                if !tracked.is_aside || was_failing {
                    self.note_failure(&tracked.item, retry_after.map(|_| gap), now);
                }
                let deadline = tracked.item.queued_at.saturating_add(self.retry_for);
                let Some(due) = next_attempt(now, gap, deadline) else {
                    return Next::GivenUp;
                };
                tracked.item.due = due;
                tracked.is_in_flight = false;
                let first_failed_at = *tracked.first_failed_at.get_or_insert(now);
                let last_success_at = self.health.last_success_at;
                tracked.is_aside |= tracked.item.attempts >= ATTEMPTS_WITH_SHORT_GAPS
                    && last_success_at.is_some_and(|at| at >= first_failed_at);
                self.known.insert(tracked);
                Next::RetryAt(due)
            }
        }
    }

    /// Forgets the failures and makes all deliveries due. Until the receiver has taken one, there is one request at a time.
    pub(super) fn start_over(&mut self, now: i64) {
        self.health.failures = 0;
        self.health.failing_since = None;
        self.held_until = i64::MIN;
        self.replays_from = i64::MIN;
        self.last_probe = None;
        self.has_succeeded = false;
        self.known.make_all_due(now);
    }

    fn note_success(&mut self, now: i64) {
        self.health = Health {
            failures: 0,
            failing_since: None,
            last_success_at: Some(now),
            ..self.health
        };
        self.held_until = i64::MIN;
        self.replays_from = i64::MIN;
        self.last_probe = None;
        self.has_succeeded = true;
    }

    fn note_failure(&mut self, item: &Item, asked: Option<Duration>, now: i64) {
        if item.is_replay {
            if self.is_failing() {
                self.replays_from = now + PROBE_GAP;
            }
            return;
        }
        self.health.failures = self.health.failures.saturating_add(1);
        self.health.failing_since.get_or_insert(now);
        self.health.last_failure_at = Some(now);
        if let Some(asked) = asked.filter(|_| self.is_failing()) {
            let asked = i64::try_from(asked.as_millis()).unwrap_or(PROBE_GAP);
            self.held_until = now + asked.min(2 * PROBE_GAP);
        }
    }

    /// Returns when something is ready that wasn't when [`Self::take_ready`] was called at `now`, unless an attempt ends
    /// before. Returns `None` if only the end of an attempt can change anything.
    pub(super) fn next_ready_at(&self, now: i64) -> Option<i64> {
        let mut times = Vec::new();
        if self.is_failing() {
            times.extend(self.probe().map(|probe| self.probe_at(probe)));
            let replays = self.possible().filter(|tracked| tracked.item.is_replay);
            let fresh = replays.filter(|tracked| tracked.item.attempts == 0);
            times.extend(fresh.map(|tracked| tracked.item.due.max(self.replays_from)));
        } else {
            let next = self.heads().into_iter().chain(self.possible_aside());
            times.extend(next.map(|tracked| tracked.item.due));
        }
        let times = times.into_iter().map(|at| at.max(self.held_until));
        times.filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SECOND: i64 = 1000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;

    type Script = dyn Fn(i64, &Item) -> (Verdict, i64);

    /// A receiver that follows a script, and what it heard, under a clock that jumps to whatever comes next.
    struct World {
        endpoint: Endpoint,
        now: i64,
        /// How a delivery is answered that is sent now, and after how many milliseconds.
        script: Box<Script>,
        in_flight: BTreeMap<(i64, i64), Verdict>,
        heard: Vec<(i64, i64)>,
        attempts: Vec<(i64, i64)>,
        given_up: Vec<i64>,
        most_in_flight: usize,
    }

    fn item(sequence: i64, channel: &str) -> Item {
        let lane = channel.bytes().map(i64::from).sum::<i64>();
        Item {
            sequence,
            lane,
            channel: Some(channel.into()),
            queued_at: 0,
            attempts: 0,
            due: 0,
            is_replay: false,
        }
    }

    impl World {
        fn new(items: Vec<Item>, script: impl Fn(i64, &Item) -> (Verdict, i64) + 'static) -> Self {
            let retry_for = Duration::from_hours(18);
            let mut endpoint = Endpoint::new(retry_for, Health::default(), Sends::All);
            for item in items {
                endpoint.add(0, item);
            }
            Self {
                endpoint,
                now: 0,
                script: Box::new(script),
                in_flight: BTreeMap::new(),
                heard: Vec::new(),
                attempts: Vec::new(),
                given_up: Vec::new(),
                most_in_flight: 0,
            }
        }

        /// Goes on until nothing waits, or until a time.
        fn run_until(&mut self, end: i64) {
            loop {
                for sequence in self.endpoint.take_ready(self.now) {
                    let item = self.endpoint.get(sequence).expect("it is known");
                    let (verdict, took) = (self.script)(self.now, item);
                    self.attempts.push((self.now, sequence));
                    self.in_flight.insert((self.now + took, sequence), verdict);
                }
                self.most_in_flight = self.most_in_flight.max(self.in_flight.len());
                let ready = self.endpoint.next_ready_at(self.now);
                let answer = self.in_flight.first_key_value().map(|((at, _), _)| *at);
                // A lane that is busy is free again when its attempt ends.
                let Some(next) = [ready, answer].into_iter().flatten().min() else {
                    return;
                };
                if next > end {
                    self.now = end;
                    return;
                }
                self.now = next;
                while let Some(entry) = self.in_flight.first_entry()
                    && entry.key().0 <= self.now
                {
                    let ((_, sequence), verdict) = entry.remove_entry();
                    match self.endpoint.finish(sequence, verdict, self.now, 0.5) {
                        Next::Delivered => self.heard.push((self.now, sequence)),
                        Next::GivenUp => self.given_up.push(sequence),
                        Next::RetryAt(_) => {}
                    }
                }
            }
        }

        fn heard(&self) -> Vec<i64> {
            self.heard.iter().map(|(_, sequence)| *sequence).collect()
        }
    }

    const OK: Verdict = Verdict::Delivered;
    const FAILED: Verdict = Verdict::Failed(None);

    #[test]
    fn a_channels_deliveries_keep_their_order_and_four_are_in_flight() {
        let channels = ["a", "b", "c", "d", "e"];
        let items = (1..=20).map(|n| item(n, channels[usize::try_from(n % 5).unwrap()]));
        // Later ones are answered sooner, so without lanes they would overtake.
        let mut world = World::new(items.collect(), |_, item| (OK, 100 - item.sequence));
        world.run_until(HOUR);
        assert_eq!(world.heard().len(), 20);
        assert_eq!(world.most_in_flight, 4);
        for channel in 0..5 {
            let heard = world.heard();
            let of_channel: Vec<_> = heard.iter().filter(|n| **n % 5 == channel).collect();
            assert!(of_channel.is_sorted(), "{heard:?}");
        }
    }

    #[test]
    fn a_receiver_that_has_taken_nothing_yet_gets_one_request_at_a_time() {
        let items = ["a", "b", "c", "d", "e"]
            .map(|channel| item(1 + i64::from(channel.as_bytes()[0]), channel));
        let mut world = World::new(items.into(), |_, _| (OK, 15 * SECOND));
        world.run_until(15 * SECOND - 1);
        assert_eq!(world.most_in_flight, 1);
        world.run_until(HOUR);
        assert_eq!(world.most_in_flight, 4);
    }

    #[test]
    fn a_delivery_that_fails_is_tried_by_its_schedule_and_holds_up_its_lane() {
        let mut world = World::new(vec![item(1, "a"), item(2, "a")], |now, item| {
            let is_down = now < 10 * SECOND && item.sequence == 1;
            (if is_down { FAILED } else { OK }, 0)
        });
        world.run_until(HOUR);
        assert_eq!(world.heard, [(15 * SECOND, 1), (15 * SECOND, 2)]);
        let of_first: Vec<i64> = world
            .attempts
            .iter()
            .filter(|(_, n)| *n == 1)
            .map(|(at, _)| at / SECOND)
            .collect();
        assert_eq!(of_first, [0, 1, 3, 7, 15]);
    }

    #[test]
    fn one_delivery_that_is_always_refused_is_set_aside_while_others_are_taken() {
        let mut world = World::new(vec![item(1, "a")], |_, item| {
            (if item.sequence == 1 { FAILED } else { OK }, 10)
        });
        // Another channel goes on meanwhile, and the one of the refused delivery has more to come.
        for n in 2..100 {
            world.run_until(n * 10 * SECOND);
            let next = Item {
                queued_at: world.now,
                due: world.now,
                ..item(n, if n % 2 == 0 { "b" } else { "a" })
            };
            world.endpoint.add(world.now, next);
        }
        world.run_until(20 * HOUR);
        let first_of_a = world.heard.iter().find(|(_, n)| n % 2 == 1).expect("heard");
        assert_eq!(first_of_a.1, 3);
        assert!(
            (4 * MINUTE..6 * MINUTE).contains(&first_of_a.0),
            "{first_of_a:?}"
        );
        assert_eq!(world.heard().len(), 98);
        assert_eq!(world.given_up, [1]);
    }

    #[test]
    fn a_channel_whose_events_are_all_refused_holds_up_its_lane_once() {
        let refuses = |item: &Item| item.channel.as_deref() == Some("poison");
        let mut world = World::new(vec![], move |_, item| {
            (if refuses(item) { FAILED } else { OK }, 10)
        });
        // One event each second: of the same lane, and of another one, without which the receiver would seem dead.
        for n in 1..1800 {
            world.run_until(n * SECOND);
            let (channel, lane) = [("poison", 0), ("well", 0), ("other", 1)]
                [usize::try_from(n % 3).expect("a small number")];
            let next = Item {
                lane,
                queued_at: world.now,
                due: world.now,
                ..item(n, channel)
            };
            world.endpoint.add(world.now, next);
        }
        world.run_until(1800 * SECOND);
        assert_eq!(world.heard().len(), 1200);
        let late = world
            .heard
            .iter()
            .filter(|(at, n)| at - n * SECOND > SECOND);
        let last_late = late.map(|(at, _)| *at).max().expect("held up at first");
        assert!(last_late < 6 * MINUTE, "{last_late}");
    }

    #[test]
    fn deliveries_of_a_refused_channel_take_bounded_room() {
        let mut endpoint = Endpoint::new(Duration::from_hours(18), Health::default(), Sends::All);
        let refused = Item {
            attempts: ATTEMPTS_WITH_SHORT_GAPS,
            ..item(1, "poison")
        };
        assert!(endpoint.add(0, refused));
        for n in 2..=i64::try_from(MAX_ASIDE).expect("a small number") {
            assert!(endpoint.add(0, item(n, "poison")));
        }
        assert!(!endpoint.add(0, item(1000, "poison")));
        assert!(endpoint.add(0, item(1001, "well")));
        assert!(!endpoint.take_room_for_left_out());
        for n in 1..=200 {
            endpoint.finish(n, Verdict::Delivered, 1, 0.5);
        }
        assert!(endpoint.take_room_for_left_out());
        assert!(endpoint.add(2, item(1000, "poison")));
    }

    #[test]
    fn a_lane_that_stands_is_full_before_it_takes_the_room_of_others() {
        let mut endpoint = Endpoint::new(Duration::from_hours(18), Health::default(), Sends::All);
        let of_lane = |n, lane| Item {
            lane,
            ..item(n, "a")
        };
        for n in 1..=i64::try_from(MAX_IN_LANE).expect("a small number") {
            assert!(!endpoint.is_full(1));
            endpoint.add(0, of_lane(n, 1));
        }
        assert!(endpoint.is_full(1) && !endpoint.is_full(2));
    }

    #[test]
    fn a_refused_delivery_of_a_busy_channel_is_found_out_by_another_channel() {
        let items = vec![item(1, "a"), item(2, "a"), item(3, "e"), item(4, "a")];
        assert_eq!(items[0].lane % 4, items[2].lane % 4, "they share a lane");
        let mut world = World::new(items, |_, item| {
            (if item.sequence == 1 { FAILED } else { OK }, 10)
        });
        world.run_until(HOUR);
        assert_eq!(world.heard(), [3, 2, 4]);
        assert!(world.heard[0].0 < 15 * MINUTE, "{:?}", world.heard);
    }

    #[test]
    fn a_refused_delivery_of_the_only_channel_holds_it_up_for_two_hours() {
        let mut world = World::new(vec![item(1, "a"), item(2, "a")], |_, item| {
            (if item.sequence == 1 { FAILED } else { OK }, 10)
        });
        world.run_until(20 * HOUR);
        let (at, sequence) = world.heard[0];
        assert_eq!(sequence, 2);
        assert!((2 * HOUR..3 * HOUR).contains(&at), "{at}");
        assert_eq!(world.given_up, [1]);
    }

    #[test]
    fn a_dead_receiver_gets_one_request_at_a_time_and_everything_in_order_when_it_is_back() {
        let channels = ["a", "b", "c", "d", "e"];
        let items = (1..=50).map(|n| item(n, channels[usize::try_from(n % 5).unwrap()]));
        let mut world = World::new(items.collect(), |now, _| match now < HOUR {
            true => (FAILED, 15 * SECOND),
            false => (OK, 20),
        });
        world.run_until(20 * HOUR);
        let failing = world.attempts.iter().filter(|(at, _)| *at < HOUR).count();
        assert!(failing < 50, "{failing} attempts within the hour");
        let (first, last) = (world.heard[0].0, world.heard[49].0);
        assert!(first < HOUR + 6 * MINUTE, "{first}");
        assert!(last - first < 2 * SECOND, "all at once: {}", last - first);
        for channel in 0..5 {
            let heard = world.heard();
            let of_channel: Vec<_> = heard.iter().filter(|n| **n % 5 == channel).collect();
            assert!(of_channel.is_sorted(), "{heard:?}");
        }
        assert_eq!(world.endpoint.health().failures, 0);
    }

    #[test]
    fn an_outage_of_an_hour_keeps_the_order_of_the_only_channel() {
        for back_at in [HOUR, HOUR + 3 * MINUTE, HOUR + 7 * MINUTE] {
            let items = (1..=10).map(|n| item(n, "a"));
            let mut world = World::new(items.collect(), move |now, _| {
                (if now < back_at { FAILED } else { OK }, 20)
            });
            world.run_until(20 * HOUR);
            assert_eq!(world.heard(), (1..=10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn deliveries_are_given_up_in_the_end_and_the_webhook_is_disabled_after_days() {
        let mut world = World::new(vec![item(1, "a"), item(2, "b")], |_, _| (FAILED, 10));
        world.run_until(30 * HOUR);
        assert_eq!(world.given_up.len(), 2);
        assert!(world.now <= 19 * HOUR, "{}", world.now);
        assert!(!world.endpoint.is_hopeless(world.now));
        let since = world.endpoint.health().failing_since.expect("failing");
        assert!(world.endpoint.is_hopeless(since + 5 * 24 * HOUR));
        assert!(!world.endpoint.is_hopeless(since + 5 * 24 * HOUR - 1));
    }

    #[test]
    fn a_receiver_that_asks_for_time_gets_it_within_bounds() {
        let asks = |seconds| Verdict::Failed(Some(Duration::from_secs(seconds)));
        let mut world = World::new(vec![item(1, "a")], move |now, _| {
            (if now == 0 { asks(3600) } else { OK }, 0)
        });
        world.run_until(HOUR);
        assert_eq!(world.heard, [(2 * SECOND, 1)], "twice the gap at most");
    }

    #[test]
    fn replays_hold_up_nothing_and_do_not_count_as_failures() {
        let replay = |n| Item {
            is_replay: true,
            ..item(n, "a")
        };
        let items = [
            vec![replay(1), replay(2)],
            (3..=8).map(|n| item(n, "a")).collect(),
        ]
        .concat();
        let mut world = World::new(items, |_, item| {
            (if item.is_replay { FAILED } else { OK }, 10)
        });
        world.run_until(30 * SECOND);
        assert_eq!(world.heard(), (3..=8).collect::<Vec<_>>());
        assert!(world.heard.last().expect("heard").0 < SECOND);
        assert_eq!(world.endpoint.health().failures, 0);
    }

    #[test]
    fn a_paused_webhook_sends_replays_alone() {
        let replay = Item {
            is_replay: true,
            ..item(1, "a")
        };
        let mut world = World::new(vec![replay, item(2, "a")], |_, _| (OK, 10));
        world.endpoint.set_sends(Sends::Replays);
        world.run_until(HOUR);
        assert_eq!(world.heard(), [1]);
        let expired = world.endpoint.take_expired(18 * HOUR + 1);
        assert_eq!(expired, [2], "what is not sent is given up in the end");
    }

    #[test]
    fn a_replay_reaches_a_failing_receiver_at_once() {
        let mut world = World::new((1..=20).map(|n| item(n, "a")).collect(), |now, _| {
            (if now < 40 * MINUTE { FAILED } else { OK }, 10)
        });
        world.run_until(41 * MINUTE);
        assert!(world.endpoint.is_failing() && world.heard.is_empty());
        let replay = Item {
            is_replay: true,
            queued_at: world.now,
            due: world.now,
            ..item(0, "a")
        };
        world.endpoint.add(world.now, replay);
        world.run_until(HOUR);
        assert_eq!(world.heard[0], (41 * MINUTE + 10, 0));
        assert_eq!(world.heard().len(), 21, "its success frees the others");
    }

    #[test]
    fn a_delivery_that_is_put_back_is_sent_again_without_an_attempt() {
        let mut endpoint = Endpoint::new(Duration::from_hours(1), Health::default(), Sends::All);
        endpoint.add(0, item(1, "a"));
        assert_eq!(endpoint.take_ready(0), [1]);
        assert_eq!(endpoint.take_ready(0), [] as [i64; 0]);
        endpoint.put_back(1);
        assert_eq!(endpoint.take_ready(0), [1]);
        assert_eq!(endpoint.get(1).expect("known").attempts, 0);
    }

    #[test]
    fn after_a_repair_all_that_waits_is_sent_at_once() {
        let mended_at = 12 * HOUR + 7 * SECOND;
        let items = (1..=20).map(|n| item(n, if n % 2 == 0 { "a" } else { "b" }));
        let mut world = World::new(items.collect(), move |now, _| {
            (if now < mended_at { FAILED } else { OK }, 10)
        });
        world.run_until(mended_at);
        assert!(world.endpoint.is_failing() && world.heard.is_empty());
        let attempts = world.attempts.len();
        world.endpoint.start_over(world.now);
        assert!(!world.endpoint.is_failing());
        world.run_until(mended_at + SECOND);
        assert_eq!(world.heard().len(), 20);
        let (of_first_10_ms, _) = world.attempts[attempts..].split_at(2);
        assert_eq!(of_first_10_ms[0].0, mended_at);
        assert!(of_first_10_ms[1].0 > mended_at, "one request, to find out");
    }

    #[test]
    fn what_another_node_has_set_aside_stays_aside() {
        let refused = Item {
            attempts: 12,
            due: HOUR,
            ..item(1, "a")
        };
        let mut world = World::new(vec![refused, item(2, "a")], |_, _| (OK, 10));
        world.run_until(2 * HOUR);
        assert_eq!(world.heard(), [2, 1]);
    }
}
