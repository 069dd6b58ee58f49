//! Random subscribes, unsubscribes, disconnects and events against a model so simple that it is right.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use crate::node::{Client, data, with_node};

const CLIENTS: usize = 6;
const USERS: usize = 3;
const CHANNELS: [&str; 3] = ["presence-a", "presence-b", "plain"];

#[derive(Debug, Clone)]
enum Step {
    Subscribe { client: usize, channel: usize },
    Unsubscribe { client: usize, channel: usize },
    Reconnect { client: usize },
    Publish { channel: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (client, channel) = (0..CLIENTS, 0..CHANNELS.len());
    prop_oneof![
        4 => (client.clone(), channel.clone()).prop_map(|(client, channel)| Step::Subscribe { client, channel }),
        2 => (client.clone(), channel.clone()).prop_map(|(client, channel)| Step::Unsubscribe { client, channel }),
        1 => client.prop_map(|client| Step::Reconnect { client }),
        3 => channel.prop_map(|channel| Step::Publish { channel }),
    ]
}

/// What one client believes, from what it was sent.
#[derive(Debug, Default)]
struct Belief {
    members: BTreeMap<String, BTreeSet<String>>,
    received: BTreeMap<String, usize>,
}

impl Belief {
    fn learn(&mut self, event: &Value) {
        let channel = event["channel"].as_str().unwrap_or_default().to_owned();
        let user = || data(event)["user_id"].as_str().unwrap().to_owned();
        match event["event"].as_str().unwrap() {
            "pusher_internal:subscription_succeeded" => {
                let ids = serde_json::from_value(data(event)["presence"]["ids"].clone())
                    .unwrap_or_default();
                self.members.insert(channel, ids);
            }
            "pusher_internal:member_added" => {
                let user = user();
                assert!(
                    self.members.get_mut(&channel).unwrap().insert(user.clone()),
                    "{user} was added twice"
                );
            }
            "pusher_internal:member_removed" => {
                let user = user();
                assert!(
                    self.members.get_mut(&channel).unwrap().remove(&user),
                    "{user} was removed without being there"
                );
            }
            "e" => *self.received.entry(channel).or_default() += 1,
            other => panic!("unexpected {other}"),
        }
    }
}

fn user(client: usize) -> String {
    format!("u{}", client % USERS)
}

async fn subscribe(client: &Client, number: usize, channel: &str) {
    if channel.starts_with("presence-") {
        client
            .join(channel, &format!(r#"{{"user_id":"{}"}}"#, user(number)))
            .await;
    } else {
        client.subscribe(channel).await;
    }
}

async fn check(shards: usize, steps: &[Step], node: crate::node::Node) {
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| node.connect()).collect();
    let mut beliefs: Vec<Belief> = (0..CLIENTS).map(|_| Belief::default()).collect();
    let mut subscribed: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); CLIENTS];
    let mut expected: Vec<BTreeMap<String, usize>> = vec![BTreeMap::new(); CLIENTS];
    for step in steps {
        match *step {
            Step::Subscribe { client, channel } if subscribed[client].insert(channel) => {
                subscribe(&clients[client], client, CHANNELS[channel]).await;
            }
            Step::Unsubscribe { client, channel } if subscribed[client].remove(&channel) => {
                clients[client].unsubscribe(CHANNELS[channel]).await;
                beliefs[client].members.remove(CHANNELS[channel]);
            }
            Step::Subscribe { .. } | Step::Unsubscribe { .. } => {}
            Step::Reconnect { client } => {
                clients[client].leave().await;
                clients[client] = node.connect();
                subscribed[client].clear();
                (beliefs[client], expected[client]) = (Belief::default(), BTreeMap::new());
            }
            Step::Publish { channel } => {
                node.publish(CHANNELS[channel], "e", "d").await;
                for (client, channels) in subscribed.iter().enumerate() {
                    if channels.contains(&channel) {
                        *expected[client]
                            .entry(CHANNELS[channel].into())
                            .or_default() += 1;
                    }
                }
            }
        }
        for (client, belief) in clients.iter().zip(&mut beliefs) {
            client.events().iter().for_each(|event| belief.learn(event));
        }
        for (number, belief) in beliefs.iter().enumerate() {
            assert_eq!(
                belief.received, expected[number],
                "client {number} of {shards} shards"
            );
            for channel in subscribed[number]
                .iter()
                .filter(|channel| CHANNELS[**channel] != "plain")
            {
                let there = (0..CLIENTS)
                    .filter(|other| subscribed[*other].contains(channel))
                    .map(user);
                assert_eq!(
                    belief.members[CHANNELS[*channel]],
                    there.collect(),
                    "view of client {number}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn every_client_knows_what_the_model_knows(shards in 1_usize..4, steps in prop::collection::vec(step(), 1..60)) {
        with_node(shards, |node| check(shards, &steps, node));
    }
}
