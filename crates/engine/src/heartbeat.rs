//! Liveness (docs/protocol.md#liveness): one sweep over a shard's connections instead of a timer for each.

use std::rc::Rc;
use std::time::Duration;

use fanfare_protocol::CloseCode;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::error::Refusal;
use crate::shard::Shard;

/// How often each connection is looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Slots of connections that are looked at in one go. Events wait meanwhile, so a sweep over more is spread over the
/// interval.
const SLOTS_AT_ONCE: usize = 256;
/// Most parts of a sweep: more would come faster than a timer fires.
const MAX_PARTS: usize = 100;
/// Number of sweeps that look at the users of each connection once, together. Fewer than a minute has, so that a user who
/// stays counts in each minute.
const USER_SWEEPS: usize = 30;
/// How long a connection may take to authorize itself, if the app requires that
/// (docs/protocol.md#admission).
const AUTHORIZE_TIMEOUT: Duration = Duration::from_secs(30);

impl Shard {
    /// Sends a PING to silent connections, closes those that stay silent, and gives up on closed
    /// ones whose time has run out; forever.
    pub(crate) async fn heartbeat(self: Rc<Self>) {
        let mut sweeps = interval(SWEEP_INTERVAL);
        // A late sweep doesn't make the next ones come at once.
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        loop {
            let began = sweeps.tick().await;
            let slots = self.state().connections.capacity();
            let parts = slots.div_ceil(SLOTS_AT_ONCE).clamp(1, MAX_PARTS);
            for part in 0..parts {
                if part > 0 {
                    sleep_until(began + SWEEP_INTERVAL * part as u32 / parts as u32).await;
                }
                self.sweep(Instant::now(), part, parts);
            }
            self.tidy(Instant::now());
            number = (number + 1) % USER_SWEEPS;
            self.note_users(number);
        }
    }

    /// Counts the users of every [`USER_SWEEPS`]th connection for usage.
    fn note_users(&self, sweep: usize) {
        let key = self.engine.options().user_hash_key;
        let state = &mut *self.state();
        for slot in (sweep..state.connections.capacity()).step_by(USER_SWEEPS) {
            let Some(connection) = state.connections.get(slot) else {
                continue;
            };
            let signed_in = connection.user.iter().map(|user| &user.member.user_id);
            let subscriptions = connection.subscriptions.values();
            let members = subscriptions.filter_map(|subscription| subscription.member.as_ref());
            for user in signed_in.chain(members.map(|(user, _)| user)) {
                state
                    .stats
                    .note_user(connection.app_slot, key, user.as_str());
            }
        }
    }

    /// Closes those who hold most where too much waits, and frees what was not needed lately.
    fn tidy(&self, now: Instant) {
        let mut state = self.state();
        state.relieve(now);
        state.trim();
        self.trim_inbox();
    }

    /// Looks at every `parts`th connection, from slot `part` on.
    fn sweep(&self, now: Instant, part: usize, parts: usize) {
        let options = self.engine.options();
        let ping_after = options.activity_timeout;
        let close_after = ping_after + options.pong_timeout;
        let mut state = self.state();
        let state = &mut *state;
        let buffers = &mut state.outgoing.buffers;
        for slot in (part..state.connections.capacity()).step_by(parts) {
            let Some(connection) = state.connections.get_mut(slot) else {
                continue;
            };
            connection.expire(now, buffers);
            connection.rest();
            let age = now.saturating_duration_since(connection.connected);
            if !connection.authorized
                && age >= AUTHORIZE_TIMEOUT
                && connection.app.settings().authorized_connections
            {
                let refusal = Refusal::new(
                    CloseCode::Unauthorized,
                    "Connection not authorized within timeout",
                );
                connection.close(&refusal, true, now, buffers);
            }
            if connection.stalled_for(now) >= options.pong_timeout {
                let refusal = Refusal::new(
                    CloseCode::PongTimeout,
                    "Nothing of what was sent to you was read in time",
                );
                connection.evict(&refusal, now, buffers);
            }
            let silent = now.saturating_duration_since(connection.last_activity);
            if connection.framing().is_one_way() {
                // Its client can't answer. A dead one shows by what it no longer takes.
                if silent >= ping_after {
                    connection.last_activity = now;
                    connection.ping(buffers);
                }
            } else if silent >= close_after {
                let refusal =
                    Refusal::new(CloseCode::PongTimeout, "Pong reply not received in time");
                connection.close(&refusal, true, now, buffers);
            } else if silent >= ping_after && !connection.pinged {
                connection.pinged = true;
                connection.round_trip.note_ping(age);
                connection.ping(buffers);
            }
        }
    }
}
