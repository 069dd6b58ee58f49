//! Stop signals, and what a stopping node does with connections and requests.

use std::time::Duration;

use anyhow::Context;
use fanfare_engine::Engine;
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::edge::listener::Shutdown;

/// How long requests may take to finish after the last connection was closed, including those that come last.
const REQUEST_GRACE: Duration = Duration::from_secs(5);
/// How long clients may take to answer the close frame, beyond the drain period.
const CLOSE_GRACE: Duration = Duration::from_secs(6);
/// The same on a node that isn't in a cluster: clients that are gone would keep all others waiting for the next
/// process.
const CLOSE_GRACE_ALONE: Duration = Duration::from_secs(1);
/// Connections that a node outside a cluster closes each second when it stops. Its clients have no other node, so each
/// is offline until the next process serves; that process accepts three times as many a second.
const CLOSED_PER_SECOND_ALONE: u64 = 5_000;
/// Longest drain if attempts wait in the queue of an inherited socket. Stock clients give up after 15 seconds.
const MAX_DRAIN_WITH_QUEUE: Duration = Duration::from_secs(2);
/// How long attempts are answered after the last connection was closed. Clients closed with 4200 come back by then, are
/// told to come back after a second, and find the next process.
const LAST_ATTEMPTS: Duration = Duration::from_millis(500);
/// How long the answers to the clients accepted last may take after the port is closed.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// The signals that tell a node to stop.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    upgrade: Signal,
}

/// What a node is told by a signal.
pub(super) enum Told {
    /// To stop. The signal's name is for the log.
    Stop(&'static str),
    /// To become the program that is installed now.
    Upgrade,
}

impl StopSignals {
    pub(super) fn watch() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("watching for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("watching for SIGINT")?,
            upgrade: signal(SignalKind::user_defined2()).context("watching for SIGUSR2")?,
        })
    }

    /// Waits until the node is told something.
    pub(super) async fn next_or_upgrade(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.upgrade.recv() => Told::Upgrade,
        }
    }

    /// Waits for the next signal that says to stop, and returns its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Returns whether the node was told to stop since it was last asked.
    pub(super) fn has_next(&mut self) -> bool {
        self.next().now_or_never().is_some()
    }
}

/// How a drain went.
#[derive(Debug)]
pub(super) enum Drained {
    AsPlanned,
    /// The node was told to stop meanwhile.
    Hurried,
}

/// How a stopping node closes its connections.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DrainPlan {
    /// Time over which connections are closed.
    period: Duration,
    /// How long clients may take to answer the close frame, beyond the period.
    close_grace: Duration,
    /// How long connection attempts are answered after that.
    last_attempts: Duration,
}

impl DrainPlan {
    /// Plans a drain. Clients of a node in a cluster move over `drain.period`. Clients of a single node are offline
    /// until the next process serves, so they are closed as fast as that process can accept them.
    pub(super) fn new(config: &Config, connections: usize, alone: bool, inherited: bool) -> Self {
        let most = Duration::from_secs(config.drain.period);
        let needed = connections as u64 * 1_000 / CLOSED_PER_SECOND_ALONE;
        let needed = Duration::from_millis(needed);
        let period = match (alone, inherited) {
            (false, _) => most,
            (true, false) => needed.min(most),
            (true, true) => needed.min(most).min(MAX_DRAIN_WITH_QUEUE),
        };
        // Attempts in an inherited queue are left to the next process, and a node without connections has no clients to
        // answer.
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

/// Closes all connections as planned. A second signal closes them at once.
pub(super) async fn drain(
    engine: &Engine,
    plan: &DrainPlan,
    signal: &str,
    signals: &mut StopSignals,
) -> Drained {
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
            Drained::AsPlanned
        }
        _ = signals.next() => {
            tracing::warn!(connections = engine.connections(), "told again to stop: cutting off");
            // Each client still gets a close frame, but its answer isn't awaited.
            let _ = timeout(LAST_ANSWERS, engine.drain(Duration::ZERO)).await;
            Drained::Hurried
        }
    }
}

/// Lets current requests finish. Connections that come meanwhile are still answered.
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
    // A client that has sent no request by then gets no answer.
    let _ = timeout(LAST_ANSWERS, answered).await;
}
