//! The memory and open files that this node may use of its machine. Defaults of other bounds follow from them.
//!
//! The memory limit is read here because the crates that know control groups include whole system monitors.

use std::fs;
use std::path::{Path, PathBuf};

use rlimit::Resource;

/// Open files that aren't for clients: database, Redis, requests to other servers, listener, logs, shards.
pub(crate) const RESERVED_FILES: u64 = 64;
/// How to raise the limit of open files.
pub(crate) const RAISE_OPEN_FILES: &str =
    "LimitNOFILE= in a systemd unit, --ulimit nofile= with Docker, ulimit -Hn in a shell";
/// Sockets beyond the connections, so that requests are answered when all connections are in use.
const SOCKETS_FOR_REQUESTS: usize = 64;
/// Open files beyond the connections.
pub(crate) const OTHER_FILES: usize = RESERVED_FILES as usize + SOCKETS_FOR_REQUESTS;
/// Bytes reserved for a connection if most are idle: twice what it takes by itself, with its share of requests.
const CONNECTION_BYTES: usize = 8 * 1024;
/// Bytes of memory assumed if the system doesn't tell.
const UNKNOWN_MEMORY: usize = 1 << 30;

/// Resources that this node may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Bytes of memory.
    pub(crate) memory: usize,
    /// Clients' connections: WebSockets and sessions of the HTTP fallback.
    pub(crate) connections: usize,
    /// Clients' sockets, whatever they are used for.
    pub(crate) sockets: usize,
}

impl Capacity {
    /// Returns what the machine, the control group and the limit of open files allow.
    pub(crate) fn detected() -> Self {
        Self::of_machine().within_memory()
    }

    /// Returns this capacity with the settings `memory.limit` and `connections.max` applied.
    pub(crate) fn as_configured(self, memory: Option<usize>, connections: Option<usize>) -> Self {
        let memory = memory.unwrap_or(self.memory);
        let derived = Self { memory, ..self }.within_memory();
        match connections {
            None | Some(0) => derived,
            Some(connections) => Self {
                connections,
                // Each connection needs a socket, as far as open files allow.
                sockets: derived
                    .sockets
                    .max(connections.saturating_add(SOCKETS_FOR_REQUESTS))
                    .min(client_sockets()),
                ..derived
            },
        }
    }

    /// Returns what the machine, the control group and the limit of open files allow, regardless of each other.
    pub(crate) fn of_machine() -> Self {
        let sockets = client_sockets();
        Self {
            memory: memory_limit(Path::new("/")).map_or(UNKNOWN_MEMORY, to_usize),
            connections: sockets.saturating_sub(SOCKETS_FOR_REQUESTS).max(1),
            sockets,
        }
    }

    /// Bounds connections and sockets by memory. Containers often may open a billion files, which no memory holds.
    fn within_memory(self) -> Self {
        let most = self.memory / CONNECTION_BYTES;
        Self {
            connections: self.connections.min(most),
            sockets: self.sockets.min(most + SOCKETS_FOR_REQUESTS),
            ..self
        }
    }
}

/// Returns how many sockets of clients the limit of open files allows.
fn client_sockets() -> usize {
    // The process raises its limit to the hard one when it starts.
    let files = Resource::NOFILE.get_hard().unwrap_or(u64::MAX);
    to_usize(files.saturating_sub(RESERVED_FILES)).max(1)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Returns the machine's memory in bytes, or less if the control group of this process or one above it has a limit.
fn memory_limit(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| group_limits(root, line));
    limits.chain(machine_memory(root)).min()
}

/// Returns the limits of one line of `/proc/self/cgroup`: `0::/path` of version 2, or `4:memory:/path` of version 1.
fn group_limits(root: &Path, line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next(), parts.next(), parts.next());
    let (mount, file) = match controllers {
        Some("") => ("sys/fs/cgroup", "memory.max"),
        Some(some) if some.split(',').any(|controller| controller == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let path = PathBuf::from(path.unwrap_or("/").trim_start_matches('/'));
    // In a container the path may be the host's, of which only the last folder is mounted, so the mount itself counts
    // too.
    path.ancestors()
        .filter_map(|group| {
            let limit = fs::read_to_string(root.join(mount).join(group).join(file)).ok()?;
            // Version 2 has "max" if there is no limit, version 1 a number near 2^63.
            limit.trim().parse().ok()
        })
        .collect()
}

fn machine_memory(root: &Path) -> Option<u64> {
    let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        memory_limit(root.path())
    }

    #[test]
    fn the_smallest_limit_counts() {
        let machine = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:       2048 kB\n");
        assert_eq!(limit(&[machine]), Some(2048 * 1024));
        let second = ("proc/self/cgroup", "0::/a/b\n");
        assert_eq!(
            limit(&[
                machine,
                second,
                ("sys/fs/cgroup/a/b/memory.max", "max\n"),
                ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ]),
            Some(1_000_000)
        );
        let first = ("proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/abc\n");
        assert_eq!(
            limit(&[
                machine,
                first,
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "500000\n"),
            ]),
            Some(500_000)
        );
        let none = (
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        assert_eq!(limit(&[machine, first, none]), Some(2048 * 1024));
        assert_eq!(limit(&[]), None);
    }
}
