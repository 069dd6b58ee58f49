//! `fanfare node`.

use clap::Subcommand;
use serde_json::Value;

use super::api::{Api, Call};
use super::output;
use crate::admin::nodes::NodeList;
use crate::nodes::NodeState;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the nodes, and what each does; needs --server
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Move a node's clients to the other nodes while it runs on; needs --server
    Drain {
        /// Its name, as `fanfare node list` shows it
        name: String,
        /// End the drain: the node takes clients again
        #[arg(long)]
        end: bool,
    },
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    let api = api.of_a_running_server()?;
    match command {
        Command::List { json } => {
            let answer = api.send(Call::get(&["nodes"])).await?;
            output::answer(answer, json, list)
        }
        Command::Drain { name, end: false } => {
            let call = Call::post(&["nodes", &name, "drain"], Value::Null);
            api.send(call).await?;
            output::text(&format!(
                "draining {name}: fanfare node list shows how many clients are left"
            ))
        }
        Command::Drain { name, end: true } => {
            api.send(Call::delete(&["nodes", &name, "drain"])).await?;
            output::text(&format!("{name} takes clients again"))
        }
    }
}

fn list(found: NodeList) -> anyhow::Result<()> {
    let headings = [
        "NODE",
        "VERSION",
        "STATE",
        "STARTED",
        "CONNECTIONS",
        "MEMORY",
        "REASON",
    ];
    let mut rows = Vec::new();
    for node in found.nodes {
        let status = node.status;
        let state = match status.state {
            NodeState::Ready => "ready",
            NodeState::Draining => "draining",
            NodeState::NotReady => "not ready",
        };
        rows.push(vec![
            node.name,
            status.version,
            state.into(),
            output::time(status.started_at),
            status.connections.to_string(),
            format!("{} MiB", status.memory_bytes >> 20),
            status.reason.unwrap_or_default(),
        ]);
    }
    for name in found.unanswered {
        let mut row = vec![String::new(); headings.len()];
        row[0] = name;
        row[2] = "no answer".into();
        rows.push(row);
    }
    output::table(&headings, &rows)
}
