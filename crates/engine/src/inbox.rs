//! A shard's queue of commands from other threads, bounded in bytes and taken all at once.

use std::collections::HashMap;
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use fanfare_protocol::AppId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bytes that a command weighs besides its frame.
const COMMAND_WEIGHT: usize = 64;
/// Once half of a queue is in use, each app may add one of this many parts: the rest is for other
/// apps.
const SHARES: usize = 8;

/// A shard's queue of commands `C`. Events must reserve room before they are queued. Orders to
/// close and presence changes are always accepted: each follows from one thing that one connection
/// did, and connections are bounded.
#[derive(Debug)]
pub(crate) struct Inbox<C> {
    queue: Mutex<Queue<C>>,
    /// Bytes of events that are queued or have reserved room.
    reserved: AtomicUsize,
    capacity: usize,
    /// Bytes that each app has added since half of the capacity was in use.
    shares: Mutex<HashMap<AppId, usize>>,
    is_shared: AtomicBool,
    /// Wakes the tasks that wait for room.
    released: Notify,
    // Counted, so that `release` on the hot path notifies only if a task waits.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Queue<C> {
    commands: Vec<C>,
    /// What every command overtakes.
    deferred: Vec<C>,
    waker: Option<Waker>,
}

impl<C> Inbox<C> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            queue: Mutex::new(Queue {
                commands: Vec::new(),
                deferred: Vec::new(),
                waker: None,
            }),
            reserved: AtomicUsize::new(0),
            capacity,
            shares: Mutex::default(),
            is_shared: AtomicBool::new(false),
            released: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Reserves room for events, and returns whether there was any. An empty queue takes anything.
    pub(crate) fn reserve(&self, weight: usize) -> bool {
        let reserved =
            |now: usize| (now == 0 || now + weight <= self.capacity).then_some(now + weight);
        self.reserved
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, reserved)
            .is_ok()
    }

    /// Reserves room for events of an app, and returns whether there was any: an app that publishes
    /// faster than the shard delivers leaves room for the others.
    pub(crate) fn reserve_for(&self, app: &AppId, weight: usize) -> bool {
        // A cheap look without the lock; `reserve` decides.
        if self.reserved.load(Ordering::Relaxed) + weight <= self.capacity / 2 {
            return self.reserve(weight);
        }
        let mut shares = self.shares.lock();
        let share = shares.get(app).copied().unwrap_or(0);
        let fits = share == 0 || share + weight <= self.capacity / SHARES;
        if !fits || !self.reserve(weight) {
            return false;
        }
        shares.insert(app.clone(), share + weight);
        // Set under the lock that `release` takes before it clears the shares.
        self.is_shared.store(true, Ordering::Release);
        true
    }

    /// Returns the bytes of events that are queued or have reserved room.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Waits until there is room, and reserves it.
    pub(crate) async fn reserve_when_room(&self, weight: usize) {
        if self.reserve(weight) {
            return;
        }
        // Before the second try, and SeqCst on both sides: either this try sees the room given
        // back, or `release` sees the waiter.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        loop {
            // `notify_waiters` wakes only futures that exist: this one must, before the try.
            let released = self.released.notified();
            if self.reserve(weight) {
                break;
            }
            released.await;
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Reserves room for an event that must not wait, even beyond the capacity.
    pub(crate) fn force(&self, weight: usize) {
        self.reserved.fetch_add(weight, Ordering::SeqCst);
    }

    /// Gives back reserved room.
    pub(crate) fn release(&self, weight: usize) {
        let before = self.reserved.fetch_sub(weight, Ordering::SeqCst);
        if before - weight <= self.capacity / 2 && self.is_shared.load(Ordering::Acquire) {
            let mut shares = self.shares.lock();
            shares.clear();
            self.is_shared.store(false, Ordering::Release);
        }
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.released.notify_waiters();
        }
    }

    /// Queues a command and wakes the shard if it sleeps.
    pub(crate) fn push(&self, command: C) {
        self.queue(|queue| queue.commands.push(command));
    }

    /// Queues a command that others overtake, and wakes the shard if it sleeps.
    pub(crate) fn push_deferred(&self, command: C) {
        self.queue(|queue| queue.deferred.push(command));
    }

    fn queue(&self, push: impl FnOnce(&mut Queue<C>)) {
        let waker = {
            let mut queue = self.queue.lock();
            push(&mut queue);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            // After the lock is released, so that the shard doesn't wake into it.
            waker.wake();
        }
    }

    /// Waits until commands are queued.
    pub(crate) async fn wait(&self) {
        poll_fn(|cx| {
            let mut queue = self.queue.lock();
            if queue.commands.is_empty() && queue.deferred.is_empty() {
                queue.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Takes all commands but those that were deferred, and returns whether there were any. `batch`
    /// must be empty; its allocation becomes the queue's.
    pub(crate) fn take(&self, batch: &mut Vec<C>) -> bool {
        mem::swap(&mut self.queue.lock().commands, batch);
        !batch.is_empty()
    }

    /// Takes the commands that were deferred.
    pub(crate) fn take_deferred(&self) -> Vec<C> {
        mem::take(&mut self.queue.lock().deferred)
    }

    /// Frees memory that a burst of commands needed.
    pub(crate) fn trim(&self, kept: usize) {
        self.queue.lock().commands.shrink_to(kept);
    }
}

/// Returns what a command with a frame of this many bytes weighs in a queue.
pub(crate) fn weight(frame_bytes: usize) -> usize {
    frame_bytes + COMMAND_WEIGHT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_fills_the_queue_leaves_room_for_others() {
        let inbox = Inbox::<()>::new(8000);
        let [loud, quiet] = ["1", "2"].map(|id| AppId::parse(id).expect("an id"));
        let taken = (0..100).filter(|_| inbox.reserve_for(&loud, 100)).count();
        assert_eq!(taken * 100, 5000, "half, and its share of the rest");
        let others = (0..100).filter(|_| inbox.reserve_for(&quiet, 100)).count();
        assert_eq!(others * 100, 1000);
        assert!(!inbox.reserve_for(&loud, 100));
        inbox.release(3000);
        assert!(inbox.reserve_for(&loud, 100), "it is not full any more");
        inbox.release(3100);
        assert_eq!(inbox.reserved.load(Ordering::Relaxed), 0);
        assert!(
            inbox.reserve_for(&loud, 100_000),
            "an empty queue takes anything"
        );
    }
}
