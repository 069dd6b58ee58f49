//! `fanfare tail`: an app's live events in a terminal, as they happen.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write, stdout};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::Value;
use tokio::time::sleep;

use self::server_sent::{Parser, ServerEvent};
use super::api::{Api, Call, ServerFlags};
use super::output;
use super::stop_signals::StopSignals;
use crate::config::Config;
use crate::failure::{Code, code_of};
use crate::startup::Begin;

mod server_sent;

/// How long to wait before a lost server is asked again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// Lines that are asked for after a connection was lost, to find those that were missed.
const MOST_RECENT: usize = 1000;

#[derive(Debug, Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    server: ServerFlags,
    /// The app's id
    #[arg(long)]
    app: String,
    /// Kinds of events, with commas between them, such as publish,refused [default: all]
    #[arg(long)]
    kinds: Option<String>,
    /// A pattern of channels: * stands for any characters
    #[arg(long, value_name = "PATTERN")]
    channel: Option<String>,
    /// A pattern of names of events
    #[arg(long, value_name = "PATTERN")]
    event: Option<String>,
    /// A user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// A connection
    #[arg(long, value_name = "ID")]
    socket_id: Option<String>,
    /// A text within the data or the reason
    #[arg(long)]
    text: Option<String>,
    /// The most lines a second
    #[arg(long, value_name = "LINES", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    rate: u32,
    /// The most lines from before that come first
    #[arg(long, value_name = "LINES", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    recent: u32,
    /// End after the lines from before
    #[arg(long)]
    no_follow: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Why lines end.
enum End {
    /// The reader of standard output has enough, or no more lines were asked for.
    Enough,
    /// The server has ended the connection, with a reason if it gave one.
    Lost(Option<String>),
}

/// What was printed so far.
#[derive(Default)]
struct Printed {
    /// The number of the last line of each node.
    last: HashMap<String, u64>,
    has_greeted: bool,
}

pub(crate) async fn run(tail: Tail, config: &Config) -> anyhow::Result<()> {
    let api = tail.server.open(config, Begin::Never).await?;
    let api = api.of_a_running_server()?;
    let mut stop = StopSignals::watch()?;
    tokio::select! {
        () = stop.received() => Ok(()),
        done = tail.follow(api) => done,
    }
}

impl Tail {
    /// Prints lines until the server refuses. A server that is lost is asked again.
    async fn follow(&self, api: &Api) -> anyhow::Result<()> {
        let mut printed = Printed::default();
        let mut retry = RETRY.0;
        loop {
            let why = match self.print_lines(api, &mut printed).await {
                Ok(End::Enough) => return Ok(()),
                Ok(End::Lost(reason)) => {
                    retry = RETRY.0;
                    reason.unwrap_or_else(|| "the connection has ended".into())
                }
                // A server that was never reached is named wrongly, perhaps.
                Err(error) if code_of(&error) == Code::Unavailable && printed.has_greeted => {
                    format!("{error:#}")
                }
                Err(error) => return Err(error),
            };
            if self.no_follow {
                return Ok(());
            }
            say(&format!("{why}; trying again in {} s", retry.as_secs()));
            sleep(retry).await;
            retry = (retry * 2).min(RETRY.1);
        }
    }

    fn call(&self, printed: &Printed) -> Call {
        // What was missed meanwhile is among what was kept, perhaps; the rest is skipped.
        let recent = match printed.has_greeted {
            true => MOST_RECENT,
            false => self.recent as usize,
        };
        Call::get(&["apps", &self.app, "events", "live"])
            .query("kinds", self.kinds.as_ref())
            .query("channel", self.channel.as_ref())
            .query("event", self.event.as_ref())
            .query("user_id", self.user.as_ref())
            .query("socket_id", self.socket_id.as_ref())
            .query("text", self.text.as_ref())
            .query("rate", Some(self.rate))
            .query("recent", Some(recent))
            .query("follow", self.no_follow.then_some(false))
    }

