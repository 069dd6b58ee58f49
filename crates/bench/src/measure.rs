//! CPU time and resident memory of a process, as the kernel reports them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::report::Figure;

/// Clock ticks a second in `/proc/PID/stat`; the kernel's interface fixes it on all common architectures.
const TICKS: u64 = 100;

/// A measurement that has begun.
pub(crate) struct Window {
    pids: Vec<u32>,
    server: Cpu,
    own: Cpu,
    since: Instant,
}

/// Times of a measurement.
pub(crate) struct Spent {
    /// Time on the clock.
    pub(crate) wall: Duration,
    /// CPU time of the server, all its nodes together.
    pub(crate) server: Duration,
    /// CPU time of this process.
    pub(crate) own: Duration,
    /// Time in which this process could have run but got no CPU.
    pub(crate) own_waiting: Duration,
}

/// CPU times of a process since it began.
#[derive(Clone, Copy, Default)]
struct Cpu {
    ran: Duration,
    waited: Duration,
}

impl Window {
    /// Begins a measurement.
    pub(crate) fn begin(pids: &[u32]) -> Result<Self> {
        Ok(Self {
            pids: pids.to_vec(),
            server: cpu_time_of_all(pids)?,
            own: cpu_time(std::process::id())?,
            since: Instant::now(),
        })
    }

    /// Ends the measurement.
    pub(crate) fn end(&self) -> Result<Spent> {
        let wall = self.since.elapsed();
        let own = cpu_time(std::process::id())?;
        Ok(Spent {
            wall,
            server: cpu_time_of_all(&self.pids)?
                .ran
                .saturating_sub(self.server.ran),
            own: own.ran.saturating_sub(self.own.ran),
            own_waiting: own.waited.saturating_sub(self.own.waited),
        })
    }
}

impl Spent {
    /// Returns the server's CPU time for each of `count` things, in microseconds.
    pub(crate) fn server_micros_per(&self, count: u64) -> f64 {
        per(self.server.as_secs_f64() * 1e6, count)
    }

    /// Returns how many of `count` things there were each second.
    pub(crate) fn rate(&self, count: u64) -> f64 {
        as_f64(count) / self.wall.as_secs_f64()
    }

    /// Returns how busy the generator was, for the table.
    pub(crate) fn generator(&self) -> [Figure; 2] {
        let share = |time: Duration| time.as_secs_f64() / self.wall.as_secs_f64();
        Figure::generator(share(self.own), share(self.own_waiting))
    }

    /// Returns how many cores the server used on average.
    pub(crate) fn server_share(&self) -> f64 {
        self.server.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// Returns an amount divided by a count.
pub(crate) fn per(amount: f64, count: u64) -> f64 {
    if count == 0 {
        f64::NAN
    } else {
        amount / as_f64(count)
    }
}

/// Returns a count as a floating-point number.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Returns the resident memory of all processes together, in KiB.
pub(crate) fn resident_kib(pids: &[u32]) -> Result<u64> {
    pids.iter().copied().map(resident_kib_of).sum()
}

fn resident_kib_of(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    kib_of(&status, "VmRSS:").with_context(|| format!("no VmRSS in {path}"))
}

fn kib_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn cpu_time_of_all(pids: &[u32]) -> Result<Cpu> {
    let mut all = Cpu::default();
    for pid in pids {
        let one = cpu_time(*pid)?;
        all.ran += one.ran;
        all.waited += one.waited;
    }
    Ok(all)
}

/// Returns the CPU time of all live threads. The time of threads that have ended is lost, because `schedstat` is per
/// thread.
fn cpu_time(pid: u32) -> Result<Cpu> {
    let root = PathBuf::from(format!("/proc/{pid}"));
    fine_cpu_time(&root)
        .or_else(|| coarse_cpu_time(&root))
        .with_context(|| format!("no CPU time of process {pid}"))
}

/// Returns the time to the nanosecond, which not all kernels report.
fn fine_cpu_time(root: &Path) -> Option<Cpu> {
    let mut total = Cpu::default();
    for task in fs::read_dir(root.join("task")).ok()? {
        // A thread may end between being listed and being read.
        let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else {
            continue;
        };
        let mut nanos = text
            .split_whitespace()
            .map_while(|field| field.parse().ok());
        total.ran += Duration::from_nanos(nanos.next()?);
        total.waited += Duration::from_nanos(nanos.next()?);
    }
    (total.ran > Duration::ZERO).then_some(total)
}

fn coarse_cpu_time(root: &Path) -> Option<Cpu> {
    let ticks = ticks_of(&fs::read_to_string(root.join("stat")).ok()?)?;
    Some(Cpu {
        ran: Duration::from_millis(ticks * 1000 / TICKS),
        waited: Duration::ZERO,
    })
}

/// Returns the sum of utime and stime, the 14th and 15th fields. The second field is a name in parentheses that may
/// hold spaces.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_after_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 40 2 0 0 20 0 1 0";
        assert_eq!(ticks_of(stat), Some(42));
    }

    #[test]
    fn resident_memory_is_read_from_its_line() {
        let status = "Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t  1234 kB\n";
        assert_eq!(kib_of(status, "VmRSS:"), Some(1234));
        assert_eq!(kib_of(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_used_cpu_and_memory() {
        let pid = std::process::id();
        assert!(cpu_time(pid).expect("CPU time").ran > Duration::ZERO);
        assert!(resident_kib(&[pid, pid]).expect("memory") > 0);
    }

    #[test]
    fn nothing_counted_gives_no_figure() {
        assert!(per(1.0, 0).is_nan());
    }
}
