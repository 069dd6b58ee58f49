//! The load generator's loop: one epoll thread for subscribers and publishers alike.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mio::{Events, Poll, Token};

use crate::publishers::Publishers;
use crate::subscribers::Subscribers;
use crate::target::Target;

/// If nothing arrives for this long, something was lost.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes in flight while connecting. Many servers have an accept queue of 128, and an overflow costs a second.
const WINDOW: usize = 100;
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// Subscriptions of connections that are there already, in flight.
const FURTHER_WINDOW: usize = 1000;
/// Tokens from here on are publishers.
const PUBLISHERS: usize = 1 << 32;

/// Callbacks of a workload.
pub(crate) trait Watch {
    /// Called when a subscriber has received the event with this number.
    fn delivered(&mut self, subscriber: usize, sequence: u32, at: Instant);
    /// Called when a publisher's request was answered with success.
    fn answered(&mut self, publisher: usize);
    /// Called when a subscriber has received another message of the protocol, such as who joined a presence channel.
    fn told(&mut self, _subscriber: usize, _message: &[u8]) {}
}

/// A watch that ignores everything.
pub(crate) struct Ignore;

impl Watch for Ignore {
    fn delivered(&mut self, _subscriber: usize, _sequence: u32, _at: Instant) {}
    fn answered(&mut self, _publisher: usize) {}
}

/// One event that is to be answered and to reach so many subscribers.
struct InFlight {
    answered: bool,
    missing: usize,
}

impl Watch for InFlight {
    fn delivered(&mut self, _subscriber: usize, _sequence: u32, _at: Instant) {
        self.missing = self.missing.saturating_sub(1);
    }

    fn answered(&mut self, _publisher: usize) {
        self.answered = true;
    }
}

/// Publishes on the first publisher, and waits for the answer and for all deliveries.
pub(crate) fn publish_and_wait(
    generator: &mut Generator,
    request: &[u8],
    deliveries: usize,
) -> Result<()> {
    generator.publishers().send(0, request)?;
    let mut flight = InFlight {
        answered: false,
        missing: deliveries,
    };
    let mut moved = (deliveries, Instant::now());
    while !flight.answered || flight.missing > 0 {
        generator.turn(Duration::from_millis(100), &mut flight)?;
        if flight.missing < moved.0 {
            moved = (flight.missing, Instant::now());
        }
        ensure!(
            moved.1.elapsed() < DELIVERY_TIMEOUT,
            "nothing arrived for {DELIVERY_TIMEOUT:?}, and {} of {deliveries} deliveries are missing",
            flight.missing
        );
    }
    Ok(())
}

/// All connections to one server.
pub(crate) struct Generator {
    poll: Poll,
    events: Events,
    subscribers: Subscribers,
    publishers: Publishers,
}

impl Generator {
    /// Creates a generator without connections.
    pub(crate) fn new(target: &Target) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            subscribers: Subscribers::new(target.clone()),
            publishers: Publishers::new(target.clone()),
        })
    }

    /// Connects a subscriber for each channel name, and waits until all are subscribed.
    pub(crate) fn subscribe(
        &mut self,
        channels: impl ExactSizeIterator<Item = String>,
    ) -> Result<()> {
        self.subscribe_at_once(WINDOW, channels)
    }

    /// Does the same with up to `window` handshakes in flight.
    pub(crate) fn subscribe_at_once(
        &mut self,
        window: usize,
        channels: impl ExactSizeIterator<Item = String>,
    ) -> Result<()> {
        let started = Instant::now();
        let total = self.subscribers.len() + channels.len();
        let mut channels = channels.fuse();
        while self.subscribers.live() < total {
            while self.subscribers.pending() < window
                && let Some(channel) = channels.next()
            {
                let token = Token(self.subscribers.len());
                self.subscribers.open(&self.poll, token, channel)?;
            }
            self.turn(Duration::from_millis(100), &mut Ignore)?;
            ensure!(
                started.elapsed() < CONNECT_LIMIT,
                "only {} of {total} connections were subscribed within {CONNECT_LIMIT:?}",
                self.subscribers.live()
            );
        }
        Ok(())
    }

    /// Subscribes connections to further channels, as (connection, channel), and waits until all are confirmed.
    pub(crate) fn subscribe_further(
        &mut self,
        subscriptions: impl ExactSizeIterator<Item = (usize, String)>,
    ) -> Result<()> {
        let started = Instant::now();
        let total = self.subscribers.confirmed() + subscriptions.len();
        let mut subscriptions = subscriptions.fuse();
        let mut asked = self.subscribers.confirmed();
        while self.subscribers.confirmed() < total {
            while asked < self.subscribers.confirmed() + FURTHER_WINDOW
                && let Some((subscriber, channel)) = subscriptions.next()
            {
                self.subscribers.subscribe(subscriber, &channel)?;
                asked += 1;
            }
            self.turn(Duration::from_millis(100), &mut Ignore)?;
            ensure!(
                started.elapsed() < CONNECT_LIMIT,
                "only {} of {total} subscriptions were confirmed within {CONNECT_LIMIT:?}",
                self.subscribers.confirmed()
            );
        }
        Ok(())
    }

    /// Returns the subscribers.
    pub(crate) fn subscribers(&mut self) -> &mut Subscribers {
        &mut self.subscribers
    }

    /// Opens keep-alive connections to publish on.
    pub(crate) fn open_publishers(&mut self, count: usize) -> Result<()> {
        (0..count).try_for_each(|at| self.publishers.open(&self.poll, Token(PUBLISHERS + at)))
    }

    /// Returns the connections to publish on.
    pub(crate) fn publishers(&mut self) -> &mut Publishers {
        &mut self.publishers
    }

    /// Reads, and answers PINGs, for a time.
    pub(crate) fn idle_for(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.turn(left.min(Duration::from_millis(100)), &mut Ignore)?;
        }
        Ok(())
    }

    /// Waits for something to arrive, at most `timeout`, and tells the watch.
    pub(crate) fn turn(&mut self, timeout: Duration, watch: &mut impl Watch) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &self.events {
            match event.token().0 {
                publisher if publisher >= PUBLISHERS => {
                    self.publishers.ready(publisher - PUBLISHERS, watch)?;
                }
                subscriber => self.subscribers.ready(subscriber, watch)?,
            }
        }
        Ok(())
    }
}
