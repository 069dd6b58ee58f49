//! Room for requests, shared fairly: whoever has fewest under way comes first, and nobody takes all of it, so that
//! receivers that answer late don't keep those of other apps waiting.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fanfare_protocol::AppId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// One part in so many is left to others: by an app, and of what it may have to receivers that struggle.
const LEFT_BY_APP: usize = 4;
const LEFT_BY_STRUGGLING: usize = 2;

/// Whether a receiver answers soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Quick,
    /// It has failed several times in a row, hasn't answered yet, or answers late.
    Struggling,
}

/// Room for requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Permits(Arc<Mutex<Room>>);

/// Room for one request, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Permits,
    app: AppId,
    pace: Pace,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.release(&self.app, self.pace);
    }
}

impl Permit {
    /// Counts the request from now on among those of receivers that struggle.
    pub(super) fn note_late(&mut self) {
        if self.pace == Pace::Struggling {
            return;
        }
        self.pace = Pace::Struggling;
        let mut room = self.permits.0.lock();
        room.in_use.struggling += 1;
        if let Some(share) = room.by_app.get_mut(&self.app) {
            share.in_use.struggling += 1;
        }
    }
}

#[derive(Debug)]
struct Room {
    max: usize,
    in_use: InUse,
    by_app: HashMap<AppId, Share>,
    /// The number of the next one that waits.
    next: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct InUse {
    all: usize,
    struggling: usize,
}

impl InUse {
    fn change(&mut self, pace: Pace, by: impl Fn(usize) -> usize) {
        self.all = by(self.all);
        if pace == Pace::Struggling {
            self.struggling = by(self.struggling);
        }
    }
}

/// What an app has and wants.
#[derive(Debug, Default)]
struct Share {
    in_use: InUse,
    quick: VecDeque<Waiter>,
    struggling: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    grant: oneshot::Sender<Permit>,
}

impl Share {
    fn queue(&mut self, pace: Pace) -> &mut VecDeque<Waiter> {
        match pace {
            Pace::Quick => &mut self.quick,
            Pace::Struggling => &mut self.struggling,
        }
    }

    fn first(&self, pace: Pace) -> Option<u64> {
        let queue = match pace {
            Pace::Quick => &self.quick,
            Pace::Struggling => &self.struggling,
        };
        queue.front().map(|waiter| waiter.number)
    }

    fn is_idle(&self) -> bool {
        self.in_use.all == 0 && self.quick.is_empty() && self.struggling.is_empty()
    }
}

/// Returns how many of some may be taken if one part of `parts` is left to others.
fn without_part(max: usize, parts: usize) -> usize {
    max - max / parts
}

impl Room {
    /// Returns whether an app that has so many may have one more.
    fn has_room(&self, share: InUse, pace: Pace) -> bool {
        let struggling = without_part(self.max, LEFT_BY_STRUGGLING);
        let may_struggle = self.in_use.struggling < struggling
            && share.struggling < without_part(struggling, LEFT_BY_APP);
        self.in_use.all < self.max
            && share.all < without_part(self.max, LEFT_BY_APP)
            && (pace == Pace::Quick || may_struggle)
    }

    /// Returns the app and the pace of the one that comes next, if there is room for any that waits: of the apps it is the
    /// one with fewest under way, and of those the one that has waited longest.
    fn next(&self) -> Option<(AppId, Pace)> {
        let paces = [Pace::Quick, Pace::Struggling];
        let waiting = self.by_app.iter().flat_map(|(app, share)| {
            let first = move |pace| share.first(pace).map(|number| (number, app, share, pace));
            paces.into_iter().filter_map(first)
        });
        let possible = waiting.filter(|(_, _, share, pace)| self.has_room(share.in_use, *pace));
        let rank = |(number, _, share, pace): &(u64, &AppId, &Share, Pace)| match pace {
            Pace::Quick => (share.in_use.all, *number),
            Pace::Struggling => (share.in_use.struggling, *number),
        };
        let next = possible.min_by_key(rank);
        next.map(|(_, app, _, pace)| (app.clone(), pace))
    }

    fn forget_if_idle(&mut self, app: &AppId) {
        if self.by_app.get(app).is_some_and(Share::is_idle) {
            self.by_app.remove(app);
        }
    }

    fn take(&mut self, app: &AppId, pace: Pace) {
        self.in_use.change(pace, |count| count + 1);
        let share = self.by_app.entry(app.clone()).or_default();
        share.in_use.change(pace, |count| count + 1);
    }
}

impl Permits {
    pub(super) fn new(max: usize) -> Self {
        Self(Arc::new(Mutex::new(Room {
            max,
            in_use: InUse::default(),
            by_app: HashMap::new(),
            next: 0,
        })))
    }

