//! One open console: what is sent to it and when, and when it ends.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fanfare_engine::{LiveLine, LiveViewer};
use fanfare_store::Role;
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::access::Caller;
use crate::app_state::AppState;

/// Least time between two parts, so that a busy app doesn't cost a write for each line. The first line after a quiet
/// while is sent at once.
const PERIOD: Duration = Duration::from_millis(200);
/// Least time between two counts of lines that were left out.
const MORE_PERIOD: Duration = Duration::from_millis(500);
/// Longest time without a look whether the console must end.
const TICK: Duration = Duration::from_secs(1);
/// Time between two looks whether the caller still has its rights.
const CHECK_PERIOD: Duration = Duration::from_secs(20);
/// Longest time without anything sent: proxies close connections that are silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// About the most bytes of a part.
const PART_BYTES: usize = 64 * 1024;

/// An open console.
pub(super) struct Console {
    state: AppState,
    caller: Caller,
    viewer: LiveViewer,
    payloads: bool,
    follows: bool,
    progress: Progress,
    /// Lines that were taken and not sent.
    lines: VecDeque<Arc<LiveLine>>,
    /// Lines that were left out since the last count that was sent.
    more: u64,
    more_at: Instant,
    check_at: Instant,
    sent_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Opened,
    Greeted,
    Following,
    Ended,
}

/// Why a console ends.
struct Ending {
    reason: String,
    /// Whether the caller still has the rights with which the waiting lines were filtered.
    shows_waiting: bool,
}

impl Ending {
    fn allowed(reason: String) -> Self {
        Self {
            reason,
            shows_waiting: true,
        }
    }

    fn refused(reason: String) -> Self {
        Self {
            reason,
            shows_waiting: false,
        }
    }
}

impl Console {
    pub(super) fn new(
        state: AppState,
        caller: Caller,
        viewer: LiveViewer,
        payloads: bool,
        follows: bool,
    ) -> Self {
        let now = Instant::now();
        Self {
            state,
            caller,
            viewer,
            payloads,
            follows,
            progress: Progress::Opened,
            lines: VecDeque::new(),
            more: 0,
            more_at: now,
            check_at: now + CHECK_PERIOD,
            sent_at: now,
        }
    }

    /// Waits for the next part of the answer, and returns it, or `None` at the end.
    pub(super) async fn next(&mut self) -> Option<String> {
        match self.progress {
            Progress::Opened => {
                self.progress = Progress::Greeted;
                return Some(self.hello());
            }
            Progress::Greeted => {
                self.progress = Progress::Following;
                self.lines = self.viewer.take_recent().await.into();
            }
            Progress::Following => sleep_until(self.sent_at + PERIOD).await,
            Progress::Ended => return None,
        }
        loop {
            // Before anything is sent: rights may have ended while the caller didn't read.
            if let Some(ending) = self.ending().await {
                self.progress = Progress::Ended;
                return Some(self.end(&ending));
            }
            if let Some(part) = self.part() {
                self.sent_at = Instant::now();
                return Some(part);
            }
            if !self.follows {
                self.progress = Progress::Ended;
                return None;
            }
            let now = Instant::now();
            if self.more > 0 {
                // Each line that is left out would wake it again.
                sleep_until((now + PERIOD).min(self.more_at + MORE_PERIOD)).await;
                continue;
            }
            let until = (now + TICK).min(self.sent_at + KEEP_ALIVE);
            // An elapsed time is a reason to look as well.
            let _ = timeout_at(until, self.viewer.woken()).await;
        }
    }

    fn hello(&self) -> String {
        let hidden = (!self.payloads).then(|| {
            format!(
                "your role is {}, and the data of events is shown to admins and owners",
                self.caller.role()
            )
        });
        let hello = json!({
            "payloads": self.payloads,
            "payloads_hidden_because": hidden,
            "nodes": self.state.engine.live_nodes(),
        });
        format!("event: hello\ndata: {hello}\n\n")
    }

    /// Returns what is to be sent now, if anything is.
    fn part(&mut self) -> Option<String> {
        if self.lines.is_empty() && self.follows {
            let waiting = self.viewer.take();
            self.lines = waiting.lines;
            self.more += waiting.more;
        }
        let mut part = String::new();
        self.put_lines(&mut part);
        let now = Instant::now();
        if self.more > 0 && now >= self.more_at + MORE_PERIOD {
            self.put_more(&mut part);
            self.more_at = now;
        }
        if part.is_empty() && now >= self.sent_at + KEEP_ALIVE {
            part.push_str(": still here\n\n");
        }
        (!part.is_empty()).then_some(part)
    }

    fn put_lines(&mut self, part: &mut String) {
        while part.len() < PART_BYTES
            && let Some(line) = self.lines.pop_front()
        {
            let line = line.to_json(self.payloads);
            let _ = write!(part, "event: line\ndata: {line}\n\n");
        }
    }

    fn put_more(&mut self, part: &mut String) {
        let count = std::mem::take(&mut self.more);
        let _ = write!(part, "event: more\ndata: {{\"count\":{count}}}\n\n");
    }

    /// Returns the last part, with the lines that waited until now if the caller may still see them.
    fn end(&mut self, ending: &Ending) -> String {
        let mut part = String::new();
        if ending.shows_waiting {
            let waiting = self.viewer.take();
            self.lines.extend(waiting.lines);
            self.put_lines(&mut part);
            self.more += waiting.more + self.lines.len() as u64;
            if self.more > 0 {
                self.put_more(&mut part);
            }
        }
        let end = json!({"reason": ending.reason});
        let _ = write!(part, "event: end\ndata: {end}\n\n");
        part
    }

    /// Returns why the console must end, if it must.
    async fn ending(&mut self) -> Option<Ending> {
        if !self.state.ready.load(Ordering::Relaxed) {
            return Some(Ending::allowed(
                "this node is stopping; connect again".into(),
            ));
        }
        let app = self.viewer.app();
        if app.is_deleted() {
            return Some(Ending::allowed(format!("the app {} was deleted", app.id())));
        }
        let now = Instant::now();
        if now < self.check_at {
            return None;
        }
        self.check_at = now + CHECK_PERIOD;
        let id = app.id().clone();
        match self.caller.renewed(&self.state).await {
            Ok(caller) => {
                if caller.see(id.as_str()).is_err() {
                    return Some(Ending::refused(format!(
                        "you have no rights on the app {id} any more"
                    )));
                }
                if (caller.role() >= Role::Admin) != self.payloads {
                    let role = caller.role();
                    return Some(Ending::refused(format!(
                        "your role is {role} now; connect again"
                    )));
                }
                self.caller = caller;
                None
            }
            // The store may be away for a while; what ends is looked up again.
            Err(problem) if problem.status().is_server_error() => None,
            Err(problem) => Some(Ending::refused(problem.body().detail)),
        }
    }
}
