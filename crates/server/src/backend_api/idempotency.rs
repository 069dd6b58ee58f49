//! Idempotency keys of publishes. A publish that a backend sends again, because its answer was lost, gets the same
//! answer and is delivered once.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use fanfare_engine::App;
use fanfare_protocol::AppId;
use fanfare_protocol::signature::body_md5;
use hashlink::LinkedHashMap;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::http::error::ApiError;

/// How long a key is remembered.
const KEY_TTL: Duration = Duration::from_secs(120);
/// Bytes charged for a key besides its answer: its digest in a linked map, and the cell that requests wait on.
const ENTRY_WEIGHT: usize = 400;
/// Over the budget, keys are forgotten until this fraction of the budget (1/16) is free, so that not every publish has
/// to make room.
const EVICTED_PART: usize = 16;
/// Least time between two sweeps, which forget the expired keys of apps that publish nothing more.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Longest key, in bytes.
const MAX_KEY: usize = 255;

/// The requests answered within [`KEY_TTL`]. Cheap to clone.
///
/// All apps share one budget. Over it, the oldest keys of the app that holds most are forgotten. An app that sends keys
/// faster than the budget allows thus loses its own keys, never those of other apps.
#[derive(Debug, Clone)]
pub(crate) struct Idempotency(Arc<Mutex<RememberedKeys>>);

#[derive(Debug)]
struct RememberedKeys {
    max_bytes: usize,
    bytes: usize,
    apps: HashMap<AppId, Keys>,
    swept: Instant,
}

/// The keys of one app.
#[derive(Debug, Default)]
struct Keys {
    /// The oldest entry is the first.
    entries: LinkedHashMap<KeyDigest, Entry>,
    bytes: usize,
    /// Number of keys that were forgotten before they expired.
    evicted: u64,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    /// Tells the entry from a later one with the same key.
    number: u64,
    added: Instant,
    bytes: usize,
    answered: Arc<OnceCell<Answered>>,
}

/// First bytes of the key's SHA-256, so that keys of all lengths take the same room.
type KeyDigest = [u8; 16];

#[derive(Debug)]
struct Answered {
    /// MD5 of the request's body. The same key with another body is an error.
    body_md5: String,
    answer: Bytes,
}

impl Idempotency {
    /// Creates an empty memory that holds at most `max_bytes`, all apps together.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(RememberedKeys {
            max_bytes,
            bytes: 0,
            apps: HashMap::new(),
            swept: Instant::now(),
        })))
    }

    /// Runs `publish` once for a key of an app and returns its answer. A request with the same key that comes meanwhile
    /// waits for that answer. A failure isn't remembered, so the request can be tried again.
    ///
    /// # Errors
    ///
    /// Returns 400 if the key isn't valid or came with another body before, and otherwise the error of `publish`.
    pub(crate) async fn once(
        &self,
        app: &App,
        key: &str,
        body: &[u8],
        publish: impl Future<Output = Result<Bytes, ApiError>>,
    ) -> Result<Bytes, ApiError> {
        if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
            return Err(ApiError::new(
                400,
                format!("Invalid idempotency key: 1 to {MAX_KEY} printable bytes"),
            ));
        }
        let digest = key_digest(key);
        let (number, cell) = self.0.lock().enter(app.id(), digest, Instant::now());
        let body_md5 = body_md5(body);
        let mut is_first = false;
        // The lock is free again before the wait: only requests with the same key wait for each other.
        let answered = cell
            .get_or_try_init(|| async {
                is_first = true;
                publish.await.map(|answer| Answered {
                    body_md5: body_md5.clone(),
                    answer,
                })
            })
            .await;
        let answered = match answered {
            Ok(answered) => answered,
            Err(error) => {
                // Requests that wait on this cell try in turn. Each one that fails forgets the key as well.
                self.0.lock().forget(app.id(), digest, number);
                return Err(error);
            }
        };
        if answered.body_md5 != body_md5 {
            return Err(ApiError::new(
                400,
                format!(
                    "The idempotency key {key:?} stood for another request within the last two minutes"
                ),
            ));
        }
        if is_first {
            let bytes = answered.answer.len();
            // Taken again: the entry may have been evicted during the wait, which its number shows.
            self.0.lock().answered(app.id(), digest, number, bytes);
        }
        Ok(answered.answer.clone())
    }
}

