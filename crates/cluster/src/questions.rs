//! Questions of this node that wait for answers, those of others that it answers, and what the other
//! nodes are called.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_engine::NoAnswer;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use crate::message::{Answer, Heartbeat};
use crate::peers::process;

/// Most questions of other nodes that this one answers at once. Further ones wait.
const ANSWERED_AT_ONCE: usize = 16;
/// Most questions of other nodes that wait to be answered. Further ones get no answer.
const MAX_WAITING: usize = 64;
/// Most processes whose names are kept, those of nodes that are gone included.
const MAX_NAMES: usize = 1024;

/// What a node keeps for questions.
#[derive(Debug)]
pub(crate) struct Questions {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<Received>>>,
    /// The name of each process for people.
    names: Mutex<HashMap<String, String>>,
    pub(crate) answering: Semaphore,
    pub(crate) accepted: Arc<Semaphore>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) process: String,
    pub(crate) answer: Result<String, NoAnswer>,
}

impl Default for Questions {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
            names: Mutex::default(),
            answering: Semaphore::new(ANSWERED_AT_ONCE),
            accepted: Arc::new(Semaphore::new(ANSWERED_AT_ONCE + MAX_WAITING)),
        }
    }
}

impl Questions {
    /// Notes what a node is called.
    pub(crate) fn note_name(&self, beat: &Heartbeat) {
        let Some(shown) = &beat.shown else {
            return;
        };
        let mut names = self.names.lock();
        let process = process(&beat.node);
        if names.get(process) == Some(shown) {
            return;
        }
        if names.len() >= MAX_NAMES {
            // Names of nodes that are here come again with their next heartbeats.
            names.clear();
        }
        names.insert(process.to_owned(), shown.clone());
    }

    /// Returns what a process is called: its own name if it told none.
    pub(crate) fn name_of(&self, process: &str) -> String {
        let names = self.names.lock();
        names.get(process).map_or(process, String::as_str).into()
    }

    /// Returns what all known processes are called.
    pub(crate) fn all_names(&self) -> HashMap<String, String> {
        self.names.lock().clone()
    }

    /// Hands an answer to its question, if one waits for it.
    pub(crate) fn receive(&self, answer: &Answer<'_>) {
        if let Some(sender) = self.waiting.lock().get(&answer.id) {
            // A full queue has as many answers as nodes were asked.
            let _ = sender.try_send(Received {
                process: answer.from.to_owned(),
                answer: answer.answer.map(str::to_owned),
            });
        }
    }

    /// Creates a question for at most `answers` answers.
    pub(crate) fn begin(&self, answers: usize) -> Asked<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answers) = mpsc::channel(answers.max(1));
        self.waiting.lock().insert(id, sender);
        Asked {
            questions: self,
            id,
            answers,
        }
    }
}

/// A question, until it is dropped.
pub(crate) struct Asked<'a> {
    questions: &'a Questions,
    pub(crate) id: u64,
    pub(crate) answers: mpsc::Receiver<Received>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.questions.waiting.lock().remove(&self.id);
    }
}
