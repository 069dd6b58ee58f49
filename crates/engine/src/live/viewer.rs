//! One viewer of an app's live events: what waits for it, and what was left out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::filter::LiveFilter;
use super::line::LiveLine;

/// Most lines, and most bytes of lines, that wait for a viewer.
const MAX_LINES: usize = 400;
const MAX_BYTES: usize = 512 << 10;
/// A viewer that got nothing for so long gets as many lines at once as its rate allows in that time.
const SECOND: Duration = Duration::from_secs(1);

/// A viewer, on this node or on another one.
#[derive(Debug)]
pub(crate) struct Viewer {
    /// A random number, by which nodes name it.
    pub(super) id: u64,
    /// The name of the viewer's node, if it is another one.
    pub(super) remote: Option<String>,
    /// Who watches, if on this node.
    pub(super) caller: Option<String>,
    pub(super) filter: LiveFilter,
    /// Time between two lines at its rate.
    interval: Duration,
    state: Mutex<ViewerState>,
    wake: Notify,
}

#[derive(Debug)]
struct ViewerState {
    waiting: Waiting,
    bytes: usize,
    /// When the next line is within the rate; the viewer saves up a second's lines at most.
    allowed_at: Option<Instant>,
    /// What other nodes had kept before the viewer came, and how many have sent that; of another
    /// node's viewer what this node had kept. `None` once it was taken.
    recent: Option<(Vec<Arc<LiveLine>>, usize)>,
    /// Until when another node's viewer counts as watching.
    leased_until: Option<Instant>,
}

/// What waits for a viewer.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The lines, oldest first.
    pub lines: VecDeque<Arc<LiveLine>>,
    /// How many other lines matched and were left out.
    pub more: u64,
}

impl Waiting {
    /// Returns whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.more == 0
    }
}

impl Viewer {
    pub(super) fn new(
        id: u64,
        filter: LiveFilter,
        rate: u32,
        remote: Option<(String, Instant)>,
    ) -> Self {
        let (remote, leased_until) = remote.unzip();
        Self {
            id,
            remote,
            caller: None,
            filter,
            interval: SECOND / rate.max(1),
            state: Mutex::new(ViewerState {
                waiting: Waiting::default(),
                bytes: 0,
                allowed_at: None,
                recent: Some((Vec::new(), 0)),
                leased_until,
            }),
            wake: Notify::new(),
        }
    }

    /// Returns the viewer as one of a caller on this node.
    pub(super) fn of_caller(self, caller: &str) -> Self {
        Self {
            caller: Some(caller.to_owned()),
            ..self
        }
    }

    /// Queues a line that matches, or counts it as left out: over the rate, or if the viewer
    /// doesn't read. Only a line that is queued is made. Returns whether it was queued.
    pub(super) fn offer(&self, now: Instant, line: impl FnOnce() -> Arc<LiveLine>) -> bool {
        let mut state = self.state.lock();
        let was_empty = state.waiting.is_empty();
        let is_queued = state.waiting.lines.len() < MAX_LINES
            && state.bytes < MAX_BYTES
            && state.is_within(self.interval, now);
        if is_queued {
            let line = line();
            state.bytes += line.bytes();
            state.waiting.lines.push_back(line);
        } else {
            state.waiting.more += 1;
        }
        drop(state);
        if was_empty {
            self.wake.notify_one();
        }
        is_queued
    }

    /// Counts lines that another node left out, or that didn't arrive.
    pub(super) fn add_more(&self, count: u64) {
        self.state.lock().waiting.more += count;
        self.wake.notify_one();
    }

    /// Takes what waits, lines of at most `max_bytes`.
    pub(crate) fn take(&self, max_bytes: usize) -> Waiting {
        let mut state = self.state.lock();
        let more = std::mem::take(&mut state.waiting.more);
        if state.bytes <= max_bytes {
            state.bytes = 0;
            let lines = std::mem::take(&mut state.waiting.lines);
            return Waiting { lines, more };
        }
        let (mut lines, mut taken) = (VecDeque::new(), 0);
        while taken < max_bytes
            && let Some(line) = state.waiting.lines.pop_front()
        {
            taken += line.bytes();
            lines.push_back(line);
        }
        state.bytes = state.bytes.saturating_sub(taken);
        Waiting { lines, more }
    }

