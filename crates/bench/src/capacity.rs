//! `capacity`: how the costs of a connection and of a delivery grow, and what a number of connections needs.

mod axis;
mod growth;
mod need;
mod page;
mod plot;
mod sweep;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::axis::Axis;
use self::growth::{Point, Sweep};
use self::need::Need;
use crate::options::Options;
use crate::report;

/// Sweeps over sizes, and a plan from their figures.
#[derive(Debug, clap::Args)]
pub(crate) struct Capacity {
    /// Few sizes and short windows: everything in a minute, for a look.
    #[arg(long)]
    quick: bool,
    /// Seconds of each window [default: 1.5, or 0.2 with --quick].
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Sweep over this only; repeatable. A plan needs all of them.
    #[arg(long, value_enum)]
    axis: Vec<Axis>,
    /// Folder for the page and its plots [default: the page is printed, and nothing is plotted].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    need: Need,
    #[command(flatten)]
    options: Options,
}

/// How thoroughly each size is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Few sizes and few events.
    pub(crate) quick: bool,
    /// Length of each window.
    pub(crate) window: Duration,
}

impl Capacity {
    /// Measures all, and prints the page.
    pub(crate) fn run(&self) -> Result<()> {
        let pace = self.pace();
        let all = <Axis as clap::ValueEnum>::value_variants();
        let axes = if self.axis.is_empty() {
            all
        } else {
            &self.axis
        };
        let started = Instant::now();
        let sweeps: Vec<Sweep> = axes
            .iter()
            .map(|axis| self.sweep(*axis, pace))
            .collect::<Result<_>>()?;
        eprintln!("measured in {:.0?}", started.elapsed());
        let page = page::page(&sweeps, &self.need, self.out.is_some());
        report::print_page(&page);
        if let Some(dir) = &self.out {
            write(dir, "capacity.md", &page)?;
            for sweep in &sweeps {
                write(dir, &plot::file_name(sweep), &plot::svg(sweep))?;
            }
        }
        Ok(())
    }

    fn pace(&self) -> Pace {
        let seconds = self.seconds.unwrap_or(if self.quick { 0.2 } else { 1.5 });
        Pace {
            quick: self.quick,
            window: Duration::from_secs_f64(seconds),
        }
    }

    /// Measures all sizes in turn, round by round, so that other load on the machine affects all alike.
    fn sweep(&self, axis: Axis, pace: Pace) -> Result<Sweep> {
        let setup = self.options.setup()?;
        let mut points: Vec<Point> = axis.sizes(pace.quick).into_iter().map(Point::new).collect();
        for round in 1..=self.options.rounds {
            for point in &mut points {
                let server = axis.contender(&setup, point.size, pace).start()?;
                let figures = axis
                    .measure(&server, point.size, pace)
                    .with_context(|| format!("{} {}", point.size, axis.unit()))?;
                let line = report::line(&figures);
                eprintln!("  round {round}, {} {}: {line}", point.size, axis.unit());
                point.rounds.push(figures);
            }
        }
        Ok(Sweep { axis, points })
    }
}

fn write(dir: &std::path::Path, name: &str, text: &str) -> Result<()> {
    let path = dir.join(name);
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}
