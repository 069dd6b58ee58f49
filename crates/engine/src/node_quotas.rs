//! The quotas that messages of this node's apps count against: each app's own, and that of all apps together.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use fanfare_protocol::{QuotaKind, Quotas};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::app::App;
use crate::quota::{Awaited, OverQuota, QuotaOwner, QuotaShare, QuotaShares, UsedUp};

/// Whose shares run low.
#[derive(Debug, Clone)]
pub enum QuotaRequest {
    /// An app's.
    App(Arc<App>),
    /// The installation's.
    Installation,
}

/// Requests for shares, which whoever keeps the quotas answers.
#[derive(Debug, Default)]
pub struct QuotaRequests {
    /// Requests of apps, or of the installation as `None`. They don't keep a deleted app alive until they are answered.
    queue: Mutex<Vec<Option<Weak<App>>>>,
    asked: Notify,
}

impl QuotaRequests {
    /// Waits until there is a request.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Returns the requests since the last call, without those of apps that are gone.
    pub fn take(&self) -> Vec<QuotaRequest> {
        let queue = std::mem::take(&mut *self.queue.lock());
        let request = |app: Option<Weak<App>>| match app {
            Some(app) => app.upgrade().map(QuotaRequest::App),
            None => Some(QuotaRequest::Installation),
        };
        queue.into_iter().filter_map(request).collect()
    }

    fn ask(&self, request: Option<Weak<App>>) {
        self.queue.lock().push(request);
        self.asked.notify_one();
    }
}

/// The quotas that a message of an app counts against.
#[derive(Debug)]
pub(crate) struct NodeQuotas {
    pub(crate) installation: QuotaShares,
    pub(crate) requests: QuotaRequests,
    /// Whether there is a quota, or was one.
    pub(crate) are_set: AtomicBool,
}

impl NodeQuotas {
    pub(crate) fn new(quotas: &Quotas) -> Self {
        Self {
            installation: QuotaShares::new(QuotaOwner::Installation, quotas),
            requests: QuotaRequests::default(),
            are_set: AtomicBool::new(*quotas != Quotas::default()),
        }
    }

    /// Returns whether anything that the app does is counted.
    pub(crate) fn is_metered(&self, app: &App) -> bool {
        app.quotas.is_metered() || self.installation.is_metered()
    }

    /// Returns a quota that is used up and lets the app do nothing, if one is.
    pub(crate) fn used_up(&self, app: &App) -> Option<Arc<UsedUp>> {
        app.quotas.used_up().or_else(|| self.installation.used_up())
    }

    /// Counts what was done, against both quotas.
    pub(crate) fn charge(&self, app: &Arc<App>, kind: QuotaKind, amount: u64) {
        for shares in [&app.quotas, &self.installation] {
            if shares.is_metered()
                && let Some(share) = shares.metered(kind)
                && share.charge(i64::try_from(amount).unwrap_or(i64::MAX))
            {
                self.requests.ask(request(shares, app));
            }
        }
    }

    /// Takes messages from both quotas before they are published, and waits for another share where this node has too
    /// little. Gives back nothing: see [`Self::refund`].
    ///
    /// # Errors
    ///
    /// Returns [`OverQuota`] if a quota is used up, or if it isn't known in time whether it is. Nothing is taken then.
    pub(crate) async fn reserve(&self, app: &Arc<App>, messages: u64) -> Result<(), OverQuota> {
        let both = [&app.quotas, &self.installation];
        if !self.is_metered(app) {
            return Ok(());
        }
        let messages = i64::try_from(messages).unwrap_or(i64::MAX);
        for (number, shares) in both.into_iter().enumerate() {
            if let Err(error) = self.reserve_of(shares, app, messages).await {
                if number > 0 {
                    app.quotas.refund(messages);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives back messages that were not published after all.
    pub(crate) fn refund(&self, app: &Arc<App>, messages: u64) {
        let messages = i64::try_from(messages).unwrap_or(i64::MAX);
        for shares in [&app.quotas, &self.installation] {
            shares.refund(messages);
        }
    }

    async fn reserve_of(
        &self,
        shares: &QuotaShares,
        app: &Arc<App>,
        messages: i64,
    ) -> Result<(), OverQuota> {
        if !shares.is_metered() {
            return Ok(());
        }
        let ask = || self.requests.ask(request(shares, app));
        for kind in [QuotaKind::Deliveries, QuotaKind::Bytes] {
            if let Some(share) = shares.metered(kind).filter(|share| share.is_hard()) {
                share.wait(ask, QuotaShare::has_left).await?;
            }
        }
        let Some(share) = shares.metered(QuotaKind::Messages) else {
            return Ok(());
        };
        if !share.is_hard() {
            if share.charge(messages) {
                ask();
            }
            return Ok(());
        }
        if !share.try_take(messages) {
            let _awaited = Awaited::new(share, messages);
            share.wait(ask, |share| share.try_take(messages)).await?;
        }
        if share.must_ask_now() {
            ask();
        }
        Ok(())
    }
}

/// Returns whose shares they are: the app's, or the installation's as `None`.
fn request(shares: &QuotaShares, app: &Arc<App>) -> Option<Weak<App>> {
    match shares.owner() {
        QuotaOwner::App => Some(Arc::downgrade(app)),
        QuotaOwner::Installation => None,
    }
}
