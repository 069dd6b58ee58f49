//! What is measured at one size of each axis.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Pace;
use crate::generator::{Generator, Ignore, publish_and_wait};
use crate::measure::{Window, as_f64, per, resident_kib, socket_memory_kib};
use crate::process::Server;
use crate::report::Figure;
use crate::target::Target;
use crate::workload::idle::{channel, deliver_to_each, kept_share};
pub(super) use crate::workload::presence::{ANNOUNCEMENT, ROSTER_BYTES};
use crate::workload::publish::repeat;
use crate::workload::{Presence, Workload};

pub(super) const PROCESS_KIB: &str = "process KiB per connection";
pub(super) const KERNEL_KIB: &str = "kernel KiB per connection";
pub(super) const CONNECT: &str = "CPU to connect, us";
pub(super) const PING: &str = "CPU per PING, us";
pub(super) const PUBLISH: &str = "CPU per publish, us";
pub(super) const DELIVERY: &str = "CPU per delivery, us";
pub(super) const CHANNEL_BYTES: &str = "bytes per channel";
pub(super) const SUBSCRIBE: &str = "CPU to subscribe, us";
pub(super) const EVENT: &str = "CPU per event, us";
pub(super) const KIB_DELIVERED: &str = "CPU per KiB delivered, us";
pub(super) const NODE_EVENT: &str = "CPU per event and node, us";
pub(super) const REDIS_EVENT: &str = "Redis CPU per event, us";
pub(super) const REDIS_MIB: &str = "Redis MiB";

/// Subscribers of the channel on which deliveries are measured.
const LISTENERS: usize = 100;
const LISTENED: &str = "bench-00000";
/// Bytes of data where the size of events is not swept over.
const PAYLOAD: usize = 100;
/// How long a server gets to give back the memory of connections that have closed.
const RELEASE: Duration = Duration::from_secs(3);
/// Connections that publish where many requests are in flight.
const PUBLISHERS: usize = 16;
/// Connections that hold the channels.
const HOLDERS: usize = 1000;
const CHANNELS_EACH: usize = 5;
const SUBSCRIBERS_EACH: usize = 500;

/// Returns the server's interval of PINGs where connections are swept over.
pub(super) fn ping_interval(pace: Pace) -> Duration {
    Duration::from_secs(if pace.quick { 1 } else { 5 })
}

pub(super) fn connections(server: &Server, size: usize, pace: Pace) -> Result<Vec<Figure>> {
    let target = &server.target;
    let mut listeners = Generator::new(target)?;
    listeners.subscribe((0..LISTENERS).map(|_| LISTENED.to_owned()))?;
    let (before, kernel_before) = (resident_kib(&target.pids)?, socket_memory_kib());
    let mut generator = Generator::new(target)?;
    let connected = Instant::now();
    let window = Window::begin(&target.pids)?;
    let others = size.saturating_sub(LISTENERS);
    generator.subscribe((0..others).map(channel))?;
    let connecting = window.end()?;
    let kernel_after = socket_memory_kib();
    // A server may close a connection that has sent no request for a while, so it is opened late.
    listeners.open_publishers(1)?;
    let deliveries = one_at_a_time(
        &mut listeners,
        target,
        &pace,
        |_| LISTENED.into(),
        LISTENERS,
    )?;
    let count = others as u64;
    deliver_to_each(
        &mut generator,
        target,
        others,
        if pace.quick { 2 } else { 20 },
    )?;
    let (pings, ping_cpu) = pinged(&mut generator, target, connected, ping_interval(pace))?;
    let after = resident_kib(&target.pids)?;
    drop(generator);
    std::thread::sleep(if pace.quick { pace.window } else { RELEASE });
    let kept = resident_kib(&target.pids)?;
    let grown = as_f64(after) - as_f64(before);
    // Both ends of a connection are on this machine, and half of what its sockets take is the server's.
    let kernel = kernel_before
        .zip(kernel_after)
        .map_or(f64::NAN, |(before, after)| (after - before) / 2.0);
    Ok(vec![
        Figure::new(PROCESS_KIB, per(grown, count), 2),
        Figure::new(KERNEL_KIB, per(kernel, count), 2),
        Figure::new(
            "kept after all closed, %",
            100.0 * kept_share(before, after, kept),
            0,
        ),
        Figure::new(CONNECT, connecting.server_micros_per(count), 1),
        Figure::new(PING, per(ping_cpu, pings), 2),
        Figure::new(DELIVERY, deliveries.per_delivery, 2),
    ])
}