fn key_digest(key: &str) -> KeyDigest {
    let digest = Sha256::digest(key.as_bytes());
    let mut start = KeyDigest::default();
    start.copy_from_slice(&digest[..16]);
    start
}

impl RememberedKeys {
    /// Returns the number and the cell of a key's entry, which is added if there is none.
    fn enter(
        &mut self,
        app: &AppId,
        key: KeyDigest,
        now: Instant,
    ) -> (u64, Arc<OnceCell<Answered>>) {
        if now >= self.swept + SWEEP_INTERVAL {
            self.sweep(now);
        }
        let keys = self.apps.entry(app.clone()).or_default();
        self.bytes -= keys.expire(now);
        if let Some(entry) = keys.entries.get(&key) {
            return (entry.number, Arc::clone(&entry.answered));
        }
        let (number, answered) = keys.insert(key, now);
        self.bytes += ENTRY_WEIGHT;
        self.make_room(now);
        (number, answered)
    }

    /// Charges an answer's `bytes` to its entry, unless the entry was evicted meanwhile.
    fn answered(&mut self, app: &AppId, key: KeyDigest, number: u64, bytes: usize) {
        let Some(keys) = self.apps.get_mut(app) else {
            return;
        };
        let entry = keys.entries.get_mut(&key);
        if let Some(entry) = entry.filter(|entry| entry.number == number) {
            entry.bytes += bytes;
            keys.bytes += bytes;
            self.bytes += bytes;
            self.make_room(Instant::now());
        }
    }

    fn forget(&mut self, app: &AppId, key: KeyDigest, number: u64) {
        if let Some(keys) = self.apps.get_mut(app) {
            self.bytes -= keys.remove(key, number);
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = now;
        for keys in self.apps.values_mut() {
            self.bytes -= keys.expire(now);
        }
        self.apps.retain(|_, keys| !keys.entries.is_empty());
    }

    /// Evicts keys of the app that holds most, and repeats that, until [`EVICTED_PART`] says there is room.
    fn make_room(&mut self, now: Instant) {
        if self.bytes <= self.max_bytes {
            return;
        }
        self.sweep(now);
        let target = self.max_bytes - self.max_bytes / EVICTED_PART;
        while self.bytes > target {
            let most = self.apps.iter_mut().max_by_key(|(_, keys)| keys.bytes);
            let Some((app, keys)) = most else { return };
            // At most half of what the app has at once, so that it doesn't lose everything while another app has nearly
            // as much.
            let share = (self.bytes - target).min(keys.bytes / 2).max(1);
            let before = keys.evicted;
            let (freed, oldest) = keys.evict(share);
            self.bytes -= freed;
            // Logged when the count passes a power of two, so that a flood writes few lines.
            if keys.evicted.checked_ilog2() != before.checked_ilog2() {
                tracing::warn!(
                    %app,
                    evicted = keys.evicted,
                    remembered_seconds = oldest.map_or(0, |at| (now - at).as_secs()),
                    bytes = self.max_bytes,
                    "idempotency keys are forgotten before their two minutes, because this app sends more than there is room \
                     for (idempotency.max_bytes): a publish that is sent again later is delivered again"
                );
            }
            if freed == 0 {
                return;
            }
        }
    }
}

impl Keys {
    fn insert(&mut self, key: KeyDigest, now: Instant) -> (u64, Arc<OnceCell<Answered>>) {
        self.next += 1;
        let entry = Entry {
            number: self.next,
            added: now,
            bytes: ENTRY_WEIGHT,
            answered: Arc::default(),
        };
        let answered = Arc::clone(&entry.answered);
        self.entries.insert(key, entry);
        self.bytes += ENTRY_WEIGHT;
        (self.next, answered)
    }

