//! Workloads: what a server has to do while it is measured.

mod batch;
mod client_events;
mod connect;
mod fanout;
mod flood;
pub(crate) mod idle;
pub(crate) mod presence;
pub(crate) mod publish;
mod slow_readers;
mod storm;

pub(crate) use batch::Batch;
pub(crate) use client_events::ClientEvents;
pub(crate) use connect::Connect;
pub(crate) use fanout::Fanout;
pub(crate) use flood::Flood;
pub(crate) use idle::Idle;
pub(crate) use presence::Presence;
pub(crate) use publish::Publish;
pub(crate) use slow_readers::SlowReaders;
pub(crate) use storm::Storm;

use anyhow::Result;

use crate::process::Server;
use crate::report::Figure;

/// A workload.
pub(crate) trait Workload {
    /// Returns a description for the table's head.
    fn title(&self) -> String;
    /// Runs once and returns the figures, in the same order every time.
    fn run(&self, server: &Server) -> Result<Vec<Figure>>;
    /// Returns whether the second run on the same server would give other figures.
    fn needs_fresh_server(&self) -> bool {
        false
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;
    use crate::process::Contender;
    use crate::report::line;
    use crate::target::{App, Target};

    /// Starts a floor server in this process. CPU and memory are then of both sides, so only the counts are of use.
    pub(crate) fn floor() -> Server {
        let address = free_address();
        std::thread::spawn(move || crate::floor::serve(address));
        while TcpStream::connect(address).is_err() {
            std::thread::yield_now();
        }
        let app = App {
            id: "app-id".into(),
            key: "app-key".into(),
            secret: "app-secret".into(),
        };
        let pid = std::process::id();
        let running = Contender::Running {
            name: "floor".into(),
            target: Target {
                addresses: vec![address],
                pids: vec![pid],
                app,
                tls: None,
                clients: crate::clients::Clients::default(),
            },
        };
        running.start().expect("a running server")
    }

    fn free_address() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("its address")
    }

    #[test]
    fn the_floor_delivers_every_paced_event_once_and_in_order() {
        let fanout = Fanout {
            subscribers: 20,
            channels: 4,
            rate: 200,
            seconds: 1,
            ..Fanout::default()
        };
        let figures = line(&fanout.run(&floor()).expect("figures"));
        let counts = "expected 1000; delivered 1000; missing 0; duplicated 0; out of order 0; \
                      to the wrong subscriber 0";
        assert!(figures.starts_with(counts), "{figures}");
    }

    #[test]
    fn the_floor_passes_events_of_clients_to_all_others_once_and_in_order() {
        let events = ClientEvents {
            subscribers: 20,
            channels: 4,
            rate: 200,
            seconds: 1,
            ..ClientEvents::default()
        };
        let figures = line(&events.run(&floor()).expect("figures"));
        let counts = "expected 800; delivered 800; missing 0; duplicated 0; out of order 0; \
                      to the wrong subscriber 0";
        assert!(figures.starts_with(counts), "{figures}");
    }

    #[test]
    fn the_floor_takes_batches_and_members_who_come_and_go() {
        let floor = floor();
        let batch = Batch {
            seconds: 0,
            ..Batch::default()
        };
        assert!(batch.run(&floor).is_ok());
        let presence = Presence {
            members: 5,
            churners: 2,
            seconds: 0.1,
        };
        let figures = presence.run(&floor).expect("figures");
        let list = figures
            .iter()
            .find(|figure| figure.name() == presence::ROSTER_BYTES);
        assert!(list.expect("a list").value() > 10.0);
    }

    #[test]
    fn those_who_read_slowly_are_left_out_of_the_count() {
        let slow = SlowReaders {
            subscribers: 9,
            slow: 2,
            rate: 100,
            seconds: 1,
            payload: 100,
        };
        let figures = line(&slow.run(&floor()).expect("figures"));
        assert!(
            figures.starts_with("expected 900; delivered 900; missing 0"),
            "{figures}"
        );
        assert!(figures.contains("slow readers cut off 0"), "{figures}");
    }

    #[test]
    fn the_floor_takes_a_flood_and_idle_connections() {
        let flood = Flood {
            subscribers: 20,
            window: 4,
            seconds: 1,
            ..Flood::default()
        };
        let floor = floor();
        assert!(flood.run(&floor).is_ok());
        let idle = Idle {
            connections: 150,
            settle: 0,
            events: 3,
        };
        assert!(idle.run(&floor).is_ok());
        let connect = Connect { connections: 150 };
        assert!(connect.run(&floor).is_ok());
        let storm = Storm {
            connections: 150,
            seconds: 1,
        };
        assert!(storm.run(&floor).is_ok());
    }
}
