//! What receivers are told by several nodes of channels, members and counts.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::testing::story::Story;
use fanfare_engine::testing::{Client, KEY, definition, run_paused, settings};
use fanfare_engine::{AppDefinition, WantedNotices};
use fanfare_protocol::{AppId, AppSettings};
use serde_json::json;
use tokio::time::sleep;

use crate::nodes::ClusterNode;
use crate::sim::{Sim, Weather};

const SECOND: Duration = Duration::from_secs(1);

/// Starts nodes whose app wants all that is logged, and counts.
async fn nodes(sim: &Sim, count: u64) -> Vec<ClusterNode> {
    let mut nodes = Vec::new();
    for process in 0..count {
        let node = ClusterNode::start(sim.backend(process), 2).await;
        let counted = AppSettings {
            subscription_count: true,
            ..settings()
        };
        let app = AppDefinition {
            wanted_notices: WantedNotices {
                channels: true,
                members: true,
                subscription_counts: true,
                ..WantedNotices::default()
            },
            ..definition("1", KEY, counted)
        };
        node.engine().update_apps(vec![app], &[]);
        nodes.push(node);
    }
    for node in &nodes {
        node.ready().await;
    }
    nodes
}

/// Waits, and returns what receivers are told of then.
async fn told_after(time: Duration, node: &ClusterNode, story: &mut Story) -> Vec<String> {
    sleep(time).await;
    let app = AppId::parse("1").unwrap();
    story.drain(&**node.engine().transition_log(), &app).await
}

async fn join(client: &Client, who: &str) {
    let user = json!({"user_id": who}).to_string();
    client.join("presence-a", &user).await;
    // Other nodes learn of it.
    sleep(SECOND).await;
}

#[test]
fn a_client_that_moves_to_another_node_is_no_news() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let mut story = Story::default();
        let mut client = nodes[0].node.connect();
        join(&client, "u").await;
        let told = told_after(SECOND, &nodes[1], &mut story).await;
        assert_eq!(told, ["occupied presence-a", "added presence-a u"]);
        client.leave().await;
        sleep(SECOND).await;
        let mut client = nodes[1].node.connect();
        join(&client, "u").await;
        let told = told_after(10 * SECOND, &nodes[0], &mut story).await;
        assert_eq!(told, Vec::<String>::new());
        client.leave().await;
        let told = told_after(4 * SECOND, &nodes[0], &mut story).await;
        assert_eq!(told, ["removed presence-a u", "vacated presence-a"]);
    });
}

#[test]
fn a_visit_shorter_than_the_time_between_two_reports_is_told() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let mut story = Story::default();
        let mut client = nodes[0].node.connect();
        client.subscribe("a").await;
        client.leave().await;
        let told = told_after(SECOND, &nodes[1], &mut story).await;
        assert_eq!(told, ["occupied a"]);
        let told = told_after(3 * SECOND, &nodes[1], &mut story).await;
        assert_eq!(told, ["vacated a"]);
        let noticed = nodes[0].notices.all();
        let noticed: Vec<_> = noticed.iter().map(|(_, what)| &**what).collect();
        assert_eq!(noticed, ["occupied", "vacated"], "which wakes the recorder");
    });
}

#[test]
fn clients_of_a_node_that_dies_have_longer_to_return() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let mut story = Story::default();
        for who in ["returns", "is gone"] {
            join(&nodes[0].node.connect(), who).await;
        }
        let told = told_after(SECOND, &nodes[1], &mut story).await;
        assert_eq!(told.len(), 3);
        nodes[0].kill();
        sim.kill(0);
        // Its lease runs out, and it is reaped.
        let told = told_after(20 * SECOND, &nodes[1], &mut story).await;
        assert_eq!(told, Vec::<String>::new());
        join(&nodes[1].node.connect(), "returns").await;
        let told = told_after(20 * SECOND, &nodes[1], &mut story).await;
        assert_eq!(told, ["removed presence-a is gone"]);
    });
}

