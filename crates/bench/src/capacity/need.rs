//! What a number of connections with a number of deliveries a second needs, from the measured figures.

use std::fmt::Write as _;

use super::axis::Axis;
use super::growth::{Point, Sweep};
use super::sweep;

const GIB: f64 = 1024.0 * 1024.0;
/// Bytes of a delivery beside the data: the frame's head, event, channel, and the headers of TCP and IP.
const AROUND_DATA: f64 = 120.0;
/// Seconds between two PINGs, as is Fanfare's default.
const PING_INTERVAL: f64 = 25.0;

/// What is to be planned for.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Need {
    /// Connections to plan for.
    #[arg(long, default_value_t = 1_000_000)]
    connections: u64,
    /// Deliveries a second to plan for, over all connections.
    #[arg(long, default_value_t = 500_000)]
    deliveries: u64,
    /// Bytes of data in an event.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    event_size: usize,
    /// Subscribers that an event reaches.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    subscribers_per_event: u64,
    /// Cores of a machine.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    cores: u32,
    /// Memory of a machine, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 16)]
    memory: u32,
    /// Share of the cores, of the memory and of Redis' one core that is not planned with.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    headroom: f64,
}

/// Figures that a plan is made from. Those of connections are the highest medians of any size.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figures {
    process_kib: f64,
    kernel_kib: f64,
    connect: f64,
    ping: f64,
    publish: f64,
    /// CPU per delivery, for sizes of events in ascending order.
    delivery: Vec<(usize, f64)>,
    /// CPU of all nodes for an event with one subscriber on each, by nodes in ascending order, from two nodes on.
    event: Vec<(usize, f64)>,
    redis: Vec<(usize, f64)>,
}

impl Figures {
    /// Returns the figures of these sweeps, unless one that a plan needs is missing.
    pub(crate) fn of(sweeps: &[Sweep]) -> Option<Self> {
        let points = |axis| -> Option<&[Point]> {
            let sweep = sweeps.iter().find(|sweep| sweep.axis == axis)?;
            Some(&sweep.points)
        };
        let connections = points(Axis::Connections)?;
        let highest = |points: &[Point], name: &str| -> Option<f64> {
            let medians = points.iter().filter_map(|point| point.spread(name));
            medians.map(|spread| spread.median).reduce(f64::max)
        };
        let by_size = |points: &[Point], name: &str, from: usize| -> Vec<(usize, f64)> {
            let sizes = points.iter().filter(|point| point.size >= from);
            sizes
                .filter_map(|point| Some((point.size, point.spread(name)?.median)))
                .collect()
        };
        let nodes = points(Axis::Nodes)?;
        let figures = Self {
            process_kib: highest(connections, sweep::PROCESS_KIB)?,
            kernel_kib: highest(connections, sweep::KERNEL_KIB).unwrap_or(f64::NAN),
            connect: highest(connections, sweep::CONNECT)?,
            // With few connections it is mostly what the server does anyway.
            ping: by_size(connections, sweep::PING, 0).last()?.1,
            publish: by_size(points(Axis::EventSize)?, sweep::PUBLISH, 0)
                .first()?
                .1,
            delivery: by_size(points(Axis::EventSize)?, sweep::DELIVERY, 0),
            event: by_size(nodes, sweep::EVENT, 2),
            redis: by_size(nodes, sweep::REDIS_EVENT, 2),
        };
        (figures.event.len() > 1 && figures.redis.len() > 1).then_some(figures)
    }
}

/// What is needed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// Machines that carry the load with the headroom, without the spare one.
    machines: u64,
    process_gib: f64,
    kernel_gib: f64,
    delivery_cores: f64,
    event_cores: f64,
    ping_cores: f64,
    events: f64,
    redis_cores: f64,
    redis_processes: u64,
    gigabits: f64,
    /// Seconds until all connections of one machine are back on the others.
    back: f64,
}

