//! A semaphore for work that takes a core. Known callers go before others.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Largest number of waiting callers in each of the two queues: more would time out anyway.
const MAX_WAITING: usize = 128;

/// Gives out permits. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PrioritySemaphore(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    known: VecDeque<oneshot::Sender<PriorityPermit>>,
    unknown: VecDeque<oneshot::Sender<PriorityPermit>>,
}

/// A permit, which passes to the next caller when it is dropped.
#[derive(Debug)]
pub(crate) struct PriorityPermit(Option<PrioritySemaphore>);

impl PrioritySemaphore {
    pub(crate) fn new(at_once: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: at_once,
            known: VecDeque::new(),
            unknown: VecDeque::new(),
        })))
    }

    /// Waits for a permit, or returns `None` if too many callers wait. Known callers don't wait for others.
    pub(crate) async fn acquire(&self, is_known: bool) -> Option<PriorityPermit> {
        let permit = {
            let mut state = self.0.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(PriorityPermit(Some(self.clone())));
            }
            let queue = if is_known {
                &mut state.known
            } else {
                &mut state.unknown
            };
            // Callers that went away are removed only when the queue seems full.
            if queue.len() >= MAX_WAITING {
                queue.retain(|waiting| !waiting.is_closed());
            }
            if queue.len() >= MAX_WAITING {
                return None;
            }
            let (give, permit) = oneshot::channel();
            queue.push_back(give);
            permit
        };
        permit.await.ok()
    }

    fn next(&self) -> Option<oneshot::Sender<PriorityPermit>> {
        let mut state = self.0.lock();
        let known = state.known.pop_front();
        let next = known.or_else(|| state.unknown.pop_front());
        if next.is_none() {
            state.free += 1;
        }
        next
    }
}

impl Drop for PriorityPermit {
    fn drop(&mut self) {
        let Some(semaphore) = self.0.take() else {
            return;
        };
        while let Some(waiting) = semaphore.next() {
            match waiting.send(Self(Some(semaphore.clone()))) {
                Ok(()) => return,
                // That caller has gone away, so the permit goes to the next one. Emptied first, or dropping it would pass
                // it on again.
                Err(mut unused) => unused.0 = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_who_is_known_first() {
        let semaphore = PrioritySemaphore::new(1);
        let first = semaphore.acquire(false).await.expect("the first permit");
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (name, is_known) in [("a", false), ("b", false), ("c", true)] {
            let (semaphore, order) = (semaphore.clone(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let _permit = semaphore.acquire(is_known).await.expect("a permit");
                order.lock().push(name);
                tokio::task::yield_now().await;
            }));
            tokio::task::yield_now().await;
        }
        assert!(order.lock().is_empty());
        drop(first);
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!(*order.lock(), ["c", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_nobody_waits_for_any_more_goes_to_the_next() {
        let semaphore = PrioritySemaphore::new(1);
        let first = semaphore.acquire(false).await.expect("the first permit");
        let gone = timeout(Duration::from_secs(1), semaphore.acquire(false)).await;
        assert!(gone.is_err());
        drop(first);
        assert!(semaphore.acquire(false).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_turned_away_at_once_and_who_is_known_is_not_part_of_it() {
        let semaphore = PrioritySemaphore::new(1);
        let first = semaphore.acquire(false).await.expect("the first permit");
        let crowd: Vec<_> = (0..MAX_WAITING)
            .map(|_| {
                let semaphore = semaphore.clone();
                tokio::spawn(async move { semaphore.acquire(false).await.is_some() })
            })
            .collect();
        while semaphore.0.lock().unknown.len() < MAX_WAITING {
            tokio::task::yield_now().await;
        }
        assert!(semaphore.acquire(false).await.is_none());
        let known = semaphore.clone();
        let known = tokio::spawn(async move { known.acquire(true).await.is_some() });
        while semaphore.0.lock().known.is_empty() {
            tokio::task::yield_now().await;
        }
        drop(first);
        assert!(known.await.expect("no panic"));
        for waiting in crowd {
            assert!(waiting.await.expect("no panic"));
        }
    }
}