#[test]
fn a_client_that_leaves_soon_after_its_node_has_started_has_the_usual_time_to_return() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let mut story = Story::default();
        let mut client = nodes[0].node.connect();
        join(&client, "u").await;
        client.leave().await;
        let told = told_after(4 * SECOND, &nodes[1], &mut story).await;
        let visit = [
            "occupied presence-a",
            "added presence-a u",
            "removed presence-a u",
            "vacated presence-a",
        ];
        assert_eq!(told, visit);
    });
}

#[test]
fn clients_that_are_closed_because_their_node_was_cut_off_have_longer_to_return() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let mut story = Story::default();
        let mut client = nodes[0].node.connect();
        join(&client, "u").await;
        let told = told_after(10 * SECOND, &nodes[1], &mut story).await;
        assert_eq!(told.len(), 2);
        sim.cut(0);
        sleep(3 * SECOND).await;
        client.leave().await;
        let told = told_after(15 * SECOND, &nodes[1], &mut story).await;
        assert_eq!(told, Vec::<String>::new());
        let told = told_after(20 * SECOND, &nodes[1], &mut story).await;
        assert_eq!(told, ["removed presence-a u", "vacated presence-a"]);
    });
}

#[test]
fn receivers_are_owed_what_ended_while_the_back_end_lost_its_memory() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Calm);
        let nodes = nodes(&sim, 2).await;
        let (app, mut story) = (AppId::parse("1").unwrap(), Story::default());
        let log = Arc::clone(nodes[1].engine().transition_log());
        let mut generations = log.generations();
        let (mut goes, stays) = (nodes[0].node.connect(), nodes[1].node.connect());
        join(&goes, "goes").await;
        join(&stays, "stays").await;
        goes.subscribe("b").await;
        let told = told_after(SECOND, &nodes[1], &mut story).await;
        assert_eq!(told.len(), 4);
        generations.mark_unchanged();
        sim.refuse(true);
        sim.restart();
        sleep(SECOND).await;
        assert!(log.due(&app, 1).await.is_err(), "nothing is known");
        goes.leave().await;
        sim.refuse(false);
        generations.changed().await.unwrap();
        log.arm(&app, story.present(), story.newest_stamp())
            .await
            .unwrap();
        let told = told_after(19 * SECOND, &nodes[1], &mut story).await;
        assert_eq!(told, Vec::<String>::new(), "clients have longer to return");
        let told = told_after(2 * SECOND, &nodes[1], &mut story).await;
        assert_eq!(told, ["removed presence-a goes", "vacated b"]);
    });
}

#[test]
fn a_changed_count_is_reported_by_one_node_alone() {
    run_paused(async {
        let sim = Sim::new(1, Weather::Calm);
        let nodes = nodes(&sim, 3).await;
        let counts = || -> Vec<String> {
            let all = nodes.iter().flat_map(|node| node.notices.all());
            let counts = all.filter(|(_, what)| what.starts_with("count"));
            counts.map(|(_, what)| what).collect()
        };
        let mut clients = Vec::new();
        for node in &nodes {
            let client = node.node.connect();
            client.subscribe("a").await;
            clients.push(client);
            sleep(SECOND).await;
        }
        let mut expected = vec!["count 1", "count 2", "count 3"];
        assert_eq!(counts(), expected);
        clients[2].leave().await;
        sleep(SECOND).await;
        expected.push("count 2");
        assert_eq!(counts(), expected, "the last one of a node has left");
        // Within a moment, as often as subscribers get counts.
        for _ in 0..5 {
            clients.push(nodes[0].node.connect());
            clients.last().unwrap().subscribe("a").await;
        }
        sleep(SECOND).await;
        let all = counts();
        assert_eq!(all.iter().filter(|count| *count == "count 7").count(), 1);
        assert!(all.len() <= expected.len() + 2, "{all:?}");
    });
}
