//! Liveness (spec 1.5): one sweep over a shard's connections instead of a timer for each.

use std::rc::Rc;
use std::time::Duration;

use fanfare_protocol::{CloseCode, Frame};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::error::Refusal;
use crate::shard::Shard;

const SWEEP: Duration = Duration::from_secs(1);
/// Time for a connection to authorize itself, where the app wants that (spec 1.8).
const AUTHORIZE_WITHIN: Duration = Duration::from_secs(30);

impl Shard {
    /// Pings the silent, closes those that stay so, gives up on closed ones whose time is over; for ever.
    pub(crate) async fn heartbeat(self: Rc<Self>) {
        let mut sweeps = interval(SWEEP);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            sweeps.tick().await;
            self.sweep(Instant::now());
            if self.index == 0 {
                // Once for the node.
                self.engine.deliverer().tell_due_counts(Instant::now());
            }
        }
    }

    fn sweep(&self, now: Instant) {
        let (ping_after, close_after) = {
            let options = self.engine.options();
            (
                options.activity_timeout,
                options.activity_timeout + options.pong_timeout,
            )
        };
        let mut state = self.state();
        let state = &mut *state;
        for (_, connection) in &mut state.connections {
            connection.expire(now);
            let age = now.saturating_duration_since(connection.connected);
            if !connection.authorized
                && age >= AUTHORIZE_WITHIN
                && connection.app.settings().authorized_connections
            {
                let refusal = Refusal::new(
                    CloseCode::Unauthorized,
                    "Connection not authorized within timeout",
                );
                connection.close(&refusal, true, now, &mut state.outgoing.spare);
            }
            let silent = now.saturating_duration_since(connection.heard);
            if silent >= close_after {
                let refusal =
                    Refusal::new(CloseCode::PongTimeout, "Pong reply not received in time");
                connection.close(&refusal, true, now, &mut state.outgoing.spare);
            } else if silent >= ping_after && !connection.pinged {
                connection.pinged = true;
                connection.push(&Frame::ping(), &mut state.outgoing.spare);
                connection.flush(&mut state.outgoing.spare);
            }
        }
    }
}