impl Need {
    /// Returns what is needed.
    pub(crate) fn plan(&self, figures: &Figures) -> Plan {
        let usable = 1.0 - self.headroom;
        let connections = count(self.connections);
        let deliveries = count(self.deliveries);
        let events = deliveries / count(self.subscribers_per_event.max(1));
        let kernel = if figures.kernel_kib.is_nan() {
            0.0
        } else {
            figures.kernel_kib
        };
        let memory = connections * (figures.process_kib + kernel) / GIB;
        let delivery_cores = deliveries * at(&figures.delivery, self.event_size) / 1e6;
        let ping_cores = connections / PING_INTERVAL * figures.ping / 1e6;
        // Every further node makes an event dearer, so the cores depend on the machines that they ask for.
        let mut machines = 1;
        let mut event_cores;
        loop {
            event_cores = events * self.event_cost(figures, machines) / 1e6;
            let cores = delivery_cores + ping_cores + event_cores;
            let by_cores = whole(cores / (f64::from(self.cores) * usable));
            let by_memory = whole(memory / (f64::from(self.memory) * usable));
            let needed = by_cores.max(by_memory).max(1);
            if needed <= machines || machines >= MOST_MACHINES {
                break;
            }
            machines += 1;
        }
        let redis_cores = if machines > 1 {
            events * line(&figures.redis, machines) / 1e6
        } else {
            0.0
        };
        let free = f64::from(self.cores) * self.headroom * count(machines);
        Plan {
            machines,
            process_gib: connections * figures.process_kib / GIB,
            kernel_gib: connections * figures.kernel_kib / GIB,
            delivery_cores,
            event_cores,
            ping_cores,
            events,
            redis_cores,
            redis_processes: whole(redis_cores / usable),
            gigabits: deliveries * (count(self.event_size as u64) + AROUND_DATA) * 8.0 / 1e9,
            back: connections / count(machines) * figures.connect / 1e6 / free,
        }
    }

    /// Returns the CPU of all nodes for an event, without its deliveries. It reaches as many nodes as it has subscribers
    /// for.
    fn event_cost(&self, figures: &Figures, machines: u64) -> f64 {
        if machines < 2 {
            return figures.publish;
        }
        line(&figures.event, machines.min(self.subscribers_per_event))
    }

    /// Returns the plan as Markdown.
    pub(crate) fn page(&self, figures: &Figures) -> String {
        let plan = self.plan(figures);
        let (machines, spare) = (plan.machines, plan.machines + 1);
        let mut out = format!(
            "## What {} connections with {} deliveries/s need\n\nEvents of {} bytes that reach {} subscribers each: \
             {} events/s. Machines of {} cores and {} GiB, of which {:.0} % are not planned with.\n\n\
             | what | needed |\n|---|---|\n",
            grouped(self.connections),
            grouped(self.deliveries),
            self.event_size,
            self.subscribers_per_event,
            grouped(whole(plan.events)),
            self.cores,
            self.memory,
            100.0 * self.headroom,
        );
        let cores = plan.delivery_cores + plan.event_cores + plan.ping_cores;
        let rows = [
            (
                "machines with one Fanfare each".to_owned(),
                format!("**{machines}**, and one more that may fail: {spare}"),
            ),
            (
                "connections to each machine".into(),
                grouped(self.connections.div_ceil(machines)),
            ),
            (
                "memory of all processes for connections".into(),
                format!("{:.1} GiB", plan.process_gib),
            ),
            (
                "memory of all kernels for their sockets".into(),
                gib(plan.kernel_gib),
            ),
            (
                "cores, without headroom".into(),
                format!(
                    "{cores:.1}: deliveries {:.1}, events {:.1}, PINGs {:.2}",
                    plan.delivery_cores, plan.event_cores, plan.ping_cores
                ),
            ),
            ("Redis, without headroom".into(), self.redis(&plan)),
            (
                "network, out".into(),
                format!("{:.1} Gbit/s", plan.gigabits),
            ),
            (
                "until the clients of a failed machine are back, at the least".into(),
                format!("{:.1} s", plan.back),
            ),
        ];
        for (name, value) in rows {
            let _ = writeln!(out, "| {name} | {value} |");
        }
        out
    }

    fn redis(&self, plan: &Plan) -> String {
        match plan.redis_processes {
            0 => "none: one node needs none".into(),
            1 => format!("one, {:.2} of its core", plan.redis_cores),
            more => format!(
                "{:.1} cores: a Redis Cluster of {more} masters, which the events of several apps can share; one app has one",
                plan.redis_cores
            ),
        }
    }
}

/// A plan with more machines than this is none.
const MOST_MACHINES: u64 = 10_000;