/// Waits until every connection was sent a PING. Returns how many were answered and the CPU that the server took
/// meanwhile, in microseconds.
fn pinged(
    generator: &mut Generator,
    target: &Target,
    connected: Instant,
    interval: Duration,
) -> Result<(u64, f64)> {
    let window = Window::begin(&target.pids)?;
    let before = generator.subscribers().pings();
    let wait = (interval + Duration::from_secs(1)).saturating_sub(connected.elapsed());
    generator.idle_for(wait.max(interval / 2))?;
    let pings = generator.subscribers().pings() - before;
    Ok((pings, window.end()?.server_micros_per(1)))
}

pub(super) fn channels(server: &Server, size: usize, pace: Pace) -> Result<Vec<Figure>> {
    let target = &server.target;
    let mut generator = Generator::new(target)?;
    generator.subscribe((0..HOLDERS).map(|at| format!("holder-{at:08}")))?;
    generator.open_publishers(1)?;
    generator.idle_for(pace.window / 3)?;
    let before = resident_kib(&target.pids)?;
    let window = Window::begin(&target.pids)?;
    generator.subscribe_further((0..size).map(|at| (at % HOLDERS, channel(at))))?;
    let subscribing = window.end()?;
    generator.idle_for(pace.window / 3)?;
    let grown = as_f64(resident_kib(&target.pids)?) - as_f64(before);
    let events = one_at_a_time(&mut generator, target, &pace, |at| channel(at % size), 1)?;
    let count = size as u64;
    Ok(vec![
        Figure::new(CHANNEL_BYTES, per(1024.0 * grown, count), 0),
        Figure::new(SUBSCRIBE, subscribing.server_micros_per(count), 1),
        Figure::new(EVENT, events.per_event, 1),
    ])
}

pub(super) fn subscribers(server: &Server, size: usize, pace: Pace) -> Result<Vec<Figure>> {
    let mut listeners = listeners(&server.target, size)?;
    let deliveries = one_at_a_time(
        &mut listeners,
        &server.target,
        &pace,
        |_| LISTENED.into(),
        size,
    )?;
    Ok(vec![
        Figure::new(DELIVERY, deliveries.per_delivery, 2),
        Figure::new(EVENT, deliveries.per_event, 1),
        Figure::new("deliveries/s", deliveries.rate, 0),
    ])
}

pub(super) fn event_size(server: &Server, size: usize, pace: Pace) -> Result<Vec<Figure>> {
    let target = &server.target;
    let mut generator = listeners(target, LISTENERS)?;
    let flow = Flow {
        deliveries: LISTENERS,
        payload: size,
    };
    let deliveries = flow.run(&mut generator, target, pace.window, |_| LISTENED.into())?;
    drop(generator);
    let sign = |sequence| target.publish("other-00000", sequence, size);
    let (count, publishing) = repeat(target, PUBLISHERS, [pace.window / 3, pace.window], sign)?;
    Ok(vec![
        Figure::new(DELIVERY, deliveries.per_delivery, 2),
        Figure::new(
            KIB_DELIVERED,
            deliveries.per_delivery * 1024.0 / as_f64(size as u64),
            2,
        ),
        Figure::new(PUBLISH, publishing.server_micros_per(count), 1),
        Figure::new("deliveries/s", deliveries.rate, 0),
    ])
}

pub(super) fn presence(server: &Server, size: usize, pace: Pace) -> Result<Vec<Figure>> {
    let presence = Presence {
        members: size,
        churners: 1,
        seconds: pace.window.as_secs_f64(),
    };
    presence.run(server)
}

