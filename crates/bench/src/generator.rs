//! The load generator's loop: one epoll thread for subscribers and publishers alike.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mio::{Events, Poll, Token};

use crate::publishers::Publishers;
use crate::subscribers::Subscribers;
use crate::target::Target;

/// Handshakes in flight while connecting. Many servers have an accept queue of 128, and an overflow costs a second.
const WINDOW: usize = 100;
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// Tokens from here on are publishers.
const PUBLISHERS: usize = 1 << 32;

/// Callbacks of a workload.
pub(crate) trait Watch {
    /// Called when a subscriber has received the event with this number.
    fn delivered(&mut self, subscriber: usize, sequence: u32, at: Instant);
    /// Called when a publisher's request was answered with success.
    fn answered(&mut self, publisher: usize);
}

/// A watch that ignores everything.
pub(crate) struct Ignore;

impl Watch for Ignore {
    fn delivered(&mut self, _subscriber: usize, _sequence: u32, _at: Instant) {}
    fn answered(&mut self, _publisher: usize) {}
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
        let (total, started) = (channels.len(), Instant::now());
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

    /// Opens keep-alive connections to publish on.
    pub(crate) fn open_publishers(&mut self, count: usize) -> Result<()> {
        (0..count).try_for_each(|at| self.publishers.open(&self.poll, Token(PUBLISHERS + at)))
    }

    /// Returns the connections to publish on.
    pub(crate) fn publishers(&mut self) -> &mut Publishers {
        &mut self.publishers
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
