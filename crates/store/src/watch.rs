//! Waiting for changes that others make.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::database::Store;
use crate::dialect::Pool;

/// What the trigger on `installation` notifies; see the migrations.
const CHANNEL: &str = "fanfare_changes";
/// How often one should look where nobody says that something has changed.
const INTERVAL: Duration = Duration::from_millis(400);

/// Tells when it is worth asking [`Store::changes_since`]. Postgres says when something has changed. SQLite cannot, nor can
/// Postgres through a connection pooler in transaction mode; these are asked in short intervals.
#[derive(Debug)]
pub struct Watch {
    pool: Option<PgPool>,
    /// None while the connection that listens is not there.
    listener: Option<PgListener>,
}

impl Store {
    /// Watches for changes, from the first call of [`Watch::changed`].
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
    /// Returns when something may have changed, after `at_most` in any case; or after 400 ms where nobody says that
    /// something has changed.
    pub async fn changed(&mut self, at_most: Duration) {
        let Some(pool) = &self.pool else {
            return sleep(at_most.min(INTERVAL)).await;
        };
        let soon = Instant::now() + at_most.min(INTERVAL);
        let Some(listener) = &mut self.listener else {
            match timeout_at(soon, listen(pool)).await {
                // Something may have changed before.
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
