//! Waits for changes by other processes.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::database::Store;
use crate::dialect::Pool;

/// Channel that the trigger on `installation` notifies; see the migrations.
const CHANNEL: &str = "fanfare_changes";
/// How often to look if the database can't notify.
const INTERVAL: Duration = Duration::from_millis(400);

/// Tells when to call [`Store::changes_since`]. Postgres notifies of changes. SQLite can't, and neither can Postgres
/// through a connection pooler in transaction mode, so these are polled.
#[derive(Debug)]
pub struct Watch {
    pool: Option<PgPool>,
    /// `None` while there is no connection that listens.
    listener: Option<PgListener>,
}

impl Store {
    /// Returns a watch, which listens from the first call of [`Watch::changed`] on.
    #[must_use]
    pub fn watch(&self) -> Watch {
        let pool = match &self.db.pool {
            Pool::Sqlite(_) => None,
            Pool::Postgres(postgres) => postgres.listening_pool(),
        };
        Watch {
            pool,
            listener: None,
        }
    }
}

impl Watch {
    /// Waits until something may have changed, for `at_most`, or for 400 ms if the database can't notify.
    pub async fn changed(&mut self, at_most: Duration) {
        let Some(pool) = &self.pool else {
            return sleep(at_most.min(INTERVAL)).await;
        };
        let soon = Instant::now() + at_most.min(INTERVAL);
        let Some(listener) = &mut self.listener else {
            match timeout_at(soon, listen(pool)).await {
                // Something may have changed before it listened, so the caller looks now.
                Ok(Ok(listener)) => self.listener = Some(listener),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "cannot listen for changes of the store yet");
                    sleep_until(soon).await;
                }
                Err(_) => {}
            }
            return;
        };
        match timeout(at_most, listener.try_recv()).await {
            Err(_) | Ok(Ok(Some(_))) => {}
            Ok(lost) => {
                tracing::debug!(error = ?lost.err(), "no longer listening for changes of the store");
                self.listener = None;
                sleep_until(soon).await;
            }
        }
    }
}

async fn listen(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}
