//! What a run does, and when.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::sim::Weather;

pub(crate) const NODES: usize = 3;
pub(crate) const CLIENTS: usize = 9;
pub(crate) const USERS: usize = 4;
pub(crate) const CHANNELS: [&str; 6] = [
    "plain",
    "private-a",
    "presence-a",
    "presence-b",
    "cache-a",
    "presence-cache-a",
];

#[derive(Debug, Clone)]
pub(crate) enum Act {
    Subscribe {
        client: usize,
        channel: &'static str,
    },
    Unsubscribe {
        client: usize,
        channel: &'static str,
    },
    /// Goes, and comes back to some node.
    Reconnect {
        client: usize,
        node: usize,
    },
    SignIn {
        client: usize,
        watched: Vec<usize>,
    },
    ClientEvent {
        client: usize,
        channel: &'static str,
    },
    Publish {
        node: usize,
        channels: Vec<&'static str>,
        /// The client that does not get it.
        except: Option<usize>,
        /// Whether it is sent again, to this node, while nobody knows what became of it.
        again: Option<usize>,
    },
    Kill {
        node: usize,
        back_after: Duration,
    },
    Leave {
        node: usize,
        back_after: Duration,
    },
    Cut {
        node: usize,
    },
    /// Nothing gets through for a while; then it does, or the connection breaks.
    Stall {
        node: usize,
        up: bool,
        down: bool,
        lasts: Duration,
        heals: bool,
    },
    Stop {
        lasts: Duration,
    },
    Slow {
        by: Duration,
        lasts: Duration,
    },
    Restart {
        away: Duration,
    },
    /// The world loses what it knows, or a part of it, and nobody loses a connection.
    Forget(Lost),
    SetClock {
        forward: bool,
        by: Duration,
    },
}

/// What is lost.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lost {
    All,
    Installation,
    Apps,
}

/// A seed as what is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) shards: usize,
    pub(crate) weather: Weather,
    /// Most entries that one step of a reaper removes.
    pub(crate) part: (usize, usize),
    pub(crate) acts: Vec<(Duration, Act)>,
    /// Whether nodes log transitions, in each place.
    pub(crate) logs: [bool; NODES],
    /// When all that fails is well again.
    pub(crate) healed: Duration,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let span = random.random_range(4_000..20_000);
        let at = |random: &mut StdRng| Duration::from_millis(random.random_range(0..span));
        let mut acts = Vec::new();
        for _ in 0..random.random_range(20..90) {
            acts.push((at(&mut random), deed(&mut random)));
        }
        for _ in 0..[0, 1, 1, 2, 2, 3, 5][random.random_range(0..7)] {
            acts.push((at(&mut random), fault(&mut random)));
        }
        acts.sort_by_key(|(at, _)| *at);
        let weathers = [
            Weather::Calm,
            Weather::Windy,
            Weather::Windy,
            Weather::Stormy,
        ];
        Self {
            shards: random.random_range(1..3),
            weather: weathers[random.random_range(0..weathers.len())],
            part: if random.random() { (16, 200) } else { (1, 2) },
            acts,
            healed: Duration::from_millis(span + random.random_range(1000..8000)),
            logs: if random.random_bool(0.2) {
                std::array::from_fn(|_| random.random())
            } else {
                [true; NODES]
            },
        }
    }
}

fn deed(random: &mut StdRng) -> Act {
    let client = random.random_range(0..CLIENTS);
    let node = random.random_range(0..NODES);
    let channel = CHANNELS[random.random_range(0..CHANNELS.len())];
    match random.random_range(0..100) {
        0..36 => Act::Subscribe { client, channel },
        36..46 => Act::Unsubscribe { client, channel },
        46..56 => Act::Reconnect { client, node },
        56..62 => Act::SignIn {
            client,
            watched: (0..USERS).filter(|_| random.random()).collect(),
        },
        62..67 => Act::ClientEvent { client, channel },
        _ => Act::Publish {
            node,
            channels: match random.random_range(0..4) {
                0 => CHANNELS
                    .iter()
                    .copied()
                    .filter(|_| random.random())
                    .collect(),
                _ => vec![channel],
            },
            except: random.random_bool(0.2).then_some(client),
            again: random
                .random_bool(0.5)
                .then(|| random.random_range(0..NODES)),
        },
    }
}

fn fault(random: &mut StdRng) -> Act {
    let node = random.random_range(0..NODES);
    let within =
        |random: &mut StdRng, most: u64| Duration::from_millis(random.random_range(0..most));
    let back_after = within(random, 4000);
    // Now and then longer than anybody waits.
    let longest = if random.random_bool(0.15) {
        16_000
    } else {
        9000
    };
    let lasts = within(random, longest);
    match random.random_range(0..100) {
        0..14 => Act::Kill { node, back_after },
        14..23 => Act::Leave { node, back_after },
        23..43 => Act::Cut { node },
        43..64 => {
            let (up, down) =
                [(true, true), (true, false), (false, true)][random.random_range(0..3)];
            Act::Stall {
                node,
                up,
                down,
                lasts,
                heals: random.random(),
            }
        }
        64..75 => Act::Stop { lasts },
        75..83 => Act::Slow {
            by: within(random, 2500),
            lasts,
        },
        83..90 => Act::Restart { away: back_after },
        90..97 => {
            Act::Forget([Lost::All, Lost::Installation, Lost::Apps][random.random_range(0..3)])
        }
        _ => Act::SetClock {
            forward: random.random(),
            by: within(random, 70_000),
        },
    }
}
