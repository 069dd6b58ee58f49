//! The clients and the backend of a soak: who does what, and when.

use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mio::{Events, Poll, Token};

use super::Load;
use super::check::{Faults, Seen};
use super::client::{Client, Names};
use crate::generator::Watch;
use crate::publishers::Publishers;
use crate::target::Target;

/// Channels of each kind.
const CHANNELS: usize = 10;
/// Connections of the backend. A channel's events all go over the same one, so that their order is defined.
const PUBLISHERS: usize = 4;
const FIRST_PUBLISHER: usize = 1 << 32;
/// One client of so many never leaves.
const RESIDENTS: usize = 5;
/// The longest that a client stays away, in milliseconds.
const AWAY: u64 = 2000;
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Larger than what comes in one message.
const BUFFER: usize = 256 * 1024;

/// All clients, and the backend.
pub(crate) struct Crowd {
    target: Target,
    load: Load,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    clients: Vec<Place>,
    publishers: Publishers,
    queues: Vec<VecDeque<Vec<u8>>>,
    /// Events that were published on each channel, rooms first.
    published: Vec<u32>,
    due: Due,
    random: Random,
    faults: Faults,
    counts: Counts,
}

/// A client, or when it comes back.
enum Place {
    Here(Box<Client>),
    Away { until: Instant, seen: Seen },
}

/// When the next of each is due.
struct Due {
    event: Instant,
    client_event: Instant,
    churn: Instant,
}

#[derive(Default)]
struct Counts {
    published: u64,
    sent: u64,
    received: u64,
    connected: u64,
    recovered: u64,
    joined: u64,
}

impl Crowd {
    /// Connects all, and waits until they are subscribed.
    pub(crate) fn gather(target: &Target, load: Load) -> Result<Self> {
        ensure!(
            load.clients > 0 && load.rate > 0,
            "there must be clients and events"
        );
        let poll = Poll::new()?;
        let mut publishers = Publishers::new(target.clone());
        for at in 0..PUBLISHERS {
            publishers.open(&poll, Token(FIRST_PUBLISHER + at))?;
        }
        let now = Instant::now();
        let away = || Place::Away {
            until: now,
            seen: Seen::default(),
        };
        let mut crowd = Self {
            target: target.clone(),
            clients: (0..load.clients).map(|_| away()).collect(),
            load,
            poll,
            events: Events::with_capacity(1024),
            buffer: vec![0; BUFFER],
            publishers,
            queues: vec![VecDeque::new(); PUBLISHERS],
            published: vec![0; 2 * CHANNELS],
            due: Due {
                event: now,
                client_event: now,
                churn: now,
            },
            random: Random(0x9e37_79b9_7f4a_7c15),
            faults: Faults::default(),
            counts: Counts::default(),
        };
        crowd.wait_for_all()?;
        Ok(crowd)
    }

    /// Goes on for a time.
    pub(crate) fn run_for(&mut self, time: Duration) -> Result<()> {
        let now = Instant::now();
        let until = now + time;
        // Nothing is made up for that was due while this process got no CPU.
        self.due.event = self.due.event.max(now);
        self.due.client_event = self.due.client_event.max(now);
        self.due.churn = self.due.churn.max(now);
        while Instant::now() < until {
            self.publish_due();
            self.send_due()?;
            self.churn_due()?;
            self.turn()?;
        }
        Ok(())
    }

    /// Lets all come back, waits for what is on its way, and checks what each has.
    pub(crate) fn finish(&mut self, quiet: Duration) -> Result<()> {
        self.wait_for_all()?;
        let mut received = (self.counts.received, Instant::now());
        while received.1.elapsed() < quiet || self.queues.iter().any(|queue| !queue.is_empty()) {
            self.turn()?;
            if self.counts.received > received.0 {
                received = (self.counts.received, Instant::now());
            }
        }
        let members: Vec<HashSet<String>> = (0..CHANNELS).map(|at| self.members(at)).collect();
        for (at, place) in self.clients.iter().enumerate() {
            let Place::Here(client) = place else {
                continue;
            };
            let channel = at % CHANNELS;
            let seen = [client.seen.room, client.seen.plain];
            let names = [&client.names().room, &client.names().plain];
            let published = [self.published[channel], self.published[CHANNELS + channel]];
            for ((seen, name), published) in seen.into_iter().zip(names).zip(published) {
                let missing = seen.map_or(0, |seen| published - seen - 1);
                if missing > 0 {
                    self.faults
                        .lost(missing.into(), &format!("{name}: the last {missing}"));
                }
            }
            if client
                .seen
                .members
                .as_ref()
                .is_some_and(|seen| *seen != members[channel])
            {
                let name = &client.names().presence;
                self.faults.other(&format!(
                    "the members of {name} are not those that a client knows"
                ));
            }
        }
        Ok(())
    }

    /// Returns what was done.
    pub(crate) fn counts(&self) -> String {
        let Counts {
            published,
            sent,
            received,
            connected,
            recovered,
            joined,
        } = self.counts;
        format!(
            "{published} events published, {sent} sent by clients, {received} received, \
             {connected} connects, {recovered} recoveries, {joined} joins and leaves"
        )
    }

