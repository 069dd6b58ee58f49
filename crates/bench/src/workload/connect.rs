//! Connections one after the other, a hundred at a time: what one costs until it is subscribed.

use std::time::Instant;

use anyhow::Result;

use super::Workload;
use crate::generator::Generator;
use crate::measure::Window;
use crate::process::Server;
use crate::report::Figure;

/// Connections that come, subscribe and leave.
#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// Connections. As many come before the measurement, whose TLS sessions are resumed in it where that is on.
    #[arg(long, default_value_t = Self::default().connections)]
    pub(crate) connections: usize,
}

impl Default for Connect {
    fn default() -> Self {
        Self { connections: 4000 }
    }
}

impl Workload for Connect {
    fn title(&self) -> String {
        format!("connect: {} connections that subscribe", self.connections)
    }

    fn run(&self, server: &Server) -> Result<Vec<Figure>> {
        let target = &server.target;
        let connect = || -> Result<Generator> {
            let mut generator = Generator::new(target)?;
            generator
                .subscribe((0..self.connections).map(|at| format!("bench-{:05}", at % 100)))?;
            Ok(generator)
        };
        drop(connect()?);
        let window = Window::begin(&target.pids)?;
        let started = Instant::now();
        let generator = connect()?;
        let elapsed = started.elapsed();
        let spent = window.end()?;
        drop(generator);
        let count = self.connections as u64;
        let mut figures = vec![
            Figure::new("connections/s", spent.rate(count), 0),
            Figure::new("CPU per connection, us", spent.server_micros_per(count), 1),
            Figure::new("time, s", elapsed.as_secs_f64(), 2),
        ];
        figures.extend(spent.generator());
        Ok(figures)
    }
}
