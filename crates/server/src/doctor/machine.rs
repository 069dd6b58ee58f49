//! The machine: open files, memory, the kernel's queues and tables.

use std::fs;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::Finding;
use crate::capacity::{Capacity, OTHER_FILES};
use crate::config::Config;

/// Connections that may wait to be accepted, below which a storm of reconnecting clients overflows the queue.
const MIN_QUEUE: u64 = 1024;
/// Connection attempts that may wait for the end of their handshake.
const MIN_SYN_QUEUE: u64 = 1024;
/// Entries of the table of tracked connections for each connection: one to the proxy, one from it.
const TRACKED_PER_CONNECTION: u64 = 2;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let kernel = Kernel::at(Path::new("/"));
    let machine = Capacity::of_machine();
    let mut findings = vec![
        open_files(config.connections.max, machine.connections),
        memory(config.memory.limit, machine.memory),
    ];
    findings.extend(kernel.accept_queue());
    findings.extend(kernel.syn_queue());
    findings.extend(kernel.overflows());
    findings.extend(kernel.tracked_connections(config.connections.max));
    findings
}

fn open_files(wanted: usize, allowed: usize) -> Finding {
    let found =
        format!("connections.max is {wanted}, and the limit of open files allows {allowed}");
    if wanted <= allowed {
        return Finding::ok("machine.open_files", found);
    }
    let files = wanted.saturating_add(OTHER_FILES);
    Finding::failure(
        "machine.open_files",
        found,
        format!(
            "raise the limit to {files} (LimitNOFILE= in a systemd unit, --ulimit nofile= with Docker, ulimit -Hn in a shell), or \
             lower connections.max"
        ),
    )
}

fn memory(limit: usize, available: usize) -> Finding {
    let shown = |bytes: usize| ByteSize(bytes as u64);
    let found = format!(
        "memory.limit is {}, and the machine or its control group has {}",
        shown(limit),
        shown(available)
    );
    if limit <= available {
        return Finding::ok("machine.memory", found);
    }
    Finding::failure(
        "machine.memory",
        found,
        "lower memory.limit, or leave it out: the kernel ends the process, with all its connections, before the limit is reached",
    )
}

/// The settings and counters of a Linux kernel. Other systems have none of the files, and get no finding.
struct Kernel {
    root: PathBuf,
}

impl Kernel {
    fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    fn number(&self, file: &str) -> Option<u64> {
        let text = fs::read_to_string(self.root.join(file)).ok()?;
        text.trim().parse().ok()
    }

    fn accept_queue(&self) -> Option<Finding> {
        let queue = self.number("proc/sys/net/core/somaxconn")?;
        Some(at_least(
            "machine.accept_queue",
            "net.core.somaxconn",
            queue,
            MIN_QUEUE,
            "4096",
            "when many clients come back at once, those that don't fit wait a second or more",
        ))
    }

    fn syn_queue(&self) -> Option<Finding> {
        let queue = self.number("proc/sys/net/ipv4/tcp_max_syn_backlog")?;
        Some(at_least(
            "machine.syn_queue",
            "net.ipv4.tcp_max_syn_backlog",
            queue,
            MIN_SYN_QUEUE,
            "8192",
            "when many clients come back at once, those that don't fit wait a second or more",
        ))
    }

    /// Returns how often the queue of some listening socket of this machine was full since the machine's start.
    fn overflows(&self) -> Option<Finding> {
        let text = fs::read_to_string(self.root.join("proc/net/netstat")).ok()?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
        let (names, values) = (lines.next()?, lines.next()?);
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        let (_, overflows) = pairs.find(|(name, _)| *name == "ListenOverflows")?;
        let found = format!(
            "since this machine's start, {overflows} connection attempts found a full queue, of this or another program"
        );
        Some(match overflows {
            "0" => Finding::ok("machine.overflows", found),
            _ => Finding::warning(
                "machine.overflows",
                found,
                "if the number grows (nstat -az TcpExtListenOverflows), raise net.core.somaxconn, and add cores or nodes",
            ),
        })
    }

