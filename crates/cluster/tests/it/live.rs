//! Live events over several nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use fanfare_cluster::backend::Topic;
use fanfare_engine::testing::run_paused;
use fanfare_engine::{LiveKind, LiveQuery, LiveViewer, RefusalKind, Refused};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::nodes::{ClusterNode, with_quota};
use crate::sim::{Sim, Weather};

/// Longer than a node sends lines without being asked again.
const BEYOND_LEASE: Duration = Duration::from_secs(31);

fn watch(node: &ClusterNode, query: &LiveQuery, rate: u32) -> LiveViewer {
    let app = node.node.app();
    node.engine()
        .watch_live(&app, "operator", query, rate, 100)
        .expect("there is room")
}

fn publishes() -> LiveQuery {
    LiveQuery {
        kinds: vec![LiveKind::Publish],
        payloads: true,
        ..LiveQuery::default()
    }
}

/// What a viewer got.
#[derive(Default)]
struct Got {
    lines: Vec<Value>,
    more: u64,
}

impl Got {
    /// Waits until the viewer has got so much, left out or not.
    async fn wait(&mut self, viewer: &LiveViewer, count: u64) {
        let arrived = async {
            loop {
                let waiting = viewer.take();
                self.more += waiting.more;
                let lines = waiting.lines.iter().map(|line| line.to_json(true));
                self.lines
                    .extend(lines.map(|line| serde_json::from_str::<Value>(&line).unwrap()));
                if self.lines.len() as u64 + self.more >= count {
                    return;
                }
                viewer.woken().await;
            }
        };
        let arrived = timeout(Duration::from_secs(20), arrived).await;
        arrived.unwrap_or_else(|_| panic!("{} lines, {} more", self.lines.len(), self.more));
    }

    fn nodes(&self) -> BTreeSet<&str> {
        let nodes = self.lines.iter().map(|line| line["node"].as_str().unwrap());
        nodes.collect()
    }
}

/// How many messages with live events were sent so far.
fn lines_sent(sim: &Sim) -> usize {
    sim.with(|world| {
        let topics = world.sent.iter().map(|sent| &sent.topic);
        topics
            .filter(|topic| matches!(topic, Topic::Live(_)))
            .count()
    })
}

/// Waits until all nodes show their events to viewers of others.
async fn until_watched(nodes: &[ClusterNode]) {
    while !nodes.iter().all(|node| node.node.app().is_watched()) {
        sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_viewer_sees_what_happens_on_all_nodes_each_once() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Windy);
        let nodes = with_quota(&sim, 3, 100).await;
        assert_eq!(nodes[0].engine().live_nodes(), 3);
        let viewer = watch(&nodes[0], &publishes(), 200);
        let news = watch(
            &nodes[0],
            &LiveQuery {
                channel: Some("news".into()),
                ..publishes()
            },
            200,
        );
        until_watched(&nodes).await;
        // Subscribers on every node: a line comes from the node that accepted the event, and not from those that
        // delivered it.
        let mut clients = Vec::new();
        for node in &nodes {
            let client = node.node.connect();
            client.subscribe("news").await;
            clients.push(client);
        }
        for (number, node) in nodes.iter().enumerate() {
            node.node.publish("news", "said", &number.to_string()).await;
            node.node.publish("other", "said", "x").await;
        }
        let (mut all, mut filtered) = (Got::default(), Got::default());
        all.wait(&viewer, 6).await;
        filtered.wait(&news, 3).await;
        assert_eq!((all.nodes().len(), filtered.nodes().len()), (3, 3));
        let data: BTreeSet<_> = filtered
            .lines
            .iter()
            .map(|line| line["data"].as_str().unwrap())
            .collect();
        assert_eq!(data, BTreeSet::from(["0", "1", "2"]));
        sleep(Duration::from_secs(1)).await;
        assert!(
            viewer.take().is_empty() && news.take().is_empty(),
            "no line twice"
        );
    });
}

#[test]
fn what_was_left_out_on_other_nodes_is_counted() {
    run_paused(async {
        let sim = Sim::new(2, Weather::Windy);
        let nodes = with_quota(&sim, 3, 100).await;
        let viewer = watch(&nodes[0], &publishes(), 10);
        until_watched(&nodes).await;
        for _ in 0..500 {
            for node in &nodes {
                node.node
                    .try_publish("news", "said", "x", None)
                    .await
                    .unwrap();
            }
        }
        let mut got = Got::default();
        got.wait(&viewer, 1500).await;
        assert_eq!(got.lines.len() as u64 + got.more, 1500);
        assert!(got.lines.len() >= 10, "{}", got.lines.len());
    });
}

#[test]
fn a_viewer_that_comes_later_gets_what_all_nodes_have_kept() {
    run_paused(async {
        let sim = Sim::new(3, Weather::Windy);
        let nodes = with_quota(&sim, 3, 100).await;
        for (number, node) in nodes.iter().enumerate() {
            node.engine().refusals().note(Refused {
                kind: RefusalKind::ApiSignature,
                app: Some("1"),
                address: None,
                reason: &format!("refused on {number}"),
            });
            sleep(Duration::from_millis(5)).await;
        }
        let mut viewer = watch(&nodes[1], &LiveQuery::default(), 10);
        let recent = viewer.take_recent().await;
        let nodes_of: BTreeSet<_> = recent.iter().map(|line| line.node.to_string()).collect();
        assert_eq!((recent.len(), nodes_of.len()), (3, 3), "{recent:?}");
    });
}

#[test]
fn nodes_stop_when_they_are_not_asked_any_more() {
    run_paused(async {
        let sim = Sim::new(4, Weather::Windy);
        let nodes = with_quota(&sim, 2, 100).await;
        let viewer = watch(&nodes[0], &publishes(), 200);
        until_watched(&nodes).await;
        // For as long as the viewer is there.
        sleep(BEYOND_LEASE).await;
        nodes[1].node.publish("news", "said", "x").await;
        Got::default().wait(&viewer, 1).await;
        // Its node dies without a word.
        nodes[0].kill();
        sim.kill(0);
        sleep(BEYOND_LEASE).await;
        nodes[1].node.publish("news", "said", "x").await;
        sleep(Duration::from_millis(100)).await;
        let sent = lines_sent(&sim);
        nodes[1].node.publish("news", "said", "x").await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(lines_sent(&sim), sent);
    });
}

#[test]
fn a_viewer_sees_the_other_nodes_again_after_they_were_cut_off() {
    run_paused(async {
        let sim = Sim::new(5, Weather::Windy);
        let nodes = with_quota(&sim, 2, 100).await;
        let viewer = watch(&nodes[0], &publishes(), 200);
        until_watched(&nodes).await;
        for process in [0, 1] {
            sim.cut(process);
            sleep(Duration::from_secs(10)).await;
            for node in &nodes {
                node.ready().await;
            }
            drop(viewer.take());
            for node in &nodes {
                node.node.publish("news", "said", "x").await;
            }
            let mut got = Got::default();
            got.wait(&viewer, 2).await;
            assert_eq!(got.nodes().len(), 2, "after {process} was cut off");
        }
    });
}
