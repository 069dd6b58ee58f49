//! Asks the other nodes, and answers them. Questions and answers go over the topic that all nodes
//! receive, because operators ask rarely and each answer is short.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{
    BoxFuture, MAX_ANSWER_BYTES, MAX_QUESTION_BYTES, NoAnswer, NodeAnswer, NodeAnswers, OtherNodes,
};
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::link::Link;
use crate::message::{Answer, Message, Question};

/// How long a node waits for answers.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

impl OtherNodes for Cluster {
    fn ask<'a>(&'a self, node: Option<&'a str>, question: &'a str) -> BoxFuture<'a, NodeAnswers> {
        Box::pin(self.ask_others(node, question))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.other_processes().into_values().collect();
        names.sort();
        names
    }
}

impl Cluster {
    /// Returns the names of the other nodes, by process. Without a connection these are the nodes
    /// that were here when it was lost.
    fn other_processes(&self) -> HashMap<String, String> {
        match self.link() {
            Some(link) => {
                let others = link.peers.others().into_iter();
                others
                    .map(|process| {
                        let name = self.questions.name_of(&process);
                        (process, name)
                    })
                    .collect()
            }
            None => {
                let mut names = self.questions.all_names();
                names.remove(&self.process);
                names
            }
        }
    }

    async fn ask_others(&self, node: Option<&str>, question: &str) -> NodeAnswers {
        let mut asked = self.other_processes();
        if let Some(node) = node {
            asked.retain(|_, name| name == node);
        }
        let mut answers = Vec::new();
        if let Some(link) = self.link()
            && !asked.is_empty()
            && question.len() <= MAX_QUESTION_BYTES
        {
            let waiting =
                self.send_question(&link, node.is_some(), question, &mut asked, &mut answers);
            // Without all answers, what came is used.
            let _ = timeout(ANSWER_TIMEOUT, waiting).await;
        }
        answers.sort_by(|a, b| a.node.cmp(&b.node));
        let mut unanswered: Vec<_> = asked.into_values().collect();
        if let Some(node) = node
            && answers.is_empty()
            && unanswered.is_empty()
        {
            unanswered.push(node.to_owned());
        }
        unanswered.sort();
        NodeAnswers {
            answers,
            unanswered,
        }
    }

    /// Sends a question and takes the answers, until there are as many as nodes were `asked`.
    async fn send_question(
        &self,
        link: &Arc<Link>,
        is_to_one: bool,
        text: &str,
        asked: &mut HashMap<String, String>,
        answers: &mut Vec<NodeAnswer>,
    ) {
        let mut waiting = self.questions.begin(asked.len());
        let to = asked.keys().next().filter(|_| is_to_one).cloned();
        let message = Message::Question(Question {
            id: waiting.id,
            from: link.name(),
            to: to.as_deref(),
            text,
        });
        send(link, &message).await;
        while !asked.is_empty()
            && let Some(received) = waiting.answers.recv().await
        {
            if let Some(node) = asked.remove(&received.process) {
                let answer = received.answer;
                answers.push(NodeAnswer { node, answer });
            }
        }
    }

    /// Answers a question of another node, if it asks this one.
    pub(crate) fn receive_question(self: &Arc<Self>, link: &Arc<Link>, question: &Question<'_>) {
        let is_asked =
            *question.from != **link.name() && question.to.is_none_or(|to| *to == self.process);
        if !is_asked {
            return;
        }
        let Ok(accepted) = Arc::clone(&self.questions.accepted).try_acquire_owned() else {
            return;
        };
        let (cluster, link) = (Arc::clone(self), Arc::clone(link));
        let (id, to, text) = (
            question.id,
            question.from.to_owned(),
            question.text.to_owned(),
        );
        // Messages that come meanwhile need not wait for the answer.
        tokio::spawn(async move {
            let _accepted = accepted;
            // The semaphore is never closed.
            let _answering = cluster.questions.answering.acquire().await;
            let answer = cluster.node.respond(&text).await;
            let answer = match &answer {
                None => Err(NoAnswer::Unknown),
                Some(answer) if answer.len() > MAX_ANSWER_BYTES => Err(NoAnswer::TooLong),
                Some(answer) => Ok(answer.as_str()),
            };
            let message = Message::Answer(Answer {
                id,
                to: &to,
                from: &cluster.process,
                answer,
            });
            send(&link, &message).await;
        });
    }
}

/// Publishes a message to all nodes. The node that asks misses one that is lost.
async fn send(link: &Arc<Link>, message: &Message<'_>) {
    let sent = link.broker.broadcast(message.write(), link.publish_until());
    if let Err(error) = link.in_time(sent).await {
        tracing::debug!(%error, "a question to other nodes, or an answer, was not sent");
    }
}
