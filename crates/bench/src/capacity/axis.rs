//! What is swept over, which sizes, and on which server.

use anyhow::Result;

use super::{Pace, sweep};
use crate::process::{Contender, Server, Setup};
use crate::report::Figure;

/// More than any size here: bytes of an event, members, bytes that wait for a client.
const SETTINGS: [&str; 3] = [
    "limits.event_data=200000",
    "limits.presence_members=10000",
    "limits.client_events_per_second=1000",
];

/// What is swept over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Axis {
    /// Connections to a process, each on a private channel of its own.
    Connections,
    /// Channels of a process with one subscriber each.
    Channels,
    /// Subscribers of one channel.
    Subscribers,
    /// Bytes of an event.
    EventSize,
    /// Members of a presence channel.
    Presence,
    /// Nodes on one Redis.
    Nodes,
}

/// A figure whose growth along the axis is judged.
pub(crate) struct Judged {
    /// Its name.
    pub(crate) name: &'static str,
    /// The smallest size at which it is not mostly what the process itself varies by.
    pub(crate) from: usize,
}

impl Axis {
    /// Returns the sizes, in ascending order.
    pub(crate) fn sizes(self, quick: bool) -> Vec<usize> {
        let (few, all): (&[usize], &[usize]) = match self {
            Self::Connections => (&[200, 1000], &[1000, 2000, 5000, 10_000, 19_000]),
            Self::Channels => (&[10, 2000], &[10, 100, 1000, 10_000, 100_000]),
            Self::Subscribers => (&[1, 200], &[1, 10, 100, 1000, 5000, 19_000]),
            Self::EventSize => (&[64, 65_536], &[64, 256, 1024, 4096, 16_384, 65_536]),
            Self::Presence => (&[10, 100], &[10, 30, 100, 300, 1000]),
            Self::Nodes => (&[1, 2, 3], &[1, 2, 3, 4]),
        };
        if quick { few } else { all }.to_vec()
    }

    /// Returns what the sizes count.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Channels => "channels",
            Self::Subscribers => "subscribers of one channel",
            Self::EventSize => "bytes of data in an event",
            Self::Presence => "members of a presence channel",
            Self::Nodes => "nodes",
        }
    }

    /// Returns how it is measured, in a sentence or two.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Connections => {
                "Each connection has a private channel of its own. It has been sent a PING and 20 events before \
                 its memory is read. Deliveries are to 100 other subscribers of one channel."
            }
            Self::Channels => {
                "1,000 connections subscribe to the channels in addition to one each, so every channel has one \
                 subscriber. Events go round the channels, one in flight."
            }
            Self::Subscribers => {
                "One event in flight: the next is published when the last was answered and has reached all. \
                 Beyond 100 subscribers the cost of the publish itself is below a tenth."
            }
            Self::EventSize => "100 subscribers of one channel, one event in flight.",
            Self::Presence => {
                "The members are there. One more user joins and leaves again and again, and every member is \
                 told both times."
            }
            Self::Nodes => {
                "500 subscribers on 5 channels for each node, and one event in flight; then one subscriber for \
                 each node. All nodes share two cores and one Redis. CPU is that of all nodes together."
            }
        }
    }

    /// Returns the figures whose growth is judged and plotted.
    pub(crate) fn judged(self) -> &'static [Judged] {
        const fn judged(name: &'static str, from: usize) -> Judged {
            Judged { name, from }
        }
        match self {
            Self::Connections => {
                &const {
                    [
                        judged(sweep::PROCESS_KIB, 5000),
                        judged(sweep::CONNECT, 0),
                        judged(sweep::DELIVERY, 0),
                    ]
                }
            }
            Self::Channels => {
                &const {
                    [
                        judged(sweep::CHANNEL_BYTES, 10_000),
                        judged(sweep::SUBSCRIBE, 100),
                        judged(sweep::EVENT, 0),
                    ]
                }
            }
            Self::Subscribers => &const { [judged(sweep::DELIVERY, 0)] },
            Self::EventSize => &const { [judged(sweep::KIB_DELIVERED, 0)] },
            Self::Presence => {
                &const {
                    [
                        judged(sweep::ANNOUNCEMENT, 0),
                        judged(sweep::ROSTER_BYTES, 0),
                    ]
                }
            }
            Self::Nodes => &const { [judged(sweep::DELIVERY, 0), judged(sweep::NODE_EVENT, 2)] },
        }
    }

    /// Returns the server for a size.
    pub(crate) fn contender(self, setup: &Setup, size: usize, pace: Pace) -> Contender {
        let mut setup = setup.clone();
        setup.settings.extend(SETTINGS.map(str::to_owned));
        let mut set = |name: &str, value: &str| setup.env.push((name.into(), value.into()));
        if self == Self::Connections {
            // They are pinged after the events, not while the events are measured.
            let seconds = sweep::ping_interval(pace).as_secs().to_string();
            set("FANFARE_WEBSOCKET_PING_INTERVAL", &seconds);
        }
        if self == Self::Channels {
            set("FANFARE_NETWORK_MAX_SUBSCRIPTION_BYTES", "1000000000");
        }
        if self == Self::Nodes && size > 1 {
            return Contender::Nodes {
                setup,
                nodes: size,
                back_end: None,
            };
        }
        Contender::Fanfare(setup)
    }

    /// Measures one size once.
    pub(crate) fn measure(self, server: &Server, size: usize, pace: Pace) -> Result<Vec<Figure>> {
        match self {
            Self::Connections => sweep::connections(server, size, pace),
            Self::Channels => sweep::channels(server, size, pace),
            Self::Subscribers => sweep::subscribers(server, size, pace),
            Self::EventSize => sweep::event_size(server, size, pace),
            Self::Presence => sweep::presence(server, size, pace),
            Self::Nodes => sweep::nodes(server, size, pace),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::ValueEnum;

    use super::*;
    use crate::workload::tests::floor;

    #[test]
    fn every_judged_figure_is_measured_at_the_smallest_size() {
        let pace = Pace {
            quick: true,
            window: Duration::from_millis(20),
        };
        let server = floor();
        for axis in Axis::value_variants() {
            let size = axis.sizes(true)[0];
            let figures = axis.measure(&server, size, pace).expect("figures");
            for judged in axis.judged() {
                let figure = figures.iter().find(|figure| figure.name() == judged.name);
                assert!(figure.is_some(), "{axis:?}: {}", judged.name);
            }
        }
    }
}