pub(super) fn nodes(server: &Server, size: usize, pace: Pace) -> Result<Vec<Figure>> {
    let target = &server.target;
    let mut generator = Generator::new(target)?;
    let subscribers = SUBSCRIBERS_EACH * size;
    generator.subscribe((0..subscribers).map(|at| format!("bench-{:05}", at % CHANNELS_EACH)))?;
    generator.open_publishers(1)?;
    let each = subscribers / CHANNELS_EACH;
    let busy = |at| format!("bench-{:05}", at % CHANNELS_EACH);
    let deliveries = one_at_a_time(&mut generator, target, &pace, busy, each)?;
    drop(generator);
    let mut few = one_on_each_node(target, size)?;
    let redis_pids: Vec<u32> = server.redis.into_iter().collect();
    let redis = Window::begin(&redis_pids)?;
    let events = one_at_a_time(&mut few, target, &pace, |_| LISTENED.into(), size)?;
    let redis = redis.end()?.server_micros_per(events.count);
    let redis_mib = as_f64(resident_kib(&redis_pids)?) / 1024.0;
    let with_redis = |value: f64| {
        if redis_pids.is_empty() {
            f64::NAN
        } else {
            value
        }
    };
    Ok(vec![
        Figure::new(DELIVERY, deliveries.per_delivery, 2),
        Figure::new(NODE_EVENT, per(events.per_event, size as u64), 1),
        Figure::new(EVENT, events.per_event, 1),
        Figure::new(REDIS_EVENT, with_redis(redis), 1),
        Figure::new(REDIS_MIB, with_redis(redis_mib), 1),
    ])
}

/// Subscribes one client on each node.
fn one_on_each_node(target: &Target, nodes: usize) -> Result<Generator> {
    let mut generator = Generator::new(target)?;
    let mut taken = vec![false; nodes];
    for at in 0.. {
        let address = target.address(at);
        let node = target.addresses.iter().position(|node| *node == address);
        let free = node
            .and_then(|node| taken.get_mut(node))
            .filter(|taken| !**taken);
        // The others have channels of their own.
        let name = match free {
            Some(taken) => {
                *taken = true;
                LISTENED.to_owned()
            }
            None => format!("other-{at:05}"),
        };
        generator.subscribe([name].into_iter())?;
        if taken.iter().all(|taken| *taken) {
            break;
        }
    }
    generator.open_publishers(1)?;
    Ok(generator)
}

/// Subscribes to the channel on which deliveries are measured.
fn listeners(target: &Target, count: usize) -> Result<Generator> {
    let mut generator = Generator::new(target)?;
    generator.subscribe((0..count).map(|_| LISTENED.to_owned()))?;
    generator.open_publishers(1)?;
    Ok(generator)
}

fn one_at_a_time(
    generator: &mut Generator,
    target: &Target,
    pace: &Pace,
    channel: impl Fn(usize) -> String,
    deliveries: usize,
) -> Result<Costs> {
    let flow = Flow {
        deliveries,
        payload: PAYLOAD,
    };
    flow.run(generator, target, pace.window, channel)
}

/// Events of which one is in flight.
struct Flow {
    /// Deliveries of each.
    deliveries: usize,
    payload: usize,
}

/// What events cost.
struct Costs {
    count: u64,
    per_event: f64,
    per_delivery: f64,
    rate: f64,
}

impl Flow {
    /// Publishes for a third of the time first, and measures the whole time then.
    fn run(
        &self,
        generator: &mut Generator,
        target: &Target,
        time: Duration,
        channel: impl Fn(usize) -> String,
    ) -> Result<Costs> {
        let mut number = 0;
        let mut run_for = |time: Duration| -> Result<u64> {
            let (first, until) = (number, Instant::now() + time);
            while number == first || Instant::now() < until {
                let name = channel(usize::try_from(number)?);
                let request = target.publish(&name, number, self.payload);
                publish_and_wait(generator, &request, self.deliveries)
                    .with_context(|| format!("event {number} on {name}"))?;
                number += 1;
            }
            Ok(u64::from(number - first))
        };
        run_for(time / 3)?;
        let window = Window::begin(&target.pids)?;
        let count = run_for(time)?;
        let spent = window.end()?;
        generator.turn(Duration::ZERO, &mut Ignore)?;
        let deliveries = count * self.deliveries as u64;
        Ok(Costs {
            count,
            per_event: spent.server_micros_per(count),
            per_delivery: spent.server_micros_per(deliveries),
            rate: spent.rate(deliveries),
        })
    }
}
