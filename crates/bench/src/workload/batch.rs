//! Several events in one request, to channels without subscribers: what an event costs.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Workload;
use super::publish::{WARM_UP, repeat};
use crate::process::Server;
use crate::report::Figure;

/// Signed requests with several events each, nobody subscribed.
#[derive(Debug, clap::Args)]
pub(crate) struct Batch {
    /// Keep-alive connections, each with one request in flight.
    #[arg(long, default_value_t = Self::default().connections)]
    pub(crate) connections: usize,
    /// Events of a request; Pusher allows ten.
    #[arg(long, default_value_t = Self::default().events)]
    pub(crate) events: usize,
    /// Seconds to measure, after one second of warm-up.
    #[arg(long, default_value_t = Self::default().seconds)]
    pub(crate) seconds: u64,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = Self::default().payload)]
    pub(crate) payload: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            connections: 16,
            events: 10,
            seconds: 5,
            payload: 100,
        }
    }
}

impl Workload for Batch {
    fn title(&self) -> String {
        format!(
            "batch: {} connections, {} events in a request, nobody subscribed, for {} s",
            self.connections, self.events, self.seconds
        )
    }

    fn run(&self, server: &Server) -> Result<Vec<Figure>> {
        ensure!(self.events > 0, "a batch needs events");
        let target = &server.target;
        let channels: Vec<String> = (0..self.events)
            .map(|at| format!("bench-{at:05}"))
            .collect();
        let sign = |request| {
            let first = request * u32::try_from(self.events).unwrap_or(1);
            target.publish_batch(&channels, first, self.payload)
        };
        let time = Duration::from_secs(self.seconds);
        let (count, spent) = repeat(target, self.connections, [WARM_UP, time], sign)?;
        let events = count * self.events as u64;
        let mut figures = vec![
            Figure::new("events/s", spent.rate(events), 0),
            Figure::new("CPU per event, us", spent.server_micros_per(events), 2),
            Figure::new("CPU per request, us", spent.server_micros_per(count), 2),
            Figure::new("server CPU, cores", spent.server_share(), 2),
        ];
        figures.extend(spent.generator());
        Ok(figures)
    }
}
