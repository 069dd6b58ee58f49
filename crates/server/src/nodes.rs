//! The nodes of the installation, as operators see them from any of them: each asks the others what it needs to show, and
//! answers what they ask. Nothing of other nodes is kept.
//!
//! | file | content |
//! |---|---|
//! | `connections` | the connections of an app on a node, and closing one |
//! | `status` | what a node does and holds |
//! | `trail` | what a node knows of a client's connections to a channel |
//! | `drain` | moving the clients of a node to the others while it runs on |

mod connections;
mod drain;
mod status;
mod trail;

use std::fmt;

use fanfare_engine::{BoxFuture, NodeAnswer, NodeAnswers, Responder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::join;

use crate::app_state::AppState;

pub(crate) use connections::{
    Connection, ConnectionDetails, Connections, Disconnect, Filter, Place, ShowConnection,
    Subscription,
};
pub(crate) use drain::{Drain, DrainOutcome, EndDrain, NodeDrain};
pub(crate) use status::{NodeState, NodeStatus, Status};
#[cfg(test)]
pub(crate) use trail::SubscribedAt;
pub(crate) use trail::{FindTrail, Gone, Here, Span, Trail};

/// A question to nodes, as it travels. A node that doesn't know one says so.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", content = "with", rename_all = "snake_case")]
pub(crate) enum Question {
    Status(Status),
    Drain(Drain),
    EndDrain(EndDrain),
    Connections(Connections),
    ShowConnection(ShowConnection),
    Disconnect(Disconnect),
    FindTrail(FindTrail),
}

/// A question with its answer.
pub(crate) trait Ask: Clone + Into<Question> + Send {
    /// What a node answers.
    type Answer: Serialize + DeserializeOwned + Send;

    /// Answers the question on this node.
    fn answer(self, state: &AppState) -> impl Future<Output = Self::Answer> + Send;
}

macro_rules! questions {
    ($($name:ident),*) => {
        $(impl From<$name> for Question {
            fn from(question: $name) -> Self {
                Self::$name(question)
            }
        })*

        impl Question {
            async fn answer(self, state: &AppState) -> Option<String> {
                let answer = match self {
                    $(Self::$name(question) => serde_json::to_string(&question.answer(state).await),)*
                };
                answer.ok()
            }
        }
    };
}

questions!(
    Status,
    Drain,
    EndDrain,
    Connections,
    ShowConnection,
    Disconnect,
    FindTrail
);

/// The answers of nodes, by their names.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    pub(crate) answers: Vec<(String, T)>,
    /// The nodes that didn't answer in time, or not this question.
    pub(crate) unanswered: Vec<String>,
}

/// Asks all nodes, this one included.
pub(crate) async fn ask_all<Q: Ask>(state: &AppState, question: Q) -> Answers<Q::Answer> {
    let text = text_of(&question);
    let others = state.engine.other_nodes().ask(None, &text);
    let (here, others) = join!(question.answer(state), others);
    let mut all = read(others);
    all.answers.push((state.node_name.to_string(), here));
    all.answers.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

/// Asks one node, which may be this one. Returns `None` if it didn't answer in time, or not this question.
pub(crate) async fn ask_one<Q: Ask>(
    state: &AppState,
    node: &str,
    question: Q,
) -> Option<Q::Answer> {
    if *node == *state.node_name {
        return Some(question.answer(state).await);
    }
    let text = text_of(&question);
    let answers = state.engine.other_nodes().ask(Some(node), &text).await;
    let mut answers = read(answers).answers;
    answers.pop().map(|(_, answer)| answer)
}

/// Returns the names of all nodes that this one knows, in order.
pub(crate) fn names(state: &AppState) -> Vec<String> {
    let mut names = state.engine.other_nodes().names();
    names.push(state.node_name.to_string());
    names.sort();
    names
}

fn text_of<Q: Ask>(question: &Q) -> String {
    let question: Question = question.clone().into();
    serde_json::to_string(&question).expect("questions are JSON")
}

fn read<T: DeserializeOwned>(found: NodeAnswers) -> Answers<T> {
    let mut answers = Vec::new();
    let mut unanswered = found.unanswered;
    for NodeAnswer { node, answer } in found.answers {
        match answer.map(|text| serde_json::from_str(&text)) {
            Ok(Ok(answer)) => answers.push((node, answer)),
            // A node of another version says it in another way.
            Ok(Err(error)) => {
                tracing::debug!(node, %error, "the answer of another node cannot be read");
                unanswered.push(node);
            }
            Err(reason) => {
                tracing::debug!(node, ?reason, "another node has no answer");
                unanswered.push(node);
            }
        }
    }
    unanswered.sort();
    Answers {
        answers,
        unanswered,
    }
}

/// Answers the questions of other nodes.
pub(crate) struct NodeResponder(pub(crate) AppState);

impl fmt::Debug for NodeResponder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeResponder")
    }
}

impl Responder for NodeResponder {
    fn respond(&self, question: &str) -> BoxFuture<'static, Option<String>> {
        // A question of another version, or with something that this version doesn't know.
        let question: Option<Question> = serde_json::from_str(question).ok();
        let state = self.0.clone();
        Box::pin(async move { question?.answer(&state).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_of_another_version_is_unknown_and_one_with_more_to_it_is_read() {
        let read = |text: &str| serde_json::from_str::<Question>(text);
        assert!(read(r#"{"ask":"weather","with":{}}"#).is_err());
        let newer = r#"{"ask":"drain","with":{"by":"ada","softly":true}}"#;
        assert!(matches!(read(newer), Ok(Question::Drain(drain)) if drain.by == "ada"));
        assert!(matches!(
            read(&text_of(&Status {})),
            Ok(Question::Status(_))
        ));
    }
}
