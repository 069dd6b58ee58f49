//! Keeps the engine's apps as the store has them: whatever process changed them, it is in force here within a second.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{AppDefinition, Engine, Key};
use fanfare_protocol::signature::SigningKey;
use fanfare_protocol::{AppId, AppKey};
use fanfare_store::{AppRecord, KeyRecord, Store, StoreError};
use secrecy::ExposeSecret;
use tokio::time::sleep;

/// How often the store is asked for changes.
const INTERVAL: Duration = Duration::from_millis(400);
/// How often it is asked while it does not answer.
const INTERVAL_WHILE_DOWN: Duration = Duration::from_secs(2);

/// The engine's view of the store.
#[derive(Debug)]
pub(crate) struct AppSync {
    store: Store,
    engine: Arc<Engine>,
    revision: i64,
}

impl AppSync {
    pub(crate) fn new(store: Store, engine: Arc<Engine>) -> Self {
        Self {
            store,
            engine,
            revision: 0,
        }
    }

    /// Takes what is new.
    pub(crate) async fn refresh(&mut self) -> Result<(), StoreError> {
        let changes = self.store.changes_since(self.revision).await?;
        if !changes.apps.is_empty() {
            let definitions = changes
                .apps
                .into_iter()
                .filter_map(|(app, keys)| definition(app, keys))
                .collect();
            self.engine.update_apps(definitions, &[]);
        }
        self.revision = changes.revision;
        Ok(())
    }

    /// Takes what is new, for ever. While the store is away, the apps stay as they were last known.
    pub(crate) async fn run(mut self) {
        let mut down = false;
        loop {
            sleep(if down { INTERVAL_WHILE_DOWN } else { INTERVAL }).await;
            match self.refresh().await {
                Ok(()) if down => {
                    tracing::info!(
                        "the store answers again; changes of apps and keys are taken up"
                    );
                    down = false;
                }
                Ok(()) => {}
                Err(error) if !down => {
                    tracing::error!(%error, "the store does not answer: apps and keys stay as they are until it does");
                    down = true;
                }
                Err(error) => tracing::debug!(%error, "the store still does not answer"),
            }
        }
    }
}

/// What the store holds passed our checks when it was written; what somebody wrote past us is left out.
fn definition(app: AppRecord, keys: Vec<KeyRecord>) -> Option<AppDefinition> {
    let Ok(id) = AppId::parse(&app.id) else {
        tracing::error!(app = app.id, "this app is left out: its id is not possible");
        return None;
    };
    let key = |record: KeyRecord| {
        let key = AppKey::parse(&record.key).ok()?;
        Some(Key {
            key,
            signing: SigningKey::new(record.secret.expose_secret()),
        })
    };
    Some(AppDefinition {
        id,
        settings: app.settings,
        keys: keys.into_iter().filter_map(key).collect(),
    })
}