    fn tracked_connections(&self, connections: usize) -> Option<Finding> {
        let max = self.number("proc/sys/net/netfilter/nf_conntrack_max")?;
        let wanted = (connections as u64).saturating_mul(TRACKED_PER_CONNECTION);
        let found = format!(
            "a firewall tracks at most {max} connections (net.netfilter.nf_conntrack_max), and connections.max is {connections}"
        );
        if max >= wanted {
            return Some(Finding::ok("machine.tracked_connections", found));
        }
        Some(Finding::warning(
            "machine.tracked_connections",
            found,
            format!(
                "set net.netfilter.nf_conntrack_max to {wanted} or more, because a full table drops packets, or lower \
                 connections.max to what you expect"
            ),
        ))
    }
}

fn at_least(
    check: &'static str,
    setting: &str,
    value: u64,
    least: u64,
    recommended: &str,
    consequence: &str,
) -> Finding {
    let found = format!("{setting} is {value}");
    if value >= least {
        return Finding::ok(check, found);
    }
    Finding::warning(
        check,
        found,
        format!("sysctl -w {setting}={recommended}: {consequence}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    fn kernel(files: &[(&str, &str)]) -> (tempfile::TempDir, Kernel) {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let kernel = Kernel::at(root.path());
        (root, kernel)
    }

    #[test]
    fn more_connections_than_open_files_allow_are_a_failure_with_the_number_to_set() {
        assert_eq!(open_files(900, 900).severity, Severity::Ok);
        let finding = open_files(100_000, 900);
        assert_eq!(finding.severity, Severity::Failure);
        assert!(finding.advice.expect("advice").contains("100128"));
    }

    #[test]
    fn a_memory_limit_that_the_machine_does_not_have_is_a_failure() {
        assert_eq!(memory(1 << 30, 1 << 30).severity, Severity::Ok);
        let finding = memory(1 << 40, 1 << 30);
        assert_eq!(finding.severity, Severity::Failure);
        assert!(finding.found.contains("1.0 TiB"), "{}", finding.found);
    }

    #[test]
    fn a_short_queue_is_reported_with_the_command_that_lengthens_it() {
        let (_root, kernel) = kernel(&[("proc/sys/net/core/somaxconn", "128\n")]);
        let finding = kernel.accept_queue().expect("a finding");
        assert_eq!(finding.severity, Severity::Warning);
        let advice = finding.advice.expect("advice");
        assert!(advice.contains("net.core.somaxconn=4096"), "{advice}");
    }

    #[test]
    fn overflows_are_found_by_their_name() {
        for (count, severity) in [("0", Severity::Ok), ("17", Severity::Warning)] {
            let text = format!(
                "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 5 {count} 9\nIpExt: InNoRoutes\nIpExt: 0\n"
            );
            let (_root, kernel) = kernel(&[("proc/net/netstat", &text)]);
            let finding = kernel.overflows().expect("a finding");
            assert_eq!(finding.severity, severity);
            assert!(
                finding.found.contains(&format!(" {count} ")),
                "{}",
                finding.found
            );
        }
    }

    #[test]
    fn a_small_table_of_tracked_connections_is_reported() {
        let (_root, kernel) = kernel(&[("proc/sys/net/netfilter/nf_conntrack_max", "65536\n")]);
        let severity = |connections| {
            let finding = kernel.tracked_connections(connections);
            finding.expect("a finding").severity
        };
        assert_eq!(severity(32_768), Severity::Ok);
        assert_eq!(severity(32_769), Severity::Warning);
    }

    #[test]
    fn a_system_without_these_files_gets_no_findings() {
        let (_root, kernel) = kernel(&[]);
        assert_eq!(kernel.accept_queue(), None);
        assert_eq!(kernel.overflows(), None);
        assert_eq!(kernel.tracked_connections(1), None);
    }
}
