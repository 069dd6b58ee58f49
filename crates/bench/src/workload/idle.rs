//! Many connections that do nothing, each on a private channel of its own: what one costs in memory.

use std::time::Duration;

use anyhow::Result;

use super::Workload;
use crate::generator::{Generator, publish_and_wait};
use crate::measure::{Window, as_f64, per, resident_kib};
use crate::process::Server;
use crate::report::Figure;
use crate::target::Target;

/// Channels of one request, as Pusher allows.
const CHANNELS_OF_A_PUBLISH: usize = 100;

/// Memory of idle connections.
#[derive(Debug, clap::Args)]
pub(crate) struct Idle {
    /// Connections, each on a private channel of its own.
    #[arg(long, default_value_t = Self::default().connections)]
    pub(crate) connections: usize,
    /// Seconds between the last subscription and reading the server's memory.
    #[arg(long, default_value_t = Self::default().settle)]
    pub(crate) settle: u64,
    /// Events that each connection receives before that.
    #[arg(long, default_value_t = Self::default().events)]
    pub(crate) events: u32,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            connections: 10_000,
            settle: 2,
            events: 0,
        }
    }
}

/// Returns the name of a connection's own channel.
pub(crate) fn channel(at: usize) -> String {
    format!("private-{at:08}")
}

/// Returns which share of the memory that was taken is kept.
pub(crate) fn kept_share(before: u64, after: u64, kept: u64) -> f64 {
    per(as_f64(kept) - as_f64(before), after.saturating_sub(before))
}

/// Sends so many events to each of the connections, each on its own channel.
pub(crate) fn deliver_to_each(
    generator: &mut Generator,
    target: &Target,
    connections: usize,
    events: u32,
) -> Result<()> {
    if events == 0 {
        return Ok(());
    }
    generator.open_publishers(1)?;
    let channels: Vec<String> = (0..connections).map(channel).collect();
    for sequence in 0..events {
        for some in channels.chunks(CHANNELS_OF_A_PUBLISH) {
            let request = target.publish_to_all(some, sequence, 100);
            publish_and_wait(generator, &request, some.len())?;
        }
    }
    Ok(())
}

impl Workload for Idle {
    fn title(&self) -> String {
        format!(
            "idle: {} connections, each on a private channel of its own",
            self.connections
        )
    }

    fn run(&self, server: &Server) -> Result<Vec<Figure>> {
        let target = &server.target;
        let mut generator = Generator::new(target)?;
        let before = resident_kib(&target.pids)?;
        let window = Window::begin(&target.pids)?;
        generator.subscribe((0..self.connections).map(channel))?;
        let spent = window.end()?;
        deliver_to_each(&mut generator, target, self.connections, self.events)?;
        let settle = Duration::from_secs(self.settle);
        generator.idle_for(settle)?;
        let after = resident_kib(&target.pids)?;
        drop(generator);
        std::thread::sleep(settle);
        let kept = resident_kib(&target.pids)?;
        let count = self.connections as u64;
        let grown = as_f64(after) - as_f64(before);
        Ok(vec![
            Figure::new("KiB per connection", per(grown, count), 2),
            Figure::new("resident before, MiB", as_f64(before) / 1024.0, 1),
            Figure::new("resident after, MiB", as_f64(after) / 1024.0, 1),
            Figure::new("CPU per connection, us", spent.server_micros_per(count), 1),
            Figure::new(
                "kept after all closed, %",
                100.0 * kept_share(before, after, kept),
                0,
            ),
        ])
    }

    /// Returns true, because memory that one round freed would serve the next.
    fn needs_fresh_server(&self) -> bool {
        true
    }
}
