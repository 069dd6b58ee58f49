//! What the cache channels and histories of all apps keep on this node, bounded together: each app has limits of its own, but
//! what they add up to is nobody's, so over the bound the app that keeps most gives way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::app::App;

/// Over the bound, as much goes as makes room for so many of its parts at once: looking for the app that keeps most is not for
/// every event.
const ROOM_MADE: usize = 16;

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

    /// One more app shares the bound.
    pub(crate) fn share(&self, app: &Arc<App>) {
        let mut apps = self.apps.lock();
        if apps.len() == apps.capacity() {
            apps.retain(|app| app.strong_count() > 0);
        }
        apps.push(Arc::downgrade(app));
    }

    /// Makes room if there is too much. No lock of a cache or of histories may be held.
    pub(crate) fn make_room(&self) {
        if self.bytes.load(Ordering::Relaxed) <= self.max_bytes {
            return;
        }
        // If another thread is at it, that is enough.
        let Some(_at_it) = self.making_room.try_lock() else {
            return;
        };
        let apps: Vec<Arc<App>> = {
            let apps = self.apps.lock();
            apps.iter().filter_map(Weak::upgrade).collect()
        };
        let target = self.max_bytes - self.max_bytes / ROOM_MADE;
        while let Some(over) = self.bytes.load(Ordering::Relaxed).checked_sub(target + 1) {
            let Some(app) = apps.iter().max_by_key(|app| app.kept_bytes()) else {
                return;
            };
            // Not all that an app keeps while others keep nearly as much.
            let share = (over + 1).min(app.kept_bytes() / 2).max(1);
            if app.give_way(share) == 0 {
                return;
            }
        }
    }
}

/// What one app's cache, or its histories, add to it; given back when dropped.
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

    /// Notes how much it is now. Called under the lock of what is counted, so that the last number is the last one noted.
    pub(crate) fn set(&self, now: usize) {
        let before = self.bytes.swap(now, Ordering::Relaxed);
        if now > before {
            self.all.bytes.fetch_add(now - before, Ordering::Relaxed);
        } else if before > now {
            self.all.bytes.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Makes room among all apps if there is too much. No lock of a cache or of histories may be held.
    pub(crate) fn make_room(&self) {
        self.all.make_room();
    }

    /// The bound of all apps together.
    pub(crate) fn max_of_all(&self) -> usize {
        self.all.max_bytes
    }
}

impl Drop for KeptBytes {
    fn drop(&mut self) {
        self.set(0);
    }
}
