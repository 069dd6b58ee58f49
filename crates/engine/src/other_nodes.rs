//! Questions to the other nodes. Their texts belong to the caller, so that this crate and a cluster
//! carry them without knowing what they ask.

use std::fmt;
use std::future::ready;

use crate::bus::BoxFuture;

/// Most bytes of a question.
pub const MAX_QUESTION_BYTES: usize = 16 * 1024;
/// Most bytes of an answer. A node with more to tell answers in pages.
pub const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// Asks the other nodes.
pub trait OtherNodes: Send + Sync + 'static {
    /// Asks all other nodes, or the one with this name, and waits for their answers, at most for
    /// one and a half seconds. A question of more than [`MAX_QUESTION_BYTES`] is asked of none.
    fn ask<'a>(&'a self, node: Option<&'a str>, question: &'a str) -> BoxFuture<'a, NodeAnswers>;

    /// Returns the names of the other nodes that this one knows, in order.
    fn names(&self) -> Vec<String>;
}

/// What the other nodes answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeAnswers {
    /// The answers, by the nodes' names.
    pub answers: Vec<NodeAnswer>,
    /// The names of the nodes that were asked and didn't answer in time, in order.
    pub unanswered: Vec<String>,
}

/// The answer of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAnswer {
    /// The node's name.
    pub node: String,
    /// What it answered.
    pub answer: Result<String, NoAnswer>,
}

/// Why a node that received a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// The node's version doesn't know the question.
    Unknown,
    /// The answer has more than [`MAX_ANSWER_BYTES`].
    TooLong,
}

/// Answers the questions of other nodes on this one.
pub trait Responder: fmt::Debug + Send + Sync + 'static {
    /// Answers a question, or returns `None` if this version doesn't know it.
    fn respond(&self, question: &str) -> BoxFuture<'static, Option<String>>;
}

/// A node by itself, which has no others.
#[derive(Debug)]
pub(crate) struct NoOtherNodes;

impl OtherNodes for NoOtherNodes {
    fn ask<'a>(&'a self, node: Option<&'a str>, _: &'a str) -> BoxFuture<'a, NodeAnswers> {
        Box::pin(ready(NodeAnswers {
            answers: Vec::new(),
            unanswered: node.into_iter().map(str::to_owned).collect(),
        }))
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}
