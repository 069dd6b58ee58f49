//! `soak`: hours of clients that come, go, lose their connections and come back, while everything that each receives is
//! checked, and the server's memory is compared.

mod check;
mod client;
mod crowd;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use self::check::Faults;
use self::crowd::Crowd;
use crate::measure::{as_f64, resident_kib};
use crate::options::Options;
use crate::process::Server;
use crate::report::{self, median};

/// Rooms keep enough for every client that comes back.
const SETTINGS: [&str; 3] = [
    "client_events=true",
    "limits.presence_members=1000",
    r#"history=[{"channels":"private-room-*","size":1000,"ttl":300}]"#,
];
/// Memory is the median of so many readings, one each second.
const READINGS: usize = 10;
/// How long the last deliveries may take.
const QUIET: Duration = Duration::from_secs(3);

/// Churn, and a check of all that is received.
#[derive(Debug, clap::Args)]
pub(crate) struct Soak {
    /// Minutes.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Minutes until memory is read for the first time, at most half of all.
    #[arg(long, default_value_t = 5.0)]
    settle: f64,
    /// By how many percent memory at the end may be more or less than then.
    #[arg(long, default_value_t = 5.0)]
    tolerance: f64,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    options: Options,
}

/// What is done all the time.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Load {
    /// Clients. A fifth of them stay all the time.
    #[arg(long, default_value_t = Self::default().clients)]
    clients: usize,
    /// Events a second that the backend publishes.
    #[arg(long, default_value_t = Self::default().rate)]
    rate: u32,
    /// Events a second that clients send, all together.
    #[arg(long, default_value_t = Self::default().client_rate)]
    client_rate: u32,
    /// Clients a second that lose their connection, leave, or come and go on their presence channel.
    #[arg(long, default_value_t = Self::default().churn)]
    churn: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            clients: 300,
            rate: 100,
            client_rate: 50,
            churn: 20,
        }
    }
}

/// What a soak has found.
pub(crate) struct Outcome {
    faults: Faults,
    counts: String,
    /// Resident memory in MiB when it had settled, and at the end.
    memory: (f64, f64),
}

impl Soak {
    /// Runs, prints a line, and fails if an event was lost, doubled or reordered, or memory has changed too much.
    pub(crate) fn run(&self) -> Result<()> {
        let contenders = self.options.contenders_with(&SETTINGS)?;
        // The floor keeps no histories, so it is run only if no other server is.
        let Some(contender) = contenders.last() else {
            bail!("there is no server");
        };
        let outcome = self.soak(&contender.start()?)?;
        report::print_page(&outcome.line());
        outcome.check(self.tolerance)
    }

    fn soak(&self, server: &Server) -> Result<Outcome> {
        let pids = &server.target.pids;
        let started = Instant::now();
        let minutes = |minutes: f64| Duration::from_secs_f64(60.0 * minutes);
        let (settled, end) = (
            minutes(self.settle.min(self.minutes / 2.0)),
            minutes(self.minutes),
        );
        let mut crowd = Crowd::gather(&server.target, self.load.clone())?;
        let mut readings: Vec<f64> = Vec::new();
        let mut first = None;
        let mut reported = 0;
        while started.elapsed() < end {
            crowd.run_for(Duration::from_secs(1).min(end.saturating_sub(started.elapsed())))?;
            readings.push(as_f64(resident_kib(pids)?) / 1024.0);
            if first.is_none() && started.elapsed() >= settled {
                first = Some(latest(&readings));
            }
            if started.elapsed().as_secs() / 60 > reported {
                reported = started.elapsed().as_secs() / 60;
                let memory = latest(&readings);
                eprintln!("  minute {reported}: {memory:.1} MiB; {}", crowd.counts());
            }
        }
        let last = latest(&readings);
        crowd.finish(QUIET)?;
        Ok(Outcome {
            counts: crowd.counts(),
            faults: crowd.into_faults(),
            memory: (first.unwrap_or(last), last),
        })
    }
}

fn latest(readings: &[f64]) -> f64 {
    median(readings[readings.len().saturating_sub(READINGS)..].to_vec())
}

impl Outcome {
    fn line(&self) -> String {
        let (first, last) = self.memory;
        format!(
            "soak: {}; {}; memory {first:.1} MiB when settled, {last:.1} MiB at the end ({:+.1} %)",
            self.counts,
            self.faults.line(),
            self.change()
        )
    }

    fn change(&self) -> f64 {
        let (first, last) = self.memory;
        100.0 * (last / first - 1.0)
    }

    fn check(&self, tolerance: f64) -> Result<()> {
        if let Some(first) = self.faults.first() {
            bail!("{}; the first: {first}", self.faults.line());
        }
        ensure!(
            self.change().abs() <= tolerance,
            "memory has changed by {:+.1} %, over {tolerance} %",
            self.change()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::workload::tests::floor;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        soak: Soak,
    }

    #[test]
    fn seconds_of_churn_on_the_floor_lose_and_double_nothing() {
        let args = "soak --minutes 0.05 --clients 30 --rate 200 --churn 40";
        let Cli { soak } = Cli::parse_from(args.split(' '));
        let outcome = soak.soak(&floor()).expect("an outcome");
        assert_eq!(outcome.faults.first(), None, "{}", outcome.line());
        assert!(
            outcome.counts.contains("joins and leaves"),
            "{}",
            outcome.line()
        );
    }

    #[test]
    fn a_fault_or_memory_that_grew_is_a_failure() {
        let outcome = |faults: Faults, last| Outcome {
            faults,
            counts: String::new(),
            memory: (100.0, last),
        };
        assert!(outcome(Faults::default(), 104.9).check(5.0).is_ok());
        assert!(outcome(Faults::default(), 105.1).check(5.0).is_err());
        assert!(outcome(Faults::default(), 94.0).check(5.0).is_err());
        let mut faults = Faults::default();
        faults.lost(2, "events 3 and 4");
        let error = outcome(faults, 100.0).check(5.0).expect_err("a fault");
        assert!(error.to_string().contains("2 lost"), "{error}");
    }
}
