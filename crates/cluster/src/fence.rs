//! Until when clients that may have missed something are told so. They are fenced, which means that nothing is written to them any
//! more, from the connection that comes after a lost one; that connection may be lost soon as well.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The deadline of those who are fenced, if anybody is.
#[derive(Debug)]
pub(crate) struct Fence(watch::Sender<Option<Instant>>);

impl Default for Fence {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl Fence {
    /// Some are fenced, for at most `max`. The deadline of those who are already stays.
    pub(crate) fn begin(&self, max: Duration) {
        self.0.send_if_modified(|deadline| {
            let begins = deadline.is_none();
            deadline.get_or_insert_with(|| Instant::now() + max);
            begins
        });
    }

    /// All of them are being told.
    pub(crate) fn end(&self) {
        self.0.send_replace(None);
    }

    /// Waits until a deadline is over.
    pub(crate) async fn overdue(&self) {
        let mut deadlines = self.0.subscribe();
        loop {
            let deadline = *deadlines.borrow_and_update();
            // An error would mean that the sender, which is here, is gone.
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
