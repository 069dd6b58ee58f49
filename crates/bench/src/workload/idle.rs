//! Many connections that do nothing, each on a private channel of its own: what one costs in memory.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Workload;
use crate::generator::{Generator, Ignore};
use crate::measure::{Window, as_f64, per, resident_kib};
use crate::process::Server;
use crate::report::Figure;

/// Memory of idle connections.
#[derive(Debug, clap::Args)]
pub(crate) struct Idle {
    /// Connections, each on a private channel of its own.
    #[arg(long, default_value_t = Self::default().connections)]
    pub(crate) connections: usize,
    /// Seconds between the last subscription and reading the server's memory.
    #[arg(long, default_value_t = Self::default().settle)]
    pub(crate) settle: u64,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            connections: 10_000,
            settle: 2,
        }
    }
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
        generator.subscribe((0..self.connections).map(|at| format!("private-{at:08}")))?;
        let spent = window.end()?;
        let until = Instant::now() + Duration::from_secs(self.settle);
        while Instant::now() < until {
            generator.turn(Duration::from_millis(100), &mut Ignore)?;
        }
        let after = resident_kib(&target.pids)?;
        let count = self.connections as u64;
        let grown = as_f64(after) - as_f64(before);
        Ok(vec![
            Figure::new("KiB per connection", per(grown, count), 2),
            Figure::new("resident before, MiB", as_f64(before) / 1024.0, 1),
            Figure::new("resident after, MiB", as_f64(after) / 1024.0, 1),
            Figure::new("CPU per connection, us", spent.server_micros_per(count), 1),
        ])
    }

    /// Returns true, because memory that one round freed would serve the next.
    fn needs_fresh_server(&self) -> bool {
        true
    }
}
