//! Replaces the running program by the one that is at its path now. The process stays, and so do its listening sockets:
//! connection attempts wait in their queues meanwhile.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{SigSet, Signal};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use tokio::time::{Instant, sleep};

use crate::edge::listening_socket::{HeldSocket, NAMES};

/// Flag with which a program says whether it could serve, and ends.
pub(crate) const CHECK_FLAG: &str = "--check";
/// How long a program may take to check its configuration.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the end of the check is looked for.
const CHECK_TICK: Duration = Duration::from_millis(20);
/// Longest message of a check that is quoted, in bytes.
const MAX_MESSAGE: usize = 1000;

/// The program as this process was started.
#[derive(Debug)]
pub(crate) struct Program {
    path: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// Returns the program of this process, which runs `serve`. With `is_bare` its command line names no command.
    pub(crate) fn of_this_process(is_bare: bool) -> anyhow::Result<Self> {
        let mut arguments = std::env::args_os();
        let path = arguments.next().context("this process has no name")?;
        let mut arguments: Vec<OsString> = arguments.collect();
        if is_bare {
            arguments.push("serve".into());
        }
        Ok(Self { path, arguments })
    }

    /// Lets the program that is at the path now check its configuration, for a start with `sockets`.
    ///
    /// # Errors
    ///
    /// Returns what it said if it would not start.
    pub(crate) async fn check(&self, sockets: &[HeldSocket]) -> anyhow::Result<()> {
        let path = self.path.display();
        // Names alone: a check takes no sockets, but what it needs besides them must be there.
        let mut check = Command::new(&self.path)
            .args(&self.arguments)
            .arg(CHECK_FLAG)
            .env(NAMES, names(sockets))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {path}"))?;
        let deadline = Instant::now() + CHECK_TIMEOUT;
        let status = loop {
            if let Some(status) = check.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                // It may have ended in this moment.
                let _ = check.kill();
                let _ = check.wait();
                bail!("{path} has not checked its configuration within {CHECK_TIMEOUT:?}");
            }
            sleep(CHECK_TICK).await;
        };
        if status.success() {
            return Ok(());
        }
        let output = check.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let last: String = said.trim().lines().last().unwrap_or_default().into();
        let last: String = last.chars().take(MAX_MESSAGE).collect();
        bail!("{path} would not start ({status}): {last}")
    }

    /// Becomes the program that is at the path now, which inherits `sockets` by systemd's protocol. Everything else that
    /// this process holds is given back. Returns only if that fails.
    pub(crate) fn replace_this_process(self, sockets: &[HeldSocket]) -> anyhow::Error {
        match self.try_replace(sockets) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn try_replace(self, sockets: &[HeldSocket]) -> anyhow::Result<std::convert::Infallible> {
        let count = sockets.len().to_string();
        let placed = in_a_row(sockets)?;
        let first = placed.first().context("there is no socket to hand on")?;
        for descriptor in &placed {
            fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        held_signals()
            .thread_block()
            .context("holding signals back")?;
        let error = Command::new(&self.path)
            .args(&self.arguments)
            .env("LISTEN_PID", std::process::id().to_string())
            .env("LISTEN_FDS", count)
            .env("LISTEN_FDS_FIRST_FD", first.as_raw_fd().to_string())
            .env(NAMES, names(sockets))
            .exec();
        Err(error).with_context(|| format!("becoming {}", self.path.display()))
    }
}

/// Lets the signals through that came while this process became this program. Must be called on the thread that
/// started the program, once the signals are watched for.
///
/// # Errors
///
/// Returns the system's error.
pub(crate) fn release_signals() -> anyhow::Result<()> {
    held_signals()
        .thread_unblock()
        .context("letting signals through")
}

/// Returns the signals that wait for the next program from before it is started until it watches for them. Each would
/// end it otherwise, although it says that a newer program or certificate is there.
fn held_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGUSR2, Signal::SIGHUP])
}

fn names(sockets: &[HeldSocket]) -> String {
    let names: Vec<&str> = sockets.iter().map(|socket| socket.name).collect();
    names.join(":")
}

/// Returns copies of the sockets whose descriptors have successive numbers, as the protocol wants it.
fn in_a_row(sockets: &[HeldSocket]) -> anyhow::Result<Vec<OwnedFd>> {
    let mut from = 3;
    loop {
        let copy = |socket: &HeldSocket| fcntl_dupfd_cloexec(&socket.descriptor, from);
        let copies: Vec<OwnedFd> = sockets.iter().map(copy).collect::<Result<_, _>>()?;
        let numbers: Vec<i32> = copies.iter().map(AsRawFd::as_raw_fd).collect();
        if numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]) {
            return Ok(copies);
        }
        // Each number is free or taken for good by now. Beyond the highest one there is room.
        from = numbers.into_iter().max().unwrap_or(from) + 1;
    }
}
