//! Starts what counts usage, looks for alerts and keeps quotas, and stops it after the last request.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::Engine;
use fanfare_store::Store;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::alerts::{CertificateReadings, NodeReadings};
use crate::app_state::AppState;
use crate::config::Config;
use crate::quotas::Keeper;
use crate::usage::Usage;

/// What counts usage and keeps quotas.
pub(super) struct Metering {
    usage: Usage,
    /// Ends the task when it is dropped.
    stop_keeper: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

impl Metering {
    /// Starts the tasks.
    pub(super) fn start(config: &Config, state: &AppState, store: &Store) -> Self {
        let (usage, engine) = (state.usage.clone(), &state.engine);
        let flush_period = Duration::from_secs(config.usage.flush_period);
        let counted = usage
            .clone()
            .count(Arc::clone(engine), state.alerts.clone(), flush_period);
        tokio::spawn(counted);
        tokio::spawn(usage.clone().write(store.clone()));
        let alerts = state.alerts.clone();
        let (open, max) = (state.clone(), config.connections.max);
        let others = move || NodeReadings {
            bounds: vec![
                ("connections", open.engine.connections(), max),
                ("sockets", open.sockets.open(), open.sockets.max()),
            ],
            certificates: open
                .tls
                .as_ref()
                .map_or_else(CertificateReadings::default, |tls| {
                    CertificateReadings::take(&tls.certificates)
                }),
        };
        tokio::spawn(alerts.run(
            Arc::clone(engine),
            store.clone(),
            state.sync.clone(),
            state.quota_ratios.clone(),
            state.webhooks.clone(),
            others,
        ));
        let keeper = Keeper::new(
            store.clone(),
            Arc::clone(engine),
            state.quotas.clone(),
            state.quota_ratios.clone(),
        );
        let (stop_keeper, stopped) = oneshot::channel();
        let keeper = tokio::spawn(keeper.run(async {
            // Nothing is ever sent: the other half is dropped.
            let _ = stopped.await;
        }));
        Self {
            usage,
            stop_keeper,
            keeper,
        }
    }

    /// Writes the last usage and gives back shares of quotas.
    pub(super) async fn finish(self, engine: &Engine, store: &Store) {
        self.usage.finish(engine, store).await;
        drop(self.stop_keeper);
        // An error means that the task has panicked, and has nothing to give back.
        let _ = self.keeper.await;
    }
}
