//! Signals to stop, and what a stopping node does with connections and requests.

use std::time::Duration;

use anyhow::Context;
use fanfare_engine::Engine;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::edge::listener::Shutdown;

/// How long requests under way may take to finish after the last connection was closed, those that came last included.
const REQUEST_GRACE: Duration = Duration::from_secs(5);
/// How long clients may take to answer the close frame, beyond the drain period.
const CLOSE_GRACE: Duration = Duration::from_secs(6);
/// The same on a node without others: clients that are gone would keep all others waiting for the next process.
const CLOSE_GRACE_ALONE: Duration = Duration::from_secs(1);
/// Connections a second that a node without others closes when it stops. Its clients have nowhere else to go, so each is
/// away until the end of the drain; the next process takes three times as many a second.
const CLOSED_PER_SECOND_ALONE: u64 = 5_000;
/// Longest drain where attempts wait in the queue of an inherited socket: stock clients give up after 15 s.
const MAX_DRAIN_WITH_QUEUE: Duration = Duration::from_secs(2);
/// How long attempts are answered after the last connection was closed. Clients closed with 4200 are back by then, are
/// told to come back after a second, and find the next process.
const LAST_ATTEMPTS: Duration = Duration::from_millis(500);
/// How long clients that were accepted last may take to be answered, after the port is closed.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// The signals that tell a node to stop.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(super) fn watch() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("watching for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("watching for SIGINT")?,
        })
    }

    /// Waits for the next one and returns its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// How a stopping node closes its connections.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DrainPlan {
    /// Over which they are closed.
    period: Duration,
    /// How long clients may take to answer the close frame, beyond the period.
    close_grace: Duration,
    /// How long attempts are answered after that.
    last_attempts: Duration,
}

impl DrainPlan {
    /// Clients of a node among others move over `drain.period`. Those of a node without others are away until the next
    /// process serves, so they are closed as fast as that process can take them back.
    pub(super) fn new(config: &Config, connections: usize, alone: bool, inherited: bool) -> Self {
        let most = Duration::from_secs(config.drain.period);
        let needed = connections as u64 * 1_000 / CLOSED_PER_SECOND_ALONE;
        let needed = Duration::from_millis(needed);
        let period = match (alone, inherited) {
            (false, _) => most,
            (true, false) => needed.min(most),
            (true, true) => needed.min(most).min(MAX_DRAIN_WITH_QUEUE),
        };
        // Attempts that wait in a queue, and clients that were never here, need no answer.
        let answers = connections > 0 && !(alone && inherited);
        Self {
            period,
            close_grace: if alone {
                CLOSE_GRACE_ALONE
            } else {
                CLOSE_GRACE
            },
            last_attempts: if answers {
                LAST_ATTEMPTS
            } else {
                Duration::ZERO
            },
        }
    }
}

/// Closes all connections as planned; a second signal closes them at once.
pub(super) async fn drain(
    engine: &Engine,
    plan: &DrainPlan,
    signal: &str,
    signals: &mut StopSignals,
) {
    let connections = engine.connections();
    tracing::info!(
        signal,
        connections,
        period_seconds = plan.period.as_secs_f32(),
        "stopping: closing connections"
    );
    let as_planned = async {
        engine.drain(plan.period).await;
        sleep(plan.last_attempts).await;
    };
    tokio::select! {
        planned = timeout(plan.period + plan.close_grace, as_planned) => {
            if planned.is_err() && engine.connections() > 0 {
                tracing::warn!(
                    connections = engine.connections(),
                    "some clients did not answer and are cut off"
                );
            }
        }
        _ = signals.next() => {
            tracing::warn!(connections = engine.connections(), "told again to stop: cutting off");
            // Each client is still told why, but nobody waits for its answer.
            let _ = timeout(LAST_ANSWERS, engine.drain(Duration::ZERO)).await;
        }
    }
}

/// Lets requests under way finish; connections that come meanwhile are still answered.
pub(super) async fn finish_requests(shutdown: &Shutdown) {
    shutdown.finish.cancel();
    shutdown.connections.close();
    let grace = REQUEST_GRACE.saturating_sub(LAST_ANSWERS);
    if timeout(grace, shutdown.connections.wait()).await.is_err() {
        tracing::warn!("some requests were still under way and are cut off");
    }
}

/// Closes the listening sockets, and answers the connections that were accepted until then.
pub(super) async fn answer_last(shutdown: &Shutdown, listeners: &TaskTracker) {
    shutdown.stop_accepting.cancel();
    listeners.wait().await;
    shutdown.late.close();
    shutdown.upgrades.close();
    let answered = async {
        shutdown.late.wait().await;
        shutdown.upgrades.wait().await;
    };
    // Whoever has sent no request by then gets no answer.
    let _ = timeout(LAST_ANSWERS, answered).await;
}
