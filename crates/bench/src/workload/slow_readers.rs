//! Subscribers of which some read slowly or never: what it means for the others, and for the server's memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::{Fanout, Workload};
use crate::generator::Generator;
use crate::measure::{as_f64, resident_kib};
use crate::process::Server;
use crate::report::Figure;
use crate::subscribers::Skipped;
use crate::target::Target;

/// The channel of [`Fanout`], if it has one.
const CHANNEL: &str = "bench-00000";
/// As small as the system allows, so that what isn't read soon waits on the server.
const RECEIVE_BUFFER: usize = 4096;
/// How often those who read slowly read, and how much.
const SIP: (Duration, usize) = (Duration::from_millis(100), 1024);

/// Paced events to subscribers of whom some read slowly.
#[derive(Debug, clap::Args)]
pub(crate) struct SlowReaders {
    /// Subscribers that read everything.
    #[arg(long, default_value_t = Self::default().subscribers)]
    pub(crate) subscribers: usize,
    /// Subscribers that read slowly or never, half of them each.
    #[arg(long, default_value_t = Self::default().slow)]
    pub(crate) slow: usize,
    /// Events a second.
    #[arg(long, default_value_t = Self::default().rate)]
    pub(crate) rate: u32,
    /// Seconds to measure, after one second of warm-up.
    #[arg(long, default_value_t = Self::default().seconds)]
    pub(crate) seconds: u32,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = Self::default().payload)]
    pub(crate) payload: usize,
}

impl Default for SlowReaders {
    fn default() -> Self {
        Self {
            subscribers: 90,
            slow: 10,
            rate: 300,
            seconds: 6,
            payload: 8000,
        }
    }
}

impl Workload for SlowReaders {
    fn title(&self) -> String {
        format!(
            "slow readers: {} of {} subscribers read slowly or never, {} events/s of {} bytes for {} s",
            self.slow,
            self.slow + self.subscribers,
            self.rate,
            self.payload,
            self.seconds
        )
    }

    fn run(&self, server: &Server) -> Result<Vec<Figure>> {
        let others = Fanout {
            subscribers: self.subscribers,
            channels: 1,
            rate: self.rate,
            seconds: self.seconds,
            payload: self.payload,
            ..Fanout::default()
        };
        let pids = &server.target.pids;
        let before = resident_kib(pids)?;
        let mut slow = self.subscribe(&server.target)?;
        let ends = AtomicBool::new(false);
        let (figures, most) = thread::scope(|scope| {
            let sips = scope.spawn(|| self.read_slowly(&mut slow, pids, &ends));
            let figures = others.run(server);
            ends.store(true, Ordering::Relaxed);
            (figures, sips.join())
        });
        let most = most.map_err(|_| anyhow!("the thread of the slow readers ended"))??;
        let cut = (0..self.slow)
            .filter(|index| !is_open(&mut slow, *index))
            .count();
        let mut figures = figures?;
        figures.extend([
            Figure::new("slow readers cut off", as_f64(cut as u64), 0),
            Figure::new("resident before, MiB", as_f64(before) / 1024.0, 1),
            Figure::new("most resident, MiB", as_f64(most) / 1024.0, 1),
        ]);
        Ok(figures)
    }
}

impl SlowReaders {
    fn subscribe(&self, target: &Target) -> Result<Generator> {
        let mut generator = Generator::new(target)?;
        generator.subscribers().set_receive_buffer(RECEIVE_BUFFER);
        generator.subscribe((0..self.slow).map(|_| CHANNEL.to_owned()))?;
        Ok(generator)
    }

    /// Reads a little of the first half again and again. Returns the most memory that the server had meanwhile, in KiB.
    fn read_slowly(&self, slow: &mut Generator, pids: &[u32], ends: &AtomicBool) -> Result<u64> {
        let (pause, bytes) = SIP;
        let mut most = 0;
        while !ends.load(Ordering::Relaxed) {
            for index in 0..self.slow / 2 {
                slow.subscribers().skip(index, bytes);
            }
            most = most.max(resident_kib(pids)?);
            thread::sleep(pause);
        }
        Ok(most)
    }
}

/// Reads what is left, and returns whether the connection is still open.
fn is_open(slow: &mut Generator, index: usize) -> bool {
    loop {
        match slow.subscribers().skip(index, 64 * 1024) {
            Skipped::Bytes => {}
            Skipped::Nothing => return true,
            Skipped::Closed => return false,
        }
    }
}
