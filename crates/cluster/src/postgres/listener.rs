//! The session that is woken when another node has published.

use std::sync::Arc;

use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::backend::Incoming;

/// Wakes the line at each notification of another node, until the session is lost. Then so is the
/// connection: what was published meanwhile would be noticed late.
pub(super) async fn listen(
    mut listener: PgListener,
    name: String,
    woken: Arc<Notify>,
    incoming: UnboundedSender<Incoming>,
) {
    let reason = loop {
        match listener.try_recv().await {
            // A node reads the log after its own calls anyway.
            Ok(Some(notification)) if notification.payload() == name => {}
            Ok(Some(_)) => woken.notify_one(),
            Ok(None) => break "Postgres closed the session that listens".to_owned(),
            Err(error) => break format!("listening: {error}"),
        }
    };
    // Nobody may have the connection any more.
    let _ = incoming.send(Incoming::Lost(reason));
}
