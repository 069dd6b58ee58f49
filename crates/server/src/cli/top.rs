//! `fanfare top`: what nodes and apps do at this moment, again and again.
//!
//! | module | what it holds |
//! |---|---|
//! | `node` | one node: its metrics now and a moment ago |
//! | `rates` | what happened between the two, each second |
//! | `screen` | the text that is shown |

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use secrecy::SecretString;
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::api::{Api, Call, check_server, standard_input, without_api_path};
use super::stop_signals::StopSignals;
use super::{duration, output};
use crate::admin::tokens::CreatedToken;
use crate::config::{Config, reachable, token_variable};
use crate::failure::{Code, Failure};

mod node;
mod rates;
mod screen;

use node::Node;
use screen::Size;

/// Clears the screen from the top, which flickers less than clearing all of it first.
const HOME: &str = "\x1b[H";
const CLEAR_BELOW: &str = "\x1b[J";
const CLEAR_LINE: &str = "\x1b[K";
/// A second screen, so that what was on the first is there again afterwards; without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Node to look at, several times for several [default: the one of this machine's configuration]
    #[arg(
        long = "server",
        value_name = "URL",
        env = "FANFARE_SERVER",
        value_delimiter = ','
    )]
    servers: Vec<String>,
    /// File that holds an API token of the role metrics, or with rights on all apps; - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::seconds)]
    every: u64,
    /// Print the rates of one such time, and end
    #[arg(long)]
    once: bool,
}

pub(crate) async fn run(top: Top, config: &Config) -> anyhow::Result<()> {
    // Watched before there is a token to revoke, or a terminal to leave as it was.
    let mut stop = StopSignals::watch()?;
    let token = top.token()?;
    match (&top.servers[..], token, config.ops.listen) {
        ([], Some(_), _) => Err(Failure::misuse(
            "there is an API token, but no server to use it on: name it with --server URL, or leave the token out to look at \
             this machine's node",
        )
        .into()),
        ([], None, Some(ops)) => {
            let node = Node::new(format!("http://{}", reachable(ops)), None)?;
            watch(vec![node], &top, &mut stop).await
        }
        ([], None, None) => watch_own(&top, config, &mut stop).await,
        (servers, token, _) => {
            let nodes: anyhow::Result<Vec<Node>> = servers
                .iter()
                .map(|server| {
                    let url = check_server(without_api_path(server))?;
                    Node::new(url.as_str().trim_end_matches('/').into(), token.clone())
                })
                .collect();
            watch(nodes?, &top, &mut stop).await
        }
    }
}

impl Top {
    fn token(&self) -> anyhow::Result<Option<SecretString>> {
        let text = match self.token_file.as_deref() {
            None => return Ok(token_variable()),
            Some("-") => return Ok(Some(standard_input()?)),
            Some(file) => std::fs::read_to_string(file).map_err(|error| {
                Failure::misuse(format!("reading the token from {file}: {error}"))
            })?,
        };
        Ok(Some(text.trim().into()))
    }
}

/// Looks at the node of this machine's configuration, with a token that lives as long as this command.
async fn watch_own(top: &Top, config: &Config, stop: &mut StopSignals) -> anyhow::Result<()> {
    let api = Api::on_this_machine(config).await?;
    let body = json!({"name": "fanfare top", "role": "metrics", "expires_in_days": 1});
    let created = api.send(Call::post(&["tokens"], body)).await?;
    let created: CreatedToken = serde_json::from_value(created).context("reading the answer")?;
    let server = format!("http://{}", reachable(config.listen.first_tcp()));
    let watched = match Node::new(server, Some(created.secret.into())) {
        Ok(node) => watch(vec![node], top, stop).await,
        Err(error) => Err(error),
    };
    api.send(Call::delete(&["tokens", &created.token.id]))
        .await?;
    watched
}

/// Shows the nodes until the user has enough.
async fn watch(mut nodes: Vec<Node>, top: &Top, stop: &mut StopSignals) -> anyhow::Result<()> {
    let period = Duration::from_secs(top.every);
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let is_live = stdout().is_terminal() && !top.once;
    if !is_live {
        for _ in 0..2 {
            tokio::select! {
                () = stop.received() => {
                    return Err(Failure::new(Code::Failed, "ended by a signal before the second look").into());
                }
                () = next_look(&mut ticks, &mut nodes) => {}
            }
        }
        output::text(&screen::draw(&nodes, Size::UNBOUNDED))?;
        return all_down(&nodes).map_or(Ok(()), |failure| Err(failure.into()));
    }
    write(ENTER)?;
    let watched = loop {
        tokio::select! {
            () = stop.received() => break Ok(()),
            () = next_look(&mut ticks, &mut nodes) => {}
        }
        let lines = screen::draw(&nodes, Size::of_terminal());
        let lines = lines.replace('\n', &format!("{CLEAR_LINE}\n"));
        if let Err(error) = write(&format!("{HOME}{lines}{CLEAR_LINE}{CLEAR_BELOW}")) {
            break Err(error);
        }
    };
    write(LEAVE)?;
    watched
}

/// Returns the failure if no node could be looked at: a refusal of the token if a node refused it.
fn all_down(nodes: &[Node]) -> Option<Failure> {
    let failures: Option<Vec<&Failure>> =
        nodes.iter().map(|node| node.state.as_ref().err()).collect();
    let is_refused = |failure: &&Failure| failure.code() == Code::Refused;
    let code = match failures?.iter().any(is_refused) {
        true => Code::Refused,
        false => Code::Unavailable,
    };
    Some(Failure::new(code, "no node could be looked at"))
}

/// Waits for the next tick, then asks all nodes at once.
async fn next_look(ticks: &mut Interval, nodes: &mut [Node]) {
    ticks.tick().await;
    futures_util::future::join_all(nodes.iter_mut().map(Node::look)).await;
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut stdout = stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush().context("writing to standard output")
}