    /// Waits until there is room for a request of an app.
    pub(super) async fn acquire(&self, app: &AppId, pace: Pace) -> Option<Permit> {
        let (grant, granted) = oneshot::channel();
        {
            let mut room = self.0.lock();
            let number = room.next;
            room.next += 1;
            let share = room.by_app.entry(app.clone()).or_default();
            share.queue(pace).push_back(Waiter { number, grant });
        }
        self.grant();
        // The sender is dropped only after it has sent.
        granted.await.ok()
    }

    fn release(&self, app: &AppId, pace: Pace) {
        {
            let mut room = self.0.lock();
            room.in_use.change(pace, |count| count.saturating_sub(1));
            if let Some(share) = room.by_app.get_mut(app) {
                share.in_use.change(pace, |count| count.saturating_sub(1));
            }
            room.forget_if_idle(app);
        }
        self.grant();
    }

    /// Gives the room that there is to those that wait.
    fn grant(&self) {
        loop {
            let mut room = self.0.lock();
            let Some((app, pace)) = room.next() else {
                return;
            };
            let share = room.by_app.get_mut(&app);
            let Some(waiter) = share.and_then(|share| share.queue(pace).pop_front()) else {
                return;
            };
            if waiter.grant.is_closed() {
                room.forget_if_idle(&app);
                continue;
            }
            room.take(&app, pace);
            drop(room);
            // If nobody waits for it by now, it is dropped here, and the next one gets the room.
            let permits = self.clone();
            let _ = waiter.grant.send(Permit { permits, app, pace });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    const LATE: Duration = Duration::from_secs(14);
    const SOON: Duration = Duration::from_millis(100);

    fn app(number: usize) -> AppId {
        AppId::parse(&number.to_string()).expect("an id")
    }

    /// Makes as many requests of an app, one after the other is granted, each of which takes so long.
    fn send(permits: &Permits, app: &AppId, pace: Pace, count: usize, took: Duration) {
        for _ in 0..count {
            let (permits, app) = (permits.clone(), app.clone());
            tokio::spawn(async move {
                let _permit = permits.acquire(&app, pace).await;
                sleep(took).await;
            });
        }
    }

    /// Returns how long a request of an app waits.
    async fn wait(permits: &Permits, app: &AppId) -> Duration {
        let began = Instant::now();
        drop(permits.acquire(app, Pace::Quick).await);
        began.elapsed()
    }

    fn in_use(permits: &Permits, app: &AppId) -> usize {
        let room = permits.0.lock();
        room.by_app.get(app).map_or(0, |share| share.in_use.all)
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_whose_receivers_are_slow_keeps_no_other_waiting() {
        let permits = Permits::new(256);
        send(&permits, &app(1), Pace::Quick, 2000, LATE);
        for _ in 0..100 {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(wait(&permits, &app(2)).await, Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn receivers_that_struggle_keep_none_of_their_own_app_waiting() {
        let permits = Permits::new(256);
        send(&permits, &app(1), Pace::Struggling, 2000, LATE);
        for _ in 0..100 {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(in_use(&permits, &app(1)), 96);
            assert_eq!(wait(&permits, &app(1)).await, Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn apps_that_want_more_than_there_is_get_the_same() {
        let permits = Permits::new(16);
        send(&permits, &app(1), Pace::Quick, 1000, SOON);
        sleep(SOON / 2).await;
        assert_eq!(in_use(&permits, &app(1)), 12);
        send(&permits, &app(2), Pace::Quick, 1000, SOON);
        send(&permits, &app(3), Pace::Quick, 2, SOON);
        sleep(SOON).await;
        let shares = [1, 2, 3].map(|number| in_use(&permits, &app(number)));
        assert_eq!(shares.iter().sum::<usize>(), 16, "nothing is left unused");
        assert!(shares[0] <= 8 && shares[1] >= 6, "{shares:?}");
        sleep(SOON * 10).await;
        assert_eq!([1, 2].map(|number| in_use(&permits, &app(number))), [8, 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_turns_out_late_counts_among_those_that_struggle() {
        let (permits, one) = (Permits::new(8), app(1));
        let mut held = Vec::new();
        for _ in 0..3 {
            let permit = permits.acquire(&one, Pace::Quick).await;
            held.push(permit.expect("room"));
        }
        held.iter_mut().for_each(Permit::note_late);
        let late = permits.acquire(&one, Pace::Struggling);
        assert!(timeout(LATE, late).await.is_err());
        assert_eq!(wait(&permits, &one).await, Duration::ZERO);
        held.clear();
        assert!(permits.acquire(&one, Pace::Struggling).await.is_some());
        let room = permits.0.lock();
        assert!(room.by_app.is_empty() && room.in_use.all == 0 && room.in_use.struggling == 0);
    }
}
