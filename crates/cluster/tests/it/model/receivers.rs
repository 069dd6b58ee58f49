//! What receivers are told of channels and members while nodes and world fail. Each node drains the transition log into
//! one store, which takes its time, and forgets now and then to settle what it has recorded.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::testing::story::{Recorded, Story, Subject, in_words, subject};
use fanfare_engine::{DueTransitions, Engine, TransitionKey};
use fanfare_protocol::AppId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use crate::sim::{Sim, trace};

/// What all recorders share: the store, and the world to compare with.
pub(crate) struct Receivers {
    sim: Sim,
    story: RefCell<Story>,
    /// When receivers were told what, in words for a failure.
    told_at: RefCell<Vec<(Instant, String)>>,
}

impl Receivers {
    pub(crate) fn new(sim: &Sim) -> Rc<Self> {
        Rc::new(Self {
            sim: sim.clone(),
            story: RefCell::default(),
            told_at: RefCell::default(),
        })
    }

    /// Records what is due on a node, until the node is gone.
    pub(crate) async fn record_on(self: Rc<Self>, engine: Arc<Engine>, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let app = AppId::parse("1").unwrap();
        let log = engine.transition_log();
        let (generations, mut armed) = (log.generations(), 0);
        loop {
            pause(&mut random).await;
            let generation = *generations.borrow();
            if generation != armed {
                if !self.arm(&engine).await {
                    continue;
                }
                armed = generation;
            }
            let Ok(read) = log.due(&app, random.random_range(1..12)).await else {
                continue;
            };
            // The store takes its time, and other nodes record meanwhile.
            pause(&mut random).await;
            let handled = self.record(&read);
            pause(&mut random).await;
            if random.random_bool(0.9) {
                let _ = log.settle(&app, handled).await;
            }
        }
    }

    /// Adds to the log what receivers are owed, and returns whether that was done.
    pub(crate) async fn arm(&self, engine: &Engine) -> bool {
        let app = AppId::parse("1").unwrap();
        let (present, newest) = {
            let story = self.story.borrow();
            (story.present(), story.newest_stamp())
        };
        let log = engine.transition_log();
        log.arm(&app, present, newest).await.is_ok()
    }

    fn record(&self, read: &DueTransitions) -> Vec<fanfare_engine::Transition> {
        let mut story = self.story.borrow_mut();
        let Recorded { events, handled } = story.record(read);
        for event in events {
            trace::line(|| format!("told under {}: {}", read.stamp, in_words(&event)));
            self.check(&event, read.stamp);
            let mut told = self.told_at.borrow_mut();
            told.push((Instant::now(), in_words(&event)));
        }
        handled
    }

    /// Nothing that is present is said to be absent.
    fn check(&self, event: &TransitionKey, stamp: i64) {
        let is_present = self.sim.with(|world| {
            let present = &world.present_at[&stamp];
            present.contains(&subject(event))
        });
        assert!(
            event.kind.is_present() || !is_present,
            "{} was told while it is there",
            in_words(event)
        );
    }

    /// What receivers believe is present.
    pub(crate) fn present(&self) -> BTreeSet<Subject> {
        let present = self.story.borrow().present();
        let subjects = present.into_iter().map(|one| (one.channel, one.user));
        subjects.collect()
    }

    /// Each channel and member comes and goes in turns. If not `all_log`, the first thing that is told may be an end,
    /// because a node that logs nothing has not told of the beginning.
    pub(crate) fn check_turns(&self, all_log: bool) {
        let story = self.story.borrow();
        let (mut present, mut known) = (BTreeSet::new(), BTreeSet::new());
        for event in &story.told {
            let is_first = known.insert(subject(event));
            let is_turn = if event.kind.is_present() {
                present.insert(subject(event))
            } else {
                present.remove(&subject(event))
            };
            let is_excused = is_first && !all_log;
            assert!(
                is_turn || is_excused,
                "{} was told out of turn",
                in_words(event)
            );
        }
    }

    /// Returns what was told since a moment.
    pub(crate) fn told_since(&self, since: Instant) -> Vec<String> {
        let told = self.told_at.borrow();
        let later = told.iter().filter(|(at, _)| *at >= since);
        later.map(|(_, words)| words.clone()).collect()
    }
}

/// Waits as long as the next step of a recorder takes.
async fn pause(random: &mut StdRng) {
    let longest = if random.random_bool(0.03) { 6000 } else { 250 };
    sleep(Duration::from_millis(random.random_range(0..longest))).await;
}
