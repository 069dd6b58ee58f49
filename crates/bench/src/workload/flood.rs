//! One channel as fast as it goes: an event is published once an older one was answered and has reached all
//! subscribers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Workload;
use crate::generator::{Generator, Watch};
use crate::measure::{Window, per};
use crate::process::Server;
use crate::report::Figure;
use crate::target::Target;

const CHANNEL: &str = "bench-00000";
const WARM_UP: Duration = Duration::from_secs(1);
/// If nothing arrives for this long, something was lost.
const STALL: Duration = Duration::from_secs(5);

/// Closed loop on one channel.
#[derive(Debug, clap::Args)]
pub(crate) struct Flood {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = Self::default().subscribers)]
    pub(crate) subscribers: usize,
    /// Events in flight, each on a connection of its own.
    #[arg(long, default_value_t = Self::default().window)]
    pub(crate) window: usize,
    /// Seconds to measure, after one second of warm-up.
    #[arg(long, default_value_t = Self::default().seconds)]
    pub(crate) seconds: u64,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = Self::default().payload)]
    pub(crate) payload: usize,
}

impl Default for Flood {
    fn default() -> Self {
        Self {
            subscribers: 1000,
            window: 64,
            seconds: 8,
            payload: 100,
        }
    }
}

impl Workload for Flood {
    fn title(&self) -> String {
        format!(
            "flood: {} subscribers on one channel, {} events in flight, for {} s",
            self.subscribers, self.window, self.seconds
        )
    }

    fn run(&self, server: &Server) -> Result<Vec<Figure>> {
        ensure!(
            self.subscribers > 0 && self.window > 0,
            "there must be subscribers and events in flight"
        );
        let target = &server.target;
        let mut generator = Generator::new(target)?;
        generator.subscribe((0..self.subscribers).map(|_| CHANNEL.to_owned()))?;
        generator.open_publishers(self.window)?;
        let mut flight = Flight::new(self.window, self.subscribers);
        self.run_for(WARM_UP, &mut generator, &mut flight, target)?;
        let (delivered, published) = (flight.delivered, flight.published);
        let window = Window::begin(&target.pids)?;
        let time = Duration::from_secs(self.seconds);
        self.run_for(time, &mut generator, &mut flight, target)?;
        let spent = window.end()?;
        let (delivered, published) = (flight.delivered - delivered, flight.published - published);
        let own = spent.own.as_secs_f64() * 1e6;
        let mut figures = vec![
            Figure::new("deliveries/s", spent.rate(delivered), 0),
            Figure::new(
                "CPU per delivery, us",
                spent.server_micros_per(delivered),
                3,
            ),
            Figure::new("published events/s", spent.rate(published), 0),
            Figure::new("server CPU, cores", spent.server_share(), 2),
            Figure::new("generator CPU/delivery, us", per(own, delivered), 3),
        ];
        figures.extend(spent.generator());
        Ok(figures)
    }
}

impl Flood {
    fn run_for(
        &self,
        time: Duration,
        generator: &mut Generator,
        flight: &mut Flight,
        target: &Target,
    ) -> Result<()> {
        let until = Instant::now() + time;
        let mut moved = (flight.delivered, Instant::now());
        while Instant::now() < until {
            while let Some((slot, sequence)) = flight.next() {
                let request = target.publish(CHANNEL, sequence, self.payload);
                generator.publishers().send(slot, &request)?;
            }
            generator.turn(Duration::from_millis(100), flight)?;
            if flight.delivered > moved.0 {
                moved = (flight.delivered, Instant::now());
            }
            ensure!(
                moved.1.elapsed() < STALL,
                "nothing arrived for {STALL:?} while {} events were in flight: deliveries were lost",
                self.window
            );
        }
        Ok(())
    }
}

/// The events in flight.
struct Flight {
    slots: Vec<Slot>,
    /// Slots whose event was answered and has reached all subscribers.
    free: Vec<usize>,
    subscribers: usize,
    delivered: u64,
    published: u64,
}

/// A slot for one event in flight. The event's number leads to its slot: slot `s` of `n` takes the numbers `s`, `s+n`,
/// `s+2n`.
struct Slot {
    sequence: u32,
    answered: bool,
    missing: usize,
}

impl Flight {
    fn new(window: usize, subscribers: usize) -> Self {
        let first = |sequence| Slot {
            sequence,
            answered: true,
            missing: 0,
        };
        Self {
            slots: (0..).take(window).map(first).collect(),
            free: (0..window).collect(),
            subscribers,
            delivered: 0,
            published: 0,
        }
    }

    /// Takes a free slot, and returns it with its next number.
    fn next(&mut self) -> Option<(usize, u32)> {
        let at = self.free.pop()?;
        let step = u32::try_from(self.slots.len()).expect("a window is small");
        let slot = &mut self.slots[at];
        slot.sequence += step;
        slot.answered = false;
        slot.missing = self.subscribers;
        self.published += 1;
        Some((at, slot.sequence))
    }
}

impl Watch for Flight {
    fn delivered(&mut self, _subscriber: usize, sequence: u32, _at: Instant) {
        let at = sequence as usize % self.slots.len();
        let slot = &mut self.slots[at];
        if slot.sequence != sequence || slot.missing == 0 {
            return;
        }
        self.delivered += 1;
        slot.missing -= 1;
        if slot.missing == 0 && slot.answered {
            self.free.push(at);
        }
    }

    fn answered(&mut self, publisher: usize) {
        let slot = &mut self.slots[publisher];
        slot.answered = true;
        if slot.missing == 0 {
            self.free.push(publisher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(flight: &mut Flight) -> Vec<u32> {
        let mut numbers: Vec<u32> = std::iter::from_fn(|| flight.next()).map(|n| n.1).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn an_event_makes_room_once_it_is_answered_and_has_reached_all() {
        let mut flight = Flight::new(2, 2);
        assert_eq!(numbers(&mut flight), [2, 3]);
        let now = Instant::now();
        flight.answered(0);
        flight.delivered(0, 2, now);
        flight.delivered(0, 3, now);
        flight.delivered(1, 3, now);
        assert!(numbers(&mut flight).is_empty());
        flight.delivered(1, 2, now);
        assert_eq!(numbers(&mut flight), [4]);
        flight.answered(1);
        assert_eq!(numbers(&mut flight), [5]);
        assert_eq!((flight.delivered, flight.published), (4, 4));
    }

    #[test]
    fn a_delivery_of_an_event_that_is_over_counts_for_nothing() {
        let mut flight = Flight::new(1, 1);
        assert_eq!(numbers(&mut flight), [1]);
        let now = Instant::now();
        flight.delivered(0, 1, now);
        flight.delivered(0, 1, now);
        flight.answered(0);
        assert_eq!(numbers(&mut flight), [2]);
        flight.delivered(0, 1, now);
        assert_eq!(flight.delivered, 1);
    }
}
