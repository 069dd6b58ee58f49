//! Keeps idle connections open: proxies close a connection on which nothing crosses for a while,
//! many after 60 s, some after 30 s.

use std::rc::Rc;
use std::time::Duration;

use fanfare_protocol::{Frame, Framing};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::outbox::{Origin, SharedFrame};
use crate::shard::{Shard, State};

/// How often some of the connections get their PING. Events wait while those are written, so there are few at a time.
const PING_TICK: Duration = Duration::from_millis(25);

impl Shard {
    /// Sends every connection a PING once in each `period`, forever.
    ///
    /// The PING crosses a proxy in one direction and the PONG in the other, and proxies watch
    /// either or both. Other traffic doesn't spare a connection its PING: one that only sends, or
    /// only receives, is idle in the other direction, and one PING in 25 s is nothing beside the
    /// traffic of a busy one. Connections take turns by their slots, so those that connected at the
    /// same moment get their PINGs spread over the period.
    pub(crate) async fn keep_alive(self: Rc<Self>, period: Duration) {
        let turns = (period.as_millis() / PING_TICK.as_millis()).max(1) as u64;
        let stride = stride(turns);
        let ping = Frame::ping();
        let start = Instant::now();
        let mut done = 0;
        let mut ticks = interval(PING_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let due = (start.elapsed().as_millis() / PING_TICK.as_millis()) as u64;
            // Missed turns are made up for, but no connection gets two PINGs for that.
            for turn in done.max(due.saturating_sub(turns))..due {
                self.state().send_every(&ping, turns, turn * stride % turns);
            }
            done = due;
        }
    }
}

/// Returns by how many slots one turn is apart from the one before it. Every slot has its turn, and any number of slots
/// that follow each other, such as those of a few connections, have theirs spread over the whole period.
fn stride(turns: u64) -> u64 {
    // The golden ratio leaves the smallest gaps.
    let golden = turns * 618 / 1000;
    let comes_round = |stride: &u64| greatest_common_divisor(*stride, turns) == 1;
    (golden.max(1)..=turns).find(comes_round).unwrap_or(1)
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        b => greatest_common_divisor(b, a % b),
    }
}

impl State {
    /// Sends a frame to the connections in every `step`th slot from `first` on.
    fn send_every(&mut self, frame: &Frame, step: u64, first: u64) {
        let (frame, now) = (SharedFrame::new(frame), Instant::now());
        let buffers = &mut self.outgoing.buffers;
        let slots = first as usize..self.connections.capacity();
        for slot in slots.step_by(step as usize) {
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            // A blocked connection has bytes that wait already. The HTTP fallbacks and Socket.IO have a
            // heartbeat of their own.
            if connection.is_open()
                && !connection.is_blocked()
                && !matches!(connection.framing(), Framing::SockJs | Framing::SocketIo)
            {
                if !connection.framing().is_one_way() {
                    let age = now.saturating_duration_since(connection.connected);
                    connection.round_trip.note_ping(age);
                }
                connection.push(&frame, Origin::Answer, buffers);
                connection.flush(buffers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_its_turn_and_neighbours_have_theirs_far_apart() {
        for turns in [1, 2, 3, 10, 40, 617, 618, 1000, 1200, 4096] {
            let stride = stride(turns);
            let mut slots: Vec<_> = (0..turns).map(|turn| turn * stride % turns).collect();
            // Of the first tenth of all slots, each tenth of the period has its part.
            if turns >= 1000 {
                for part in slots.chunks_exact(turns as usize / 10) {
                    let few = part.iter().filter(|slot| **slot < turns / 10).count() as u64;
                    let even = turns / 100;
                    assert!(few.abs_diff(even) <= 3, "{few} of {turns}");
                }
            }
            slots.sort_unstable();
            assert!(slots.into_iter().eq(0..turns), "{turns} turns");
        }
    }
}
