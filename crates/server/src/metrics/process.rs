//! Memory, CPU and files of this process, as client libraries of Prometheus report them.

/// What the system says of this process. Zeros where it doesn't say.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) open_files: usize,
    pub(crate) max_files: u64,
}

impl Process {
    pub(crate) fn read() -> Self {
        let max_files = rlimit::Resource::NOFILE.get_soft().unwrap_or_default();
        Self {
            max_files,
            ..Self::of_the_system()
        }
    }

    #[cfg(target_os = "linux")]
    fn of_the_system() -> Self {
        let Ok(process) = procfs::process::Process::myself() else {
            return Self::default();
        };
        let stat = process.stat().ok();
        let ticks = stat.as_ref().map_or(0, |stat| stat.utime + stat.stime);
        Self {
            cpu_seconds: ticks as f64 / procfs::ticks_per_second() as f64,
            resident_bytes: stat.map_or(0, |stat| stat.rss * procfs::page_size()),
            open_files: process.fd_count().unwrap_or_default(),
            max_files: 0,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn of_the_system() -> Self {
        Self::default()
    }
}