    /// Removes an entry if its number matches, and returns how many bytes that freed.
    fn remove(&mut self, key: KeyDigest, number: u64) -> usize {
        let entry = self.entries.get(&key);
        if entry.is_none_or(|entry| entry.number != number) {
            return 0;
        }
        let bytes = self.entries.remove(&key).map_or(0, |entry| entry.bytes);
        self.bytes -= bytes;
        bytes
    }

    /// Removes expired entries, and returns how many bytes that freed.
    fn expire(&mut self, now: Instant) -> usize {
        let before = self.bytes;
        let expired = |entry: &Entry| now >= entry.added + KEY_TTL;
        while self
            .entries
            .front()
            .is_some_and(|(_, entry)| expired(entry))
        {
            self.pop_oldest();
        }
        self.give_back();
        before - self.bytes
    }

    /// Removes the oldest entries until `bytes` are free. Returns how many bytes that freed, and when the last removed
    /// entry was added.
    fn evict(&mut self, bytes: usize) -> (usize, Option<Instant>) {
        let (before, mut last) = (self.bytes, None);
        while before - self.bytes < bytes
            && let Some(entry) = self.pop_oldest()
        {
            self.evicted += 1;
            last = Some(entry.added);
        }
        self.give_back();
        (before - self.bytes, last)
    }

    fn pop_oldest(&mut self) -> Option<Entry> {
        let (_, entry) = self.entries.pop_front()?;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// Gives memory back once most of it is unused, as after a flood of keys.
    fn give_back(&mut self) {
        if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(id: &str) -> AppId {
        AppId::parse(id).expect("an id")
    }

    fn remembered(max_bytes: usize) -> RememberedKeys {
        RememberedKeys {
            max_bytes,
            bytes: 0,
            apps: HashMap::new(),
            swept: Instant::now(),
        }
    }

    fn knows(remembered: &RememberedKeys, app: &AppId, key: &str) -> bool {
        let keys = remembered.apps.get(app);
        keys.is_some_and(|keys| keys.entries.contains_key(&key_digest(key)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_sends_too_many_keys_forgets_its_own_and_never_those_of_others() {
        let mut remembered = remembered(1000 * ENTRY_WEIGHT);
        let (quiet, loud) = (app("quiet"), app("loud"));
        for number in 0..20 {
            let key = key_digest(&format!("q{number}"));
            remembered.enter(&quiet, key, Instant::now());
        }
        for number in 0..10_000 {
            let key = key_digest(&format!("l{number}"));
            remembered.enter(&loud, key, Instant::now());
            assert!(remembered.bytes <= remembered.max_bytes);
        }
        assert!((0..20).all(|number| knows(&remembered, &quiet, &format!("q{number}"))));
        assert!(knows(&remembered, &loud, "l9999"));
        assert!(!knows(&remembered, &loud, "l0"));
        let held: usize = remembered.apps.values().map(|keys| keys.bytes).sum();
        assert_eq!(held, remembered.bytes);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_remembered_for_two_minutes_and_nothing_is_left_of_them() {
        let mut remembered = remembered(1 << 20);
        let (one, key) = (app("one"), key_digest("a"));
        let (number, _) = remembered.enter(&one, key, Instant::now());
        remembered.answered(&one, key, number, 1000);
        assert_eq!(remembered.bytes, ENTRY_WEIGHT + 1000);
        tokio::time::advance(KEY_TTL - Duration::from_secs(1)).await;
        assert_eq!(remembered.enter(&one, key, Instant::now()).0, number);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_ne!(remembered.enter(&one, key, Instant::now()).0, number);
        let (number, _) = remembered.enter(&one, key, Instant::now());
        remembered.forget(&one, key, number);
        assert!(!knows(&remembered, &one, "a"), "what failed is tried again");
        assert_eq!(remembered.bytes, 0);
        remembered.sweep(Instant::now());
        assert!(remembered.apps.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_larger_than_all_room_is_not_remembered_and_nothing_hangs() {
        let mut remembered = remembered(1000);
        let (one, key) = (app("one"), key_digest("a"));
        let (number, _) = remembered.enter(&one, key, Instant::now());
        remembered.answered(&one, key, number, 5000);
        assert_eq!(remembered.bytes, 0);
    }
}
