//! Events of clients at a steady rate: each goes to all others of its private channel.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Workload;
use super::fanout::QUIET_TIMEOUT;
use crate::generator::Generator;
use crate::measure::Window;
use crate::process::Server;
use crate::report::Figure;
use crate::tally::Tally;
use crate::target::Target;

/// Paced events of clients.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientEvents {
    /// Clients, spread evenly over the channels, who take turns.
    #[arg(long, default_value_t = Self::default().subscribers)]
    pub(crate) subscribers: usize,
    /// Private channels.
    #[arg(long, default_value_t = Self::default().channels)]
    pub(crate) channels: usize,
    /// Events a second, over all clients. Pusher allows each client ten.
    #[arg(long, default_value_t = Self::default().rate)]
    pub(crate) rate: u32,
    /// Seconds to measure, after one second of warm-up.
    #[arg(long, default_value_t = Self::default().seconds)]
    pub(crate) seconds: u32,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = Self::default().payload)]
    pub(crate) payload: usize,
}

impl Default for ClientEvents {
    fn default() -> Self {
        Self {
            subscribers: 500,
            channels: 50,
            rate: 2000,
            seconds: 5,
            payload: 100,
        }
    }
}

impl Workload for ClientEvents {
    fn title(&self) -> String {
        format!(
            "client events: {} clients on {} private channels, {} events/s for {} s",
            self.subscribers, self.channels, self.rate, self.seconds
        )
    }

    fn run(&self, server: &Server) -> Result<Vec<Figure>> {
        ensure!(
            self.channels > 0 && self.rate > 0 && self.subscribers.is_multiple_of(self.channels),
            "clients must spread evenly over the channels"
        );
        let target = &server.target;
        let mut generator = Generator::new(target)?;
        generator.subscribe((0..self.subscribers).map(|at| self.channel(at)))?;
        let turns = |events: u32| (events as usize).div_ceil(self.channels) * self.channels;
        let (warm_up, measured) = (turns(self.rate), turns(self.rate * self.seconds));
        self.pace(&mut generator, 0, warm_up)?;
        let window = Window::begin(&target.pids)?;
        let tally = self.pace(&mut generator, warm_up, measured)?;
        let spent = window.end()?;
        let mut figures = tally.figures();
        figures.extend([
            Figure::new(
                "CPU per delivery, us",
                spent.server_micros_per(tally.delivered()),
                3,
            ),
            Figure::new(
                "CPU per event, us",
                spent.server_micros_per(measured as u64),
                1,
            ),
            Figure::new("server CPU, cores", spent.server_share(), 2),
        ]);
        figures.extend(spent.generator());
        Ok(figures)
    }
}

impl ClientEvents {
    fn channel(&self, at: usize) -> String {
        format!("private-{:05}", at % self.channels)
    }

    /// Returns who sends an event: a client of its channel, another one in each turn round the channels.
    fn sender(&self, event: usize) -> usize {
        let turn = event / self.channels;
        event % self.channels + turn % (self.subscribers / self.channels) * self.channels
    }

    /// Sends so many events at the rate, numbered from `first`, and waits for their deliveries.
    fn pace(&self, generator: &mut Generator, first: usize, events: usize) -> Result<Tally> {
        let mut tally = Tally::new(
            self.subscribers,
            self.channels,
            u32::try_from(first)?,
            events,
        );
        let interval = Duration::from_secs(1) / self.rate;
        let mut due = Instant::now();
        let mut unsent = first..first + events;
        loop {
            let now = Instant::now();
            while due <= now
                && let Some(event) = unsent.next()
            {
                let sender = self.sender(event);
                tally.sent(now);
                tally.excuse(sender, event);
                let number = u32::try_from(event)?;
                let message = Target::client_event(&self.channel(event), number, self.payload);
                generator.subscribers().send(sender, &message)?;
                due += interval;
            }
            let is_over = tally.is_complete() || tally.quiet_for(now) > QUIET_TIMEOUT;
            if unsent.is_empty() && is_over {
                return Ok(tally);
            }
            let wait = due.saturating_duration_since(now);
            generator.turn(wait.min(Duration::from_millis(100)), &mut tally)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_an_events_channel_take_turns() {
        let events = ClientEvents {
            subscribers: 6,
            channels: 2,
            ..ClientEvents::default()
        };
        let senders: Vec<usize> = (0..8).map(|event| events.sender(event)).collect();
        assert_eq!(senders, [0, 1, 2, 3, 4, 5, 0, 1]);
    }
}
