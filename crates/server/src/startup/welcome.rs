//! Prints the demo app and its self-check at the start, or warns that the demo app still exists.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::Engine;
use fanfare_store::{Store, StoreError};
use tokio::time::{sleep, timeout};

use crate::config::{Config, reachable};
use crate::demo::Demo;

/// How long a starting node waits for the other nodes before its self-check.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it looks whether they are there.
const JOIN_TICK: Duration = Duration::from_millis(50);

/// Checks the demo app and prints how to use it.
pub(super) async fn welcome(
    engine: Arc<Engine>,
    demo: Arc<Demo>,
    listen: SocketAddr,
    config: Config,
) {
    wait_for_others(&engine).await;
    let checked = demo.check(reachable(listen), &config.client_prefix()).await;
    if let Err(error) = &checked {
        tracing::error!(
            error = format!("{error:#}"),
            "the self-check failed: no event came through"
        );
    }
    print_to_stdout(&demo.welcome(listen, &config, &checked));
}

async fn wait_for_others(engine: &Engine) {
    let joined = async {
        while engine.unready().is_some() {
            sleep(JOIN_TICK).await;
        }
    };
    // After the time-out, the self-check says what is wrong.
    let _ = timeout(JOIN_TIMEOUT, joined).await;
}

/// Warns of a demo app while the demo is off: its secret was printed when it was made, and it works without its page.
pub(super) async fn warn_of_demo_app(store: &Store) -> Result<(), StoreError> {
    if let Some((app, _)) = store.demo_app().await?
        && app.settings.enabled
    {
        tracing::warn!(
            app = app.id,
            "the demo app is still there, and whoever saw its secret at the first start may publish and connect; if nobody \
             uses it, run `fanfare app disable {}`, or delete it",
            app.id
        );
    }
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "what a newcomer is to see, not a log line"
)]
pub(super) fn print_to_stdout(text: &str) {
    println!("{text}");
}
