//! Questions of one node to the others.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::testing::run_paused;
use fanfare_engine::{
    BoxFuture, MAX_ANSWER_BYTES, MAX_QUESTION_BYTES, NoAnswer, NodeAnswer, Responder,
};
use tokio::time::{Instant, sleep};

use crate::nodes::{ClusterNode, LEASE};
use crate::sim::{Sim, Weather};

/// Answers with its name and the question, knows nothing that begins with `new`, and repeats `x` as often as it is
/// asked.
#[derive(Debug)]
struct Echo(String);

impl Responder for Echo {
    fn respond(&self, question: &str) -> BoxFuture<'static, Option<String>> {
        let answer = match question.strip_prefix("long ") {
            Some(count) => Some("x".repeat(count.parse().unwrap())),
            None => (!question.starts_with("new")).then(|| format!("{} {question}", self.0)),
        };
        Box::pin(async { answer })
    }
}

async fn nodes(sim: &Sim, count: u64) -> Vec<ClusterNode> {
    let mut nodes = Vec::new();
    for process in 0..count {
        let node = ClusterNode::start(sim.backend(process), 1).await;
        node.engine()
            .set_responder(Arc::new(Echo(node.name().to_owned())));
        nodes.push(node);
    }
    for node in &nodes {
        node.ready().await;
    }
    nodes
}

fn answer(node: &ClusterNode, answer: &str) -> NodeAnswer {
    NodeAnswer {
        node: node.name().into(),
        answer: Ok(answer.into()),
    }
}

#[test]
fn every_other_node_answers_or_the_one_that_is_named() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Windy);
        let nodes = nodes(&sim, 3).await;
        let asker = nodes[0].engine().other_nodes();
        let mut names = [nodes[1].name(), nodes[2].name()];
        names.sort_unstable();
        assert_eq!(asker.names(), names);
        let found = asker.ask(None, "how: \"é\"?").await;
        let mut expected: Vec<_> = nodes[1..]
            .iter()
            .map(|node| answer(node, &format!("{} how: \"é\"?", node.name())))
            .collect();
        expected.sort_by(|a, b| a.node.cmp(&b.node));
        assert_eq!(found.answers, expected);
        assert!(found.unanswered.is_empty());
        let found = asker.ask(Some(nodes[2].name()), "how?").await;
        let expected = answer(&nodes[2], &format!("{} how?", nodes[2].name()));
        assert_eq!(found.answers, [expected]);
        assert!(found.unanswered.is_empty());
    });
}

#[test]
fn a_node_that_is_away_is_named_within_the_deadline_and_the_others_answer() {
    run_paused(async {
        let sim = Sim::new(2, Weather::Windy);
        let nodes = nodes(&sim, 3).await;
        sim.stall(2, true, true);
        let asker = nodes[0].engine().other_nodes();
        let start = Instant::now();
        let found = asker.ask(None, "how?").await;
        let took = start.elapsed();
        assert!(took <= Duration::from_millis(1600), "{took:?}");
        let answered: Vec<_> = found.answers.iter().map(|found| &*found.node).collect();
        assert_eq!(answered, [nodes[1].name()]);
        assert_eq!(found.unanswered, [nodes[2].name()]);
        let found = asker.ask(Some(nodes[2].name()), "how?").await;
        assert!(found.answers.is_empty());
        assert_eq!(found.unanswered, [nodes[2].name()]);
        // Once it counts as dead there is nobody to ask.
        nodes[2].kill();
        sim.kill(2);
        sleep(2 * LEASE).await;
        let found = asker.ask(None, "how?").await;
        assert_eq!(found.answers.len(), 1);
        assert!(found.unanswered.is_empty(), "{found:?}");
    });
}

#[test]
fn a_node_that_is_cut_off_names_all_others_at_once() {
    run_paused(async {
        let sim = Sim::new(3, Weather::Windy);
        let nodes = nodes(&sim, 2).await;
        sim.refuse(true);
        sim.cut(0);
        while nodes[0].is_ready() {
            sleep(Duration::from_millis(10)).await;
        }
        let found = nodes[0].engine().other_nodes().ask(None, "how?").await;
        assert_eq!(found.unanswered, [nodes[1].name()]);
        // The name for people stays, although the node has another one in Redis over each connection.
        sim.refuse(false);
        nodes[0].ready().await;
        nodes[1].ready().await;
        let found = nodes[1].engine().other_nodes().ask(None, "how?").await;
        let answered: Vec<_> = found.answers.iter().map(|found| &*found.node).collect();
        assert_eq!(answered, [nodes[0].name()]);
    });
}

#[test]
fn a_question_of_a_newer_version_and_a_long_answer_are_told_apart_from_silence() {
    run_paused(async {
        let sim = Sim::new(4, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let asker = nodes[0].engine().other_nodes();
        let ask = async |question: &str| asker.ask(None, question).await.answers[0].clone().answer;
        assert_eq!(ask("new question").await, Err(NoAnswer::Unknown));
        let most = format!("long {MAX_ANSWER_BYTES}");
        assert_eq!(
            ask(&most).await.map(|text| text.len()),
            Ok(MAX_ANSWER_BYTES)
        );
        let more = format!("long {}", MAX_ANSWER_BYTES + 1);
        assert_eq!(ask(&more).await, Err(NoAnswer::TooLong));
        let too_long = "x".repeat(MAX_QUESTION_BYTES + 1);
        let found = asker.ask(None, &too_long).await;
        assert_eq!(found.unanswered, [nodes[1].name()]);
    });
}

#[test]
fn a_node_by_itself_has_nobody_to_ask() {
    run_paused(async {
        let node = fanfare_engine::testing::LocalNode::alone(fanfare_engine::testing::options(1));
        let node = node.await;
        let asker = node.engine.other_nodes();
        assert!(asker.names().is_empty());
        assert_eq!(asker.ask(None, "how?").await, Default::default());
        let found = asker.ask(Some("web-2"), "how?").await;
        assert_eq!(found.unanswered, ["web-2"]);
    });
}
