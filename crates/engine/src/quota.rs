//! Quotas of an app and of the installation, as this node knows them: shares of a budget that the store divides among
//! the nodes.
//!
//! A node spends its share without asking. When little is left, or too little for a publish, it asks for more, and
//! whoever keeps the quotas grants another share or says that nothing is left. Counting costs one look at a flag where
//! there is no quota, and one addition where there is one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fanfare_protocol::{QuotaKind, Quotas};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long a publish waits for another share.
const SHARE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whose quota it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaOwner {
    /// One app's.
    App,
    /// That of all apps together.
    Installation,
}

/// A quota of which nothing is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedUp {
    /// Whose it is.
    pub owner: QuotaOwner,
    /// What it counts.
    pub kind: QuotaKind,
    /// Its value.
    pub limit: u64,
    /// When it begins again, as `2026-11-22T00:00:00Z`.
    pub resets_at: String,
}

impl fmt::Display for UsedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = match self.owner {
            QuotaOwner::App => "The app",
            QuotaOwner::Installation => "This installation",
        };
        let (limit, words, resets_at) = (self.limit, self.kind.words(), &self.resets_at);
        let setting = self.kind.setting();
        write!(
            f,
            "{owner} has used up its quota of {limit} {words} (quotas.{setting}), which begins again at {resets_at}"
        )
    }
}

/// Why a quota allows nothing now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverQuota {
    /// Nothing is left.
    #[error("{0}")]
    UsedUp(Arc<UsedUp>),
    /// It isn't known whether anything is left.
    #[error(
        "it is not known whether the app's quotas leave anything, because the store does not answer"
    )]
    Unknown,
}

/// This node's share of one quota.
#[derive(Debug, Default)]
pub struct QuotaShare {
    /// What is left of the share; negative if more was used.
    left: AtomicI64,
    /// What was left when the quota changed. The store gets it back with the next question.
    unused: AtomicI64,
    /// Below this, another share is asked for.
    low: AtomicI64,
    /// What publishes wait for.
    awaited: AtomicI64,
    is_metered: AtomicBool,
    /// Whether more than the share is refused; otherwise it is only counted.
    is_hard: AtomicBool,
    is_asked: AtomicBool,
    used_up: ArcSwapOption<UsedUp>,
    granted: Notify,
}

impl QuotaShare {
    /// Returns what was used beyond the share.
    #[must_use]
    pub fn debt(&self) -> i64 {
        -self.left.load(Ordering::Relaxed).min(0)
    }

    /// Returns what publishes wait for.
    #[must_use]
    pub fn awaited(&self) -> i64 {
        self.awaited.load(Ordering::Relaxed)
    }

    /// Returns whether another share is to be fetched: it is counted, and little is left or publishes wait.
    #[must_use]
    pub fn is_low(&self) -> bool {
        if !self.is_metered.load(Ordering::Relaxed) {
            return false;
        }
        if self.used_up.load().is_some() {
            // There is no more, but what was used beyond it counts.
            return self.debt() > 0;
        }
        self.awaited() > 0 || self.left.load(Ordering::Relaxed) <= self.low.load(Ordering::Relaxed)
    }

    /// Returns what is left of the share, and takes it away.
    pub fn take_left(&self) -> i64 {
        self.left.swap(0, Ordering::Relaxed).max(0)
    }

    /// Returns what was left of shares when the quota changed, and takes it away.
    pub fn take_unused(&self) -> i64 {
        self.unused.swap(0, Ordering::Relaxed)
    }

    /// Adds to the share. With `used_up`, there is no more in the store.
    pub fn grant(&self, amount: i64, used_up: Option<Arc<UsedUp>>) {
        self.low.store(amount / 2, Ordering::Relaxed);
        self.left.fetch_add(amount, Ordering::Relaxed);
        self.used_up.store(used_up);
        self.wake();
    }

    /// Notes that another node has found nothing left in the store.
    pub fn use_up(&self, used_up: Arc<UsedUp>) {
        self.used_up.store(Some(used_up));
        self.wake();
    }

    /// Begins a new period: nothing is used, and no share is granted yet.
    pub fn begin(&self) {
        self.left.store(0, Ordering::Relaxed);
        self.unused.store(0, Ordering::Relaxed);
        self.used_up.store(None);
        self.wake();
    }

    /// Lets waiting publishes look again.
    pub fn wake(&self) {
        self.is_asked.store(false, Ordering::SeqCst);
        self.granted.notify_waiters();
    }

    fn configure(&self, quotas: &Quotas, kind: QuotaKind) -> bool {
        let values = quotas.of(kind);
        self.is_hard.store(values.hard.is_some(), Ordering::Relaxed);
        // Nothing of a share of the old value stays, so that the store is asked next and compares with the new one.
        let left = self.left.fetch_min(0, Ordering::Relaxed);
        self.unused.fetch_add(left.max(0), Ordering::Relaxed);
        self.used_up.store(None);
        self.wake();
        self.is_metered.store(!values.is_none(), Ordering::Relaxed);
        !values.is_none()
    }

