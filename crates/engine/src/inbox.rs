//! What comes to a shard from other threads: one queue, bounded in bytes, taken all at once.

use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::shard::Command;

/// What a command weighs besides its frame, in bytes.
const COMMAND_WEIGHT: usize = 64;

/// A shard's queue. Events must find room before they are queued; orders to close and presence edges are always taken:
/// each follows from one thing that one connection did, and connections are bounded.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    /// Bytes of events that are queued or have found room.
    reserved: AtomicUsize,
    capacity: usize,
    /// Tells who waits for room that some was given back; and how many wait.
    released: Notify,
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    commands: Vec<Command>,
    waker: Option<Waker>,
}

impl Inbox {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            queue: Mutex::default(),
            reserved: AtomicUsize::new(0),
            capacity,
            released: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// What a frame weighs in this queue.
    pub(crate) fn weight(frame_bytes: usize) -> usize {
        frame_bytes + COMMAND_WEIGHT
    }

    /// Finds room for events, or says that there is none. An empty queue takes anything.
    pub(crate) fn reserve(&self, weight: usize) -> bool {
        let room = |now: usize| (now == 0 || now + weight <= self.capacity).then_some(now + weight);
        self.reserved
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, room)
            .is_ok()
    }

    /// Waits for room.
    pub(crate) async fn reserve_when_room(&self, weight: usize) {
        if self.reserve(weight) {
            return;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        loop {
            let released = self.released.notified();
            if self.reserve(weight) {
                break;
            }
            released.await;
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Takes room for an event that must not wait, whether there is any or not.
    pub(crate) fn force(&self, weight: usize) {
        self.reserved.fetch_add(weight, Ordering::SeqCst);
    }

    /// Gives back room that was reserved.
    pub(crate) fn release(&self, weight: usize) {
        self.reserved.fetch_sub(weight, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.released.notify_waiters();
        }
    }

    /// Queues a command and wakes the shard if it sleeps.
    pub(crate) fn push(&self, command: Command) {
        let waker = {
            let mut queue = self.queue.lock();
            queue.commands.push(command);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until there are commands.
    pub(crate) async fn wait(&self) {
        poll_fn(|cx| {
            let mut queue = self.queue.lock();
            if queue.commands.is_empty() {
                queue.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Takes all commands and returns whether there were any; `batch` comes empty and keeps its memory.
    pub(crate) fn take(&self, batch: &mut Vec<Command>) -> bool {
        mem::swap(&mut self.queue.lock().commands, batch);
        !batch.is_empty()
    }

    /// Gives memory back that a burst of commands needed.
    pub(crate) fn trim(&self, kept: usize) {
        self.queue.lock().commands.shrink_to(kept);
    }
}
