//! The deadline by which fenced clients are closed. Nothing is written to them any more once the
//! connection after a lost one exists; that connection may be lost soon as well.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The deadline of the fenced clients, if there are any.
#[derive(Debug)]
pub(crate) struct Fence(watch::Sender<Option<Instant>>);

impl Default for Fence {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl Fence {
    /// Notes that clients are fenced, for `max` at most. The deadline of those that are fenced
    /// already stays.
    pub(crate) fn begin(&self, max: Duration) {
        self.0.send_if_modified(|deadline| {
            let begins = deadline.is_none();
            deadline.get_or_insert_with(|| Instant::now() + max);
            begins
        });
    }

    /// Notes that all fenced clients are being closed.
    pub(crate) fn end(&self) {
        self.0.send_replace(None);
    }

    /// Waits until a deadline has passed.
    pub(crate) async fn overdue(&self) {
        let mut deadlines = self.0.subscribe();
        loop {
            let deadline = *deadlines.borrow_and_update();
            // The sender is in `self`, so `changed` cannot fail.
            match deadline {
                None => {
                    let _ = deadlines.changed().await;
                }
                Some(deadline) if timeout_at(deadline, deadlines.changed()).await.is_err() => {
                    return;
                }
                Some(_) => {}
            }
        }
    }
}
