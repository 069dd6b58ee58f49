//! Many subscribers on several channels, events at a steady rate: what arrives, how late, and what it costs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Workload;
use crate::generator::Generator;
use crate::measure::Window;
use crate::process::Server;
use crate::report::Figure;
use crate::tally::Tally;

/// How long one more delivery is waited for after the last event was sent.
pub(super) const QUIET_TIMEOUT: Duration = Duration::from_secs(2);

/// Paced events over several channels.
#[derive(Debug, clap::Args)]
pub(crate) struct Fanout {
    /// Subscribers, spread evenly over the channels.
    #[arg(long, default_value_t = Self::default().subscribers)]
    pub(crate) subscribers: usize,
    /// Channels.
    #[arg(long, default_value_t = Self::default().channels)]
    pub(crate) channels: usize,
    /// Events a second, over all channels.
    #[arg(long, default_value_t = Self::default().rate)]
    pub(crate) rate: u32,
    /// Seconds to measure, after one second of warm-up.
    #[arg(long, default_value_t = Self::default().seconds)]
    pub(crate) seconds: u32,
    /// Keep-alive connections to publish on; a channel's events all go over the same one, so that their order is defined.
    #[arg(long, default_value_t = Self::default().publishers)]
    pub(crate) publishers: usize,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = Self::default().payload)]
    pub(crate) payload: usize,
}

impl Default for Fanout {
    fn default() -> Self {
        Self {
            subscribers: 1000,
            channels: 10,
            rate: 400,
            seconds: 10,
            publishers: 5,
            payload: 100,
        }
    }
}

impl Workload for Fanout {
    fn title(&self) -> String {
        format!(
            "fanout: {} subscribers on {} channels, {} events/s for {} s",
            self.subscribers, self.channels, self.rate, self.seconds
        )
    }

    fn run(&self, server: &Server) -> Result<Vec<Figure>> {
        ensure!(
            self.channels > 0 && self.subscribers.is_multiple_of(self.channels),
            "subscribers must spread evenly over the channels"
        );
        ensure!(
            self.rate > 0 && self.publishers > 0,
            "there must be a rate and publishers"
        );
        let target = &server.target;
        let mut generator = Generator::new(target)?;
        generator.subscribe((0..self.subscribers).map(|at| self.channel(at)))?;
        generator.open_publishers(self.publishers)?;
        let sign = |sequence: u32| {
            target.publish(&self.channel(sequence as usize), sequence, self.payload)
        };
        let warm_up = self.whole_turns(self.rate);
        let measured = self.whole_turns(self.rate * self.seconds);
        let requests: Vec<Vec<u8>> = (0..warm_up + measured).map(sign).collect();
        let (first, rest) = requests.split_at(warm_up as usize);
        self.pace(&mut generator, first, 0)?;
        let window = Window::begin(&target.pids)?;
        let tally = self.pace(&mut generator, rest, warm_up)?;
        let spent = window.end()?;
        let mut figures = tally.figures();
        figures.extend([
            Figure::new(
                "CPU per delivery, us",
                spent.server_micros_per(tally.delivered()),
                3,
            ),
            Figure::new("server CPU, cores", spent.server_share(), 2),
        ]);
        figures.extend(spent.generator());
        Ok(figures)
    }
}

impl Fanout {
    /// Returns a channel's name. Names have equal lengths, so that all events have the same layout.
    fn channel(&self, at: usize) -> String {
        format!("bench-{:05}", at % self.channels)
    }

    /// Returns `events` or a few more, so that each channel gets equally many.
    fn whole_turns(&self, events: u32) -> u32 {
        let channels = u32::try_from(self.channels).expect("channels are few");
        events.div_ceil(channels) * channels
    }

    /// Sends the requests at the rate, numbered from `first`, and waits for their deliveries.
    fn pace(&self, generator: &mut Generator, requests: &[Vec<u8>], first: u32) -> Result<Tally> {
        let mut tally = Tally::new(self.subscribers, self.channels, first, requests.len());
        let mut queues = vec![VecDeque::new(); self.publishers];
        let interval = Duration::from_secs(1) / self.rate;
        let start = Instant::now();
        let mut due = start;
        let mut unsent = requests.iter().enumerate().peekable();
        loop {
            let now = Instant::now();
            while due <= now
                && let Some((at, request)) = unsent.next()
            {
                tally.sent(now);
                queues[at % self.channels % self.publishers].push_back(request);
                due += interval;
            }
            send_queued(generator, &mut queues)?;
            let all_sent = unsent.peek().is_none() && queues.iter().all(VecDeque::is_empty);
            if all_sent && (tally.is_complete() || tally.quiet_for(now) > QUIET_TIMEOUT) {
                return Ok(tally);
            }
            let wait = due.saturating_duration_since(now);
            generator.turn(wait.min(Duration::from_millis(100)), &mut tally)?;
        }
    }
}

/// Sends the next request of each publisher that isn't busy.
fn send_queued(generator: &mut Generator, queues: &mut [VecDeque<&Vec<u8>>]) -> Result<()> {
    for (publisher, queue) in queues.iter_mut().enumerate() {
        if !generator.publishers().is_busy(publisher)
            && let Some(request) = queue.pop_front()
        {
            generator.publishers().send(publisher, request)?;
        }
    }
    Ok(())
}
