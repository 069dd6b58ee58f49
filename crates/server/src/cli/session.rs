//! `fanfare session`.

use clap::Subcommand;

use super::api::{Api, Call};
use super::{operator, output};
use crate::admin::sessions::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the sessions of operators who are signed in
    List {
        /// Those of one operator, by name or id [default: of all]
        #[arg(long, value_name = "NAME")]
        operator: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End a session, which signs its operator out
    End {
        /// Its id
        id: String,
    },
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    match command {
        Command::List { operator, json } => list(operator.as_deref(), json, api).await,
        Command::End { id } => {
            api.send(Call::delete(&["sessions", &id])).await?;
            output::text(&format!("ended {id}"))
        }
    }
}

async fn list(operator: Option<&str>, json: bool, api: &Api) -> anyhow::Result<()> {
    let whose = match operator {
        Some(name) => operator::find(name, api).await?.id,
        None => "all".into(),
    };
    let call = Call::get(&["sessions"]).query("operator_id", Some(whose));
    let answer = api.send(call).await?;
    let headings = [
        "ID",
        "OPERATOR",
        "SIGNED IN",
        "LAST USED",
        "ADDRESS",
        "AGENT",
    ];
    output::list(answer, json, &headings, |session: Session| {
        vec![
            session.id,
            session.operator_id,
            output::time(session.created_at),
            output::time(session.last_used_at),
            session.address.unwrap_or_default(),
            session.agent.unwrap_or_default(),
        ]
    })
}