    /// Returns what was wrong.
    pub(crate) fn into_faults(self) -> Faults {
        self.faults
    }

    fn members(&self, channel: usize) -> HashSet<String> {
        let places = self.clients.iter().skip(channel).step_by(CHANNELS);
        let members = places.filter_map(|place| match place {
            Place::Here(client) if client.is_member => client.id.clone(),
            Place::Here(_) | Place::Away { .. } => None,
        });
        members.collect()
    }

    fn wait_for_all(&mut self) -> Result<()> {
        let started = Instant::now();
        while !self.clients.iter().all(is_subscribed) {
            self.turn()?;
            ensure!(
                started.elapsed() < CONNECT_LIMIT,
                "not all clients are subscribed within {CONNECT_LIMIT:?}"
            );
        }
        Ok(())
    }

    fn publish_due(&mut self) {
        let now = Instant::now();
        while self.due.event <= now {
            self.due.event += Duration::from_secs(1) / self.load.rate;
            let at = self.random.below(2 * CHANNELS);
            let number = self.published[at];
            self.published[at] += 1;
            self.counts.published += 1;
            let names = names(at);
            let channel = if at < CHANNELS {
                names.room
            } else {
                names.plain
            };
            let request = self.target.publish_text(&channel, &number.to_string());
            self.queues[at % PUBLISHERS].push_back(request);
        }
    }

    fn send_due(&mut self) -> Result<()> {
        let now = Instant::now();
        while self.load.client_rate > 0 && self.due.client_event <= now {
            self.due.client_event += Duration::from_secs(1) / self.load.client_rate;
            let at = self.random.below(self.clients.len());
            if let Place::Here(client) = &mut self.clients[at]
                && client.subscribed >= 3
            {
                client.send_event()?;
                self.counts.sent += 1;
            }
        }
        Ok(())
    }

    /// Cuts connections, lets clients leave for good, or lets members come and go.
    fn churn_due(&mut self) -> Result<()> {
        let now = Instant::now();
        while self.load.churn > 0 && self.due.churn <= now {
            self.due.churn += Duration::from_secs(1) / self.load.churn;
            let at = self.random.below(self.clients.len());
            let what = self.random.below(4);
            if at.is_multiple_of(RESIDENTS) || !is_subscribed(&self.clients[at]) {
                continue;
            }
            let Place::Here(client) = &mut self.clients[at] else {
                continue;
            };
            if what == 3 {
                client.toggle_membership(&self.target)?;
                self.counts.joined += 1;
                continue;
            }
            let seen = if what == 2 {
                Seen::default()
            } else {
                client.seen.carried_over()
            };
            let away = Duration::from_millis(self.random.below(usize::try_from(AWAY)?) as u64);
            self.clients[at] = Place::Away {
                until: now + away,
                seen,
            };
        }
        Ok(())
    }

    /// Connects those who are due, sends what waits, and handles what has come.
    fn turn(&mut self) -> Result<()> {
        self.connect_due()?;
        for (publisher, queue) in self.queues.iter_mut().enumerate() {
            if !self.publishers.is_busy(publisher)
                && let Some(request) = queue.pop_front()
            {
                self.publishers.send(publisher, &request)?;
            }
        }
        match self
            .poll
            .poll(&mut self.events, Some(Duration::from_millis(5)))
        {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &self.events {
            let token = event.token().0;
            if token >= FIRST_PUBLISHER {
                self.publishers
                    .ready(token - FIRST_PUBLISHER, &mut Answers)?;
            } else if let Place::Here(client) = &mut self.clients[token] {
                let read = client.ready(&self.target, &mut self.buffer, &mut self.faults);
                self.counts.received += read.with_context(|| format!("client {token}"))?;
            }
        }
        Ok(())
    }

    fn connect_due(&mut self) -> Result<()> {
        let now = Instant::now();
        for (at, place) in self.clients.iter_mut().enumerate() {
            let Place::Away { until, seen } = place else {
                continue;
            };
            if *until > now {
                continue;
            }
            let seen = std::mem::take(seen);
            self.counts.connected += 1;
            self.counts.recovered += u64::from(seen.position.is_some());
            let client = Client::connect(
                &self.target,
                self.counts.connected,
                names(at),
                seen,
                &self.poll,
                Token(at),
            )?;
            *place = Place::Here(Box::new(client));
        }
        Ok(())
    }
}

fn is_subscribed(place: &Place) -> bool {
    matches!(place, Place::Here(client) if client.subscribed >= 3 && (!client.is_member || client.seen.members.is_some()))
}

fn names(at: usize) -> Names {
    let at = at % CHANNELS;
    Names {
        room: format!("private-room-{at}"),
        plain: format!("private-plain-{at}"),
        presence: format!("presence-{at}"),
    }
}

/// Answers need no more than to be there.
struct Answers;

impl Watch for Answers {
    fn delivered(&mut self, _subscriber: usize, _sequence: u32, _at: Instant) {}
    fn answered(&mut self, _publisher: usize) {}
}

/// Numbers that look random and are the same in every run (xorshift), for which a crate would be too much.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap_or(0)
    }
}
