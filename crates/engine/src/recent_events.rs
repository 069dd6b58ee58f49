//! The bound that the cache channels and histories of all apps share on this node. Each app has
//! limits of its own, but no app is responsible for their sum, so over the bound the app that keeps
//! most gives way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::app::App;

/// Over the bound, one of this many parts of it is freed at once, because finding the app that
/// keeps most is too much work for every event.
const EVICTED_PART: usize = 16;

/// The bound, and the apps that share it.
#[derive(Debug)]
pub(crate) struct RecentEvents {
    max_bytes: usize,
    bytes: AtomicUsize,
    apps: Mutex<Vec<Weak<App>>>,
    making_room: Mutex<()>,
}

impl RecentEvents {
    pub(crate) fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            max_bytes,
            bytes: AtomicUsize::new(0),
            apps: Mutex::default(),
            making_room: Mutex::default(),
        })
    }

    /// Adds an app that shares the bound.
    pub(crate) fn share(&self, app: &Arc<App>) {
        let mut apps = self.apps.lock();
        if apps.len() == apps.capacity() {
            apps.retain(|app| app.strong_count() > 0);
        }
        apps.push(Arc::downgrade(app));
    }

    /// Evicts events if more is kept than may. The caller must hold no lock of a cache or of
    /// histories, because this takes those of the app that gives way.
    pub(crate) fn make_room(&self) {
        if self.bytes.load(Ordering::Relaxed) <= self.max_bytes {
            return;
        }
        // Another thread that makes room is enough.
        let Some(_at_it) = self.making_room.try_lock() else {
            return;
        };
        // Copied, so that the list isn't locked while apps give way.
        let apps: Vec<Arc<App>> = {
            let apps = self.apps.lock();
            apps.iter().filter_map(Weak::upgrade).collect()
        };
        let target = self.max_bytes - self.max_bytes / EVICTED_PART;
        while let Some(over) = self.bytes.load(Ordering::Relaxed).checked_sub(target + 1) {
            let Some(app) = apps.iter().max_by_key(|app| app.kept_bytes()) else {
                return;
            };
            // Half at most, so that one app doesn't lose all while others keep nearly as much.
            let share = (over + 1).min(app.kept_bytes() / 2).max(1);
            if app.evict(share) == 0 {
                return;
            }
        }
    }
}

/// The bytes of one app's cache, or of its histories, in the total; given back when dropped.
#[derive(Debug)]
pub(crate) struct KeptBytes {
    all: Arc<RecentEvents>,
    bytes: AtomicUsize,
}

impl KeptBytes {
    pub(crate) fn new(all: &Arc<RecentEvents>) -> Self {
        Self {
            all: Arc::clone(all),
            bytes: AtomicUsize::new(0),
        }
    }

    pub(crate) fn get(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Notes how many bytes are kept now. Called under the lock of what is counted, so that the
    /// last number noted is the current one.
    pub(crate) fn set(&self, now: usize) {
        let before = self.bytes.swap(now, Ordering::Relaxed);
        if now > before {
            self.all.bytes.fetch_add(now - before, Ordering::Relaxed);
        } else if before > now {
            self.all.bytes.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Evicts events if all apps keep more than they may. The caller must hold no lock of a cache
    /// or of histories.
    pub(crate) fn make_room(&self) {
        self.all.make_room();
    }

    /// Returns the bound of all apps together.
    pub(crate) fn max_of_all(&self) -> usize {
        self.all.max_bytes
    }
}

impl Drop for KeptBytes {
    fn drop(&mut self) {
        self.set(0);
    }
}
