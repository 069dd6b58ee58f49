//! The last day whose tables this process has made or found.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Beginning of a day, shared by all copies of a store.
#[derive(Debug, Clone)]
pub(crate) struct KnownDay(Arc<AtomicI64>);

impl Default for KnownDay {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(Self::NONE)))
    }
}

impl KnownDay {
    const NONE: i64 = i64::MIN;

    pub(super) fn is(&self, day: i64) -> bool {
        self.0.load(Ordering::Relaxed) == day
    }

    pub(super) fn set(&self, day: i64) {
        self.0.store(day, Ordering::Relaxed);
    }

    /// Lets the tables be made again if they are gone.
    pub(super) fn forget(&self) {
        self.set(Self::NONE);
    }
}