    async fn print_lines(&self, api: &Api, printed: &mut Printed) -> anyhow::Result<End> {
        let mut answer = api.stream(self.call(printed)).await?;
        let mut parser = Parser::default();
        while let Some(chunk) = answer.chunk().await? {
            for ServerEvent { name, data } in parser.push(&chunk) {
                let data: Value = serde_json::from_str(&data).context("reading a live event")?;
                let text = match &*name {
                    "hello" => {
                        self.greet(&data, printed);
                        continue;
                    }
                    "end" => return Ok(End::Lost(data["reason"].as_str().map(str::to_owned))),
                    "more" if self.json => format!(r#"{{"more":{}}}"#, data["count"]),
                    "more" => format!("… {} more", data["count"]),
                    "line" if !printed.is_new(&data) => continue,
                    "line" if self.json => data.to_string(),
                    "line" => in_words(&data),
                    // A later version's.
                    _ => continue,
                };
                if !put(&text)? {
                    return Ok(End::Enough);
                }
            }
        }
        Ok(match self.no_follow {
            true => End::Enough,
            false => End::Lost(None),
        })
    }

    fn greet(&self, hello: &Value, printed: &mut Printed) {
        if !std::mem::replace(&mut printed.has_greeted, true)
            && let Some(because) = hello["payloads_hidden_because"].as_str()
        {
            say(&format!("data is not shown: {because}"));
        }
    }
}

impl Printed {
    /// Returns whether a line was not printed before, and notes it.
    fn is_new(&mut self, line: &Value) -> bool {
        let id = line["id"].as_str().unwrap_or_default();
        let Some((node, number)) = id.rsplit_once('-') else {
            return true;
        };
        let number: u64 = number.parse().unwrap_or_default();
        let last = self.last.entry(node.to_owned()).or_default();
        let is_new = number > *last;
        *last = number.max(*last);
        is_new
    }
}

/// Prints a line, and returns whether there is still a reader.
fn put(line: &str) -> anyhow::Result<bool> {
    let mut output = stdout().lock();
    match writeln!(output, "{line}").and_then(|()| output.flush()) {
        // The reader has enough, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("writing to standard output"),
    }
}

/// Returns a line for people: the time and the kind, then what is known, the longest part last.
fn in_words(line: &Value) -> String {
    let time = line["time_ms"].as_i64().unwrap_or_default();
    let kind = line["kind"].as_str().unwrap_or_default();
    let mut words = format!("{}  {kind:14}", output::time(time));
    for name in ["channel", "event", "refusal"] {
        if let Some(text) = line[name].as_str() {
            let _ = write!(words, "  {text}");
        }
    }
    for name in [
        "user_id",
        "socket_id",
        "key",
        "transport",
        "client",
        "address",
        "subscribers",
        "code",
        "webhook_id",
        "delivery",
        "status",
        "took_ms",
        "data_bytes",
    ] {
        match &line[name] {
            Value::Null => {}
            Value::String(text) => {
                let _ = write!(words, "  {name}={text}");
            }
            other => {
                let _ = write!(words, "  {name}={other}");
            }
        }
    }
    for name in ["reason", "data"] {
        if let Some(text) = line[name].as_str() {
            let _ = write!(words, "  {text}");
        }
    }
    if line["data_truncated"] == true {
        words.push('…');
    }
    output::printable(&words)
}

#[expect(
    clippy::print_stderr,
    reason = "what isn't a live event doesn't go where these are printed"
)]
fn say(text: &str) {
    eprintln!("fanfare: {text}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_written_in_words_that_a_terminal_does_not_obey() {
        let line = json!({
            "id": "node-1", "time_ms": 0, "kind": "publish", "channel": "news", "event": "a\u{1b}[2J", "subscribers": 2,
            "data_bytes": 5, "data": "hello", "data_truncated": true,
        });
        assert_eq!(
            in_words(&line),
            "1970-01-01 00:00:00Z  publish         news  a\u{fffd}[2J  subscribers=2  data_bytes=5  hello…"
        );
    }

    #[test]
    fn a_line_that_comes_again_after_a_lost_connection_is_printed_once() {
        let mut printed = Printed::default();
        let line = |id: &str| json!({ "id": id });
        assert!(printed.is_new(&line("a-b-7")));
        assert!(!printed.is_new(&line("a-b-7")) && !printed.is_new(&line("a-b-6")));
        assert!(printed.is_new(&line("a-b-8")) && printed.is_new(&line("c-1")));
    }
}