    /// Waits until something may wait.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Adds what a node had kept before the viewer came.
    pub(super) fn add_recent(&self, lines: Vec<Arc<LiveLine>>) {
        let mut state = self.state.lock();
        if let Some((recent, nodes)) = &mut state.recent {
            recent.extend(lines);
            *nodes += 1;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Returns how many nodes have sent what they had kept.
    pub(crate) fn nodes_with_recent(&self) -> usize {
        let state = self.state.lock();
        state.recent.as_ref().map_or(0, |(_, nodes)| *nodes)
    }

    /// Takes what was kept before the viewer came; what comes later is dropped. Returns `None` if
    /// it was taken before.
    pub(crate) fn take_recent(&self) -> Option<Vec<Arc<LiveLine>>> {
        let recent = self.state.lock().recent.take();
        recent.map(|(lines, _)| lines)
    }

    /// Sets until when another node's viewer counts as watching.
    pub(super) fn lease(&self, until: Instant) {
        self.state.lock().leased_until = Some(until);
    }

    /// Returns whether another node has stopped asking for this viewer.
    pub(super) fn has_expired(&self, now: Instant) -> bool {
        let state = self.state.lock();
        state.leased_until.is_some_and(|until| until <= now)
    }
}

impl ViewerState {
    /// Counts a line if the rate allows it, and returns whether it does.
    fn is_within(&mut self, interval: Duration, now: Instant) -> bool {
        let allowed_at = self.allowed_at.filter(|at| *at > now).unwrap_or(now);
        let next = allowed_at + interval;
        let is_within = next <= now + SECOND;
        if is_within {
            self.allowed_at = Some(next);
        }
        is_within
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{LiveEvent, LiveKind};
    use super::super::filter::LiveQuery;
    use super::*;
    use crate::testing::run_paused;

    fn viewer(rate: u32) -> Viewer {
        let filter = LiveQuery::default().compile().expect("a query");
        Viewer::new(1, filter, rate, None)
    }

    fn offer(viewer: &Viewer, bytes: usize) {
        let data = "x".repeat(bytes);
        let event = LiveEvent {
            data: Some(&data),
            ..LiveEvent::new(LiveKind::Publish)
        };
        viewer.offer(Instant::now(), || {
            Arc::new(LiveLine::new("node".into(), 1, 1, &event))
        });
    }

    #[test]
    fn a_viewer_gets_its_rate_and_the_number_of_all_others() {
        run_paused(async {
            let viewer = viewer(50);
            for _ in 0..1000 {
                offer(&viewer, 10);
            }
            let waiting = viewer.take(usize::MAX);
            assert_eq!((waiting.lines.len(), waiting.more), (50, 950));
            let mut lines = 0;
            for _ in 0..100 {
                tokio::time::advance(Duration::from_millis(100)).await;
                for _ in 0..100 {
                    offer(&viewer, 10);
                }
                lines += viewer.take(usize::MAX).lines.len();
            }
            assert_eq!(lines, 500, "50 a second in ten seconds");
        });
    }

    #[test]
    fn a_viewer_that_does_not_read_costs_a_bounded_queue() {
        run_paused(async {
            let viewer = viewer(1_000_000);
            for _ in 0..1000 {
                offer(&viewer, 4096);
            }
            let waiting = viewer.take(usize::MAX);
            let bytes: usize = waiting.lines.iter().map(|line| line.bytes()).sum();
            assert!(bytes < MAX_BYTES + 8192, "{bytes}");
            assert_eq!(waiting.lines.len() as u64 + waiting.more, 1000);
            assert!(viewer.take(usize::MAX).is_empty());
        });
    }

    #[test]
    fn what_waits_is_taken_part_by_part() {
        run_paused(async {
            let viewer = viewer(1000);
            for _ in 0..10 {
                offer(&viewer, 1000);
            }
            let first = viewer.take(3000);
            assert_eq!(first.lines.len(), 3);
            assert_eq!(viewer.take(usize::MAX).lines.len(), 7);
        });
    }
}