    pub(crate) fn is_hard(&self) -> bool {
        self.is_hard.load(Ordering::Relaxed)
    }

    /// Returns whether anything is left, here and in the store. What is counted afterwards by other nodes must stop
    /// this one too, which may count nothing itself.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0 && self.used_up.load().is_none()
    }

    /// Takes from the share, whether or not it has so much. Returns whether more is to be asked for.
    pub(crate) fn charge(&self, amount: i64) -> bool {
        let left = self.left.fetch_sub(amount, Ordering::Relaxed) - amount;
        self.must_ask(left)
    }

    /// Returns whether another share is to be asked for after something was taken.
    pub(crate) fn must_ask_now(&self) -> bool {
        self.must_ask(self.left.load(Ordering::Relaxed))
    }

    /// Returns whether another share is to be asked for while so much is left. It is asked for once.
    fn must_ask(&self, left: i64) -> bool {
        left <= self.low.load(Ordering::Relaxed)
            && self.used_up.load().is_none()
            && !self.is_asked.swap(true, Ordering::SeqCst)
    }

    /// Waits until `has_enough` is true, and asks for more until then.
    pub(crate) async fn wait(
        &self,
        ask: impl Fn(),
        has_enough: impl Fn(&Self) -> bool,
    ) -> Result<(), OverQuota> {
        let until = Instant::now() + SHARE_TIMEOUT;
        loop {
            // Made before the look, so that a grant in between wakes it.
            let granted = self.granted.notified();
            if has_enough(self) {
                return Ok(());
            }
            if let Some(used_up) = self.used_up.load_full() {
                return Err(OverQuota::UsedUp(used_up));
            }
            if !self.is_asked.swap(true, Ordering::SeqCst) {
                ask();
            }
            if timeout_at(until, granted).await.is_err() {
                return Err(OverQuota::Unknown);
            }
        }
    }

    /// Takes from the share if it has so much.
    pub(crate) fn try_take(&self, amount: i64) -> bool {
        let take = |left: i64| (left >= amount).then(|| left - amount);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok()
    }
}

/// This node's shares of the quotas of an app, or of the installation.
#[derive(Debug)]
pub struct QuotaShares {
    owner: QuotaOwner,
    is_metered: AtomicBool,
    shares: [QuotaShare; QuotaKind::ALL.len()],
}

impl QuotaShares {
    pub(crate) fn new(owner: QuotaOwner, quotas: &Quotas) -> Self {
        let shares = Self {
            owner,
            is_metered: AtomicBool::new(false),
            shares: Default::default(),
        };
        shares.configure(quotas);
        shares
    }

    /// Applies changed quotas. What was used stays.
    pub(crate) fn configure(&self, quotas: &Quotas) {
        let metered = QuotaKind::ALL.map(|kind| self.of(kind).configure(quotas, kind));
        self.is_metered
            .store(metered.contains(&true), Ordering::Relaxed);
    }

    /// Returns the share of a quota.
    #[must_use]
    pub fn of(&self, kind: QuotaKind) -> &QuotaShare {
        &self.shares[kind as usize]
    }

    /// Returns whose quotas they are.
    pub(crate) fn owner(&self) -> QuotaOwner {
        self.owner
    }

    /// Gives back messages that were not published after all.
    pub(crate) fn refund(&self, messages: i64) {
        if let Some(share) = self.metered(QuotaKind::Messages) {
            share.left.fetch_add(messages, Ordering::Relaxed);
        }
    }

    /// Returns whether anything is counted.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        self.is_metered.load(Ordering::Relaxed)
    }

    pub(crate) fn metered(&self, kind: QuotaKind) -> Option<&QuotaShare> {
        let share = self.of(kind);
        share.is_metered.load(Ordering::Relaxed).then_some(share)
    }

    /// Returns the quota that is used up, if one is. Messages are taken from a share, so what a node has of it may
    /// still be used.
    pub(crate) fn used_up(&self) -> Option<Arc<UsedUp>> {
        if !self.is_metered() {
            return None;
        }
        let hard = QuotaKind::ALL.into_iter().filter_map(|kind| {
            let share = self.metered(kind)?;
            share.is_hard().then_some((kind, share))
        });
        let used_up = |(kind, share): (QuotaKind, &QuotaShare)| {
            let used_up = share.used_up.load_full()?;
            let has_left = kind == QuotaKind::Messages && share.left.load(Ordering::Relaxed) > 0;
            (!has_left).then_some(used_up)
        };
        hard.filter_map(used_up).next()
    }
}

/// Messages that a publish waits for, until it is dropped.
pub(crate) struct Awaited<'a>(&'a QuotaShare, i64);

impl<'a> Awaited<'a> {
    pub(crate) fn new(share: &'a QuotaShare, messages: i64) -> Self {
        share.awaited.fetch_add(messages, Ordering::Relaxed);
        Self(share, messages)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.awaited.fetch_sub(self.1, Ordering::Relaxed);
    }
}
