//! Storms of clients that connect at the same moment: how late events reach those that are connected.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::{Fanout, Workload};
use crate::generator::Generator;
use crate::measure::{as_f64, per};
use crate::process::Server;
use crate::report::Figure;
use crate::target::Target;

/// Storms of connections, one after the other, beside paced events to others.
#[derive(Debug, clap::Args)]
pub(crate) struct Storm {
    /// Connections of a storm, all at the same moment.
    #[arg(long, default_value_t = Self::default().connections)]
    pub(crate) connections: usize,
    /// Seconds to measure, after one second of warm-up.
    #[arg(long, default_value_t = Self::default().seconds)]
    pub(crate) seconds: u32,
}

impl Default for Storm {
    fn default() -> Self {
        Self {
            connections: 2000,
            seconds: 8,
        }
    }
}

impl Workload for Storm {
    fn title(&self) -> String {
        format!(
            "storm: {} connections at once, again and again, beside 100 subscribers with 100 events/s for {} s",
            self.connections, self.seconds
        )
    }

    fn run(&self, server: &Server) -> Result<Vec<Figure>> {
        let others = Fanout {
            subscribers: 100,
            channels: 10,
            rate: 100,
            seconds: self.seconds,
            ..Fanout::default()
        };
        let ends = AtomicBool::new(false);
        let (figures, storms) = thread::scope(|scope| {
            let storms = scope.spawn(|| storms(&server.target, self.connections, &ends));
            let figures = others.run(server);
            ends.store(true, Ordering::Relaxed);
            (figures, storms.join())
        });
        let (storms, time) = storms.map_err(|_| anyhow!("the thread of the storms ended"))??;
        let mut figures = figures?;
        figures.push(Figure::new("storms", as_f64(storms), 0));
        figures.push(Figure::new(
            "time of a storm, s",
            per(time.as_secs_f64(), storms),
            2,
        ));
        Ok(figures)
    }
}

/// Lets all connect at the same moment, and leave, until the measurement ends. Returns how often, and how long all
/// of it took until the last was subscribed.
fn storms(target: &Target, connections: usize, ends: &AtomicBool) -> Result<(u64, Duration)> {
    let (mut count, mut time) = (0, Duration::ZERO);
    while !ends.load(Ordering::Relaxed) {
        let started = Instant::now();
        let mut generator = Generator::new(target)?;
        generator.subscribe_at_once(
            connections,
            (0..connections).map(|at| format!("storm-{:05}", at % 100)),
        )?;
        time += started.elapsed();
        count += 1;
    }
    Ok((count, time))
}
