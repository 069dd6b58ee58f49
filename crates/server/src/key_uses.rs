//! Records when and from where keys were last used, so that an operator sees whether a key that is to be revoked is
//! still in use.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::Engine;
use fanfare_store::{KeyUse, Store, StoreError};
use tokio::time::{sleep, timeout};

use crate::clock::unix_millis;

/// Resolution of the times.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long the store may take, at the end of the process too.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// Records key uses every [`INTERVAL`]. Never returns.
pub(crate) async fn run(store: Store, engine: Arc<Engine>) {
    loop {
        sleep(INTERVAL).await;
        write_down(&store, &engine).await;
    }
}

/// Records the uses since the last call. A failure is logged and those uses are lost.
pub(crate) async fn write_down(store: &Store, engine: &Engine) {
    let at = unix_millis();
    let uses = engine.apps().take_key_uses().into_iter();
    let uses: Vec<_> = uses
        .map(|(key, from)| KeyUse {
            key: key.to_string(),
            at,
            from: from.map(|address| address.to_string()),
        })
        .collect();
    let noted = timeout(WRITE_TIMEOUT, store.note_key_uses(&uses)).await;
    if let Err(error) = noted.unwrap_or(Err(StoreError::Late)) {
        tracing::debug!(%error, keys = uses.len(), "the last uses of some keys are not written down");
    }
}
