//! Publishing to channels without subscribers: what a request costs.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Workload;
use crate::generator::{Generator, Watch};
use crate::measure::{Spent, Window};
use crate::process::Server;
use crate::report::Figure;
use crate::target::Target;

pub(super) const WARM_UP: Duration = Duration::from_secs(1);
/// Number of requests that are signed before the measurement. They are sent again once all were sent.
const SIGNED: u32 = 4096;

/// Signed requests, nobody subscribed.
#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// Keep-alive connections, each with one request in flight.
    #[arg(long, default_value_t = Self::default().connections)]
    pub(crate) connections: usize,
    /// Seconds to measure, after one second of warm-up.
    #[arg(long, default_value_t = Self::default().seconds)]
    pub(crate) seconds: u64,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = Self::default().payload)]
    pub(crate) payload: usize,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            connections: 16,
            seconds: 5,
            payload: 100,
        }
    }
}

#[derive(Default)]
struct Answers {
    count: u64,
    idle: Vec<usize>,
}

impl Watch for Answers {
    fn delivered(&mut self, _subscriber: usize, _sequence: u32, _at: Instant) {}

    fn answered(&mut self, publisher: usize) {
        self.count += 1;
        self.idle.push(publisher);
    }
}

impl Workload for Publish {
    fn title(&self) -> String {
        format!(
            "publish: {} connections, nobody subscribed, for {} s",
            self.connections, self.seconds
        )
    }

    fn run(&self, server: &Server) -> Result<Vec<Figure>> {
        let target = &server.target;
        let sign = |sequence| target.publish("bench-00000", sequence, self.payload);
        let time = Duration::from_secs(self.seconds);
        let (count, spent) = repeat(target, self.connections, [WARM_UP, time], sign)?;
        let mut figures = vec![
            Figure::new("requests/s", spent.rate(count), 0),
            Figure::new("CPU per request, us", spent.server_micros_per(count), 2),
            Figure::new("server CPU, cores", spent.server_share(), 2),
        ];
        figures.extend(spent.generator());
        Ok(figures)
    }
}

/// Sends requests as fast as they are answered, for two times of which the second is measured. Returns how many, and
/// what they cost.
pub(crate) fn repeat(
    target: &Target,
    connections: usize,
    [warm_up, time]: [Duration; 2],
    sign: impl Fn(u32) -> Vec<u8>,
) -> Result<(u64, Spent)> {
    let signed: Vec<Vec<u8>> = (0..SIGNED).map(sign).collect();
    let mut requests = signed.iter().cycle();
    let mut generator = Generator::new(target)?;
    generator.open_publishers(connections)?;
    let mut answers = Answers {
        count: 0,
        idle: (0..connections).collect(),
    };
    let mut run_for = |time: Duration| -> Result<u64> {
        let (before, until) = (answers.count, Instant::now() + time);
        while Instant::now() < until {
            for publisher in answers.idle.drain(..) {
                let request = requests.next().map_or(&[][..], Vec::as_slice);
                generator.publishers().send(publisher, request)?;
            }
            generator.turn(Duration::from_millis(100), &mut answers)?;
        }
        Ok(answers.count - before)
    };
    run_for(warm_up)?;
    let window = Window::begin(&target.pids)?;
    let count = run_for(time)?;
    Ok((count, window.end()?))
}