/// Returns the cost at a size, on a straight line between the sizes that were measured.
fn at(costs: &[(usize, f64)], size: usize) -> f64 {
    let above = costs.partition_point(|(measured, _)| *measured < size);
    let (Some(low), Some(high)) = (
        costs.get(above.saturating_sub(1)),
        costs.get(above.min(costs.len().saturating_sub(1))),
    ) else {
        return f64::NAN;
    };
    let width = count(high.0.saturating_sub(low.0) as u64);
    if width <= 0.0 {
        return if size > high.0 {
            high.1 * count(size as u64) / count(high.0 as u64)
        } else {
            high.1
        };
    }
    low.1 + (high.1 - low.1) * count(size.saturating_sub(low.0) as u64) / width
}

/// Returns the cost at a number of nodes, on the line of least squares through the numbers that were measured. The line
/// never falls, because a further node never makes an event cheaper.
fn line(costs: &[(usize, f64)], nodes: u64) -> f64 {
    let points = costs
        .iter()
        .map(|(nodes, cost)| (count(*nodes as u64), *cost));
    let number = count(costs.len() as u64);
    let (sum_x, sum_y) = points
        .clone()
        .fold((0.0, 0.0), |sums, (x, y)| (sums.0 + x, sums.1 + y));
    let (mean_x, mean_y) = (sum_x / number, sum_y / number);
    let (over, under) = points.fold((0.0, 0.0), |sums, (x, y)| {
        (
            sums.0 + (x - mean_x) * (y - mean_y),
            sums.1 + (x - mean_x).powi(2),
        )
    });
    let slope = (over / under).max(0.0);
    mean_y + slope * (count(nodes) - mean_x)
}

fn count(count: u64) -> f64 {
    crate::measure::as_f64(count)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is not negative, and small"
)]
fn whole(value: f64) -> u64 {
    value.ceil().max(0.0) as u64
}

fn gib(value: f64) -> String {
    if value.is_nan() {
        "not measured here".into()
    } else {
        format!("{value:.1} GiB")
    }
}

/// Returns a number with commas between its thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        need: Need,
    }

    fn need(args: &str) -> Need {
        Cli::parse_from(std::iter::once("need").chain(args.split_whitespace())).need
    }

    fn figures() -> Figures {
        Figures {
            process_kib: 2.0,
            kernel_kib: 6.0,
            connect: 50.0,
            ping: 5.0,
            publish: 10.0,
            delivery: vec![(100, 5.0), (200, 7.0)],
            event: vec![(2, 40.0), (4, 60.0)],
            redis: vec![(2, 30.0), (4, 40.0)],
        }
    }

    #[test]
    fn memory_decides_where_little_is_delivered() {
        let need =
            need("--connections 1048576 --deliveries 1000 --memory 4 --cores 8 --event-size 100");
        let plan = need.plan(&figures());
        // 8 GiB for connections, of 2 GiB on each machine.
        assert_eq!((plan.machines, plan.redis_processes), (4, 1));
        assert_eq!(
            format!("{:.1} {:.1}", plan.process_gib, plan.kernel_gib),
            "2.0 6.0"
        );
    }

    #[test]
    fn cores_decide_where_much_is_delivered_and_events_get_dearer_with_the_machines() {
        let need = need(
            "--connections 1000 --deliveries 4000000 --memory 4 --cores 4 --event-size 150 --subscribers-per-event 1000",
        );
        let plan = need.plan(&figures());
        assert_eq!(format!("{:.1}", plan.delivery_cores), "24.0");
        // 13 machines have 26 cores to plan with; 4,000 events take 0.6 of them.
        assert_eq!(
            (plan.machines, format!("{:.2}", plan.event_cores)),
            (13, "0.60".into())
        );
    }

    #[test]
    fn one_machine_needs_no_redis() {
        let page = need("--connections 1000 --deliveries 1000").page(&figures());
        assert!(
            page.contains("| machines with one Fanfare each | **1**, and one more"),
            "{page}"
        );
        assert!(page.contains("| none: one node needs none |"), "{page}");
    }

    #[test]
    fn costs_between_sizes_lie_on_a_line_and_beyond_them_grow_with_the_bytes() {
        let costs = figures().delivery;
        let at = |size| format!("{:.1}", at(&costs, size));
        assert_eq!(
            [at(50), at(100), at(150), at(200), at(400)],
            ["5.0", "5.0", "6.0", "7.0", "14.0"]
        );
        assert_eq!(format!("{:.0}", line(&figures().event, 6)), "80");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
