//! CPU time and resident memory of a process, as the kernel reports them.

use std::collections::HashMap;
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
    server: Threads,
    own: Threads,
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

/// CPU times of threads, by their places in `/proc`.
type Threads = HashMap<PathBuf, Cpu>;

/// CPU times since a thread began.
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
            server: cpu_time(pids)?,
            own: cpu_time(&[std::process::id()])?,
            since: Instant::now(),
        })
    }

    /// Ends the measurement.
    pub(crate) fn end(&self) -> Result<Spent> {
        let wall = self.since.elapsed();
        let own = since(&self.own, &cpu_time(&[std::process::id()])?);
        Ok(Spent {
            wall,
            server: since(&self.server, &cpu_time(&self.pids)?).ran,
            own: own.ran,
            own_waiting: own.waited,
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

/// Returns the kernel's memory for TCP sockets in KiB, of all processes together: their buffers, and what each socket
/// itself takes, where `/proc/slabinfo` may be read.
pub(crate) fn socket_memory_kib() -> Option<f64> {
    let buffers = buffer_pages(&fs::read_to_string("/proc/net/sockstat").ok()?)?;
    let slabs = fs::read_to_string("/proc/slabinfo").ok()?;
    Some(as_f64(buffers * 4) + as_f64(socket_slabs(&slabs)) / 1024.0)
}

/// Returns the pages of all TCP buffers.
fn buffer_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))?;
    let mut fields = line.split_whitespace().skip_while(|field| *field != "mem");
    fields.nth(1)?.parse().ok()
}

/// Returns the bytes of the objects that belong to sockets. The directory entries of files are in the same cache as those
/// of sockets, so one is counted for each socket.
fn socket_slabs(slabs: &str) -> u64 {
    let cache = |name: &str| -> (u64, u64) {
        let fields = slabs.lines().find_map(|line| {
            let mut fields = line.split_whitespace();
            (fields.next() == Some(name)).then_some(fields)
        });
        let numbers = fields
            .into_iter()
            .flatten()
            .map_while(|field| field.parse().ok());
        let numbers: Vec<u64> = numbers.take(3).collect();
        (
            numbers.first().copied().unwrap_or(0),
            numbers.get(2).copied().unwrap_or(0),
        )
    };
    let bytes = |name| {
        let (objects, size) = cache(name);
        objects * size
    };
    let entries = cache("sock_inode_cache").0 * cache("dentry").1;
    entries + bytes("TCP") + bytes("sock_inode_cache") + bytes("filp") + bytes("eventpoll_epi")
}

/// Returns the CPU time between two readings. A thread that began in between counts from its beginning; that of a thread
/// that ended is lost.
fn since(before: &Threads, after: &Threads) -> Cpu {
    let mut all = Cpu::default();
    for (thread, cpu) in after {
        let before = before.get(thread).copied().unwrap_or_default();
        all.ran += cpu.ran.saturating_sub(before.ran);
        all.waited += cpu.waited.saturating_sub(before.waited);
    }
    all
}

/// Returns the CPU times of all threads of these processes, or of the processes where the kernel has no better.
fn cpu_time(pids: &[u32]) -> Result<Threads> {
    let mut all = Threads::new();
    for pid in pids {
        let root = PathBuf::from(format!("/proc/{pid}"));
        let threads = fine_cpu_time(&root)
            .or_else(|| coarse_cpu_time(&root))
            .with_context(|| format!("no CPU time of process {pid}"))?;
        all.extend(threads);
    }
    Ok(all)
}

/// Returns the time to the nanosecond, which not all kernels report.
fn fine_cpu_time(root: &Path) -> Option<Threads> {
    let mut threads = Threads::new();
    for task in fs::read_dir(root.join("task")).ok()? {
        // A thread may end between being listed and being read.
        let path = task.ok()?.path();
        let Ok(text) = fs::read_to_string(path.join("schedstat")) else {
            continue;
        };
        let mut nanos = text
            .split_whitespace()
            .map_while(|field| field.parse().ok());
        let cpu = Cpu {
            ran: Duration::from_nanos(nanos.next()?),
            waited: Duration::from_nanos(nanos.next()?),
        };
        threads.insert(path, cpu);
    }
    let ran = threads.values().any(|cpu| cpu.ran > Duration::ZERO);
    ran.then_some(threads)
}

fn coarse_cpu_time(root: &Path) -> Option<Threads> {
    let ticks = ticks_of(&fs::read_to_string(root.join("stat")).ok()?)?;
    let cpu = Cpu {
        ran: Duration::from_millis(ticks * 1000 / TICKS),
        waited: Duration::ZERO,
    };
    Some(Threads::from([(root.to_owned(), cpu)]))
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
    fn a_sockets_kernel_memory_is_that_of_its_buffers_and_its_objects() {
        let sockstat =
            "sockets: used 23\nTCP: inuse 5 orphan 0 tw 2 alloc 5 mem 145\nUDP: inuse 0 mem 0\n";
        assert_eq!(buffer_pages(sockstat), Some(145));
        let slabs = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\n\
                     TCP 130 143 2000 13 8 : tunables\nsock_inode_cache 10 228 800 19 4 :\n\
                     filp 20 861 200 21 1 :\ndentry 9999 9999 192 21 1 :\n";
        assert_eq!(
            socket_slabs(slabs),
            130 * 2000 + 10 * 800 + 20 * 200 + 10 * 192
        );
    }

    #[test]
    fn this_process_has_used_cpu_and_memory() {
        let pid = std::process::id();
        let used = cpu_time(&[pid]).expect("CPU time");
        assert!(since(&Threads::new(), &used).ran > Duration::ZERO);
        assert!(resident_kib(&[pid, pid]).expect("memory") > 0);
    }

    #[test]
    fn a_thread_that_ended_takes_nothing_from_the_others() {
        let threads = |times: &[(&str, u64)]| -> Threads {
            let cpu = |nanos| Cpu {
                ran: Duration::from_nanos(nanos),
                waited: Duration::ZERO,
            };
            times
                .iter()
                .map(|(path, nanos)| (path.into(), cpu(*nanos)))
                .collect()
        };
        let spent = since(
            &threads(&[("a", 10), ("b", 50)]),
            &threads(&[("a", 15), ("c", 2)]),
        );
        assert_eq!(spent.ran, Duration::from_nanos(7));
    }

    #[test]
    fn nothing_counted_gives_no_figure() {
        assert!(per(1.0, 0).is_nan());
    }
}
