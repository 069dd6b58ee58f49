//! Users who join and leave a presence channel: what one costs the server, with so many members who are told.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Workload;
use crate::generator::{Generator, Watch};
use crate::measure::{Window, as_f64, per};
use crate::process::Server;
use crate::report::Figure;
use crate::target::Target;
use crate::wire::after;

/// CPU for each member who is told that another came or went.
pub(crate) const ANNOUNCEMENT: &str = "CPU per announcement, us";
/// Size of what a user gets who joins.
pub(crate) const ROSTER_BYTES: &str = "bytes of the list per member";

const CHANNEL: &str = "presence-bench";
/// If nothing arrives for this long, something was lost.
const STALL: Duration = Duration::from_secs(5);

/// Users who join and leave a presence channel.
#[derive(Debug, clap::Args)]
pub(crate) struct Presence {
    /// Members who stay. Fanfare and hosted Pusher allow a hundred, those who come and go included.
    #[arg(long, default_value_t = Self::default().members)]
    pub(crate) members: usize,
    /// Users who join at once and leave at once.
    #[arg(long, default_value_t = Self::default().churners)]
    pub(crate) churners: usize,
    /// Seconds to measure, after a third of it as warm-up.
    #[arg(long, default_value_t = Self::default().seconds)]
    pub(crate) seconds: f64,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            members: 90,
            churners: 4,
            seconds: 4.0,
        }
    }
}

impl Workload for Presence {
    fn title(&self) -> String {
        format!(
            "presence: {} users join and leave a channel of {} members, for {} s",
            self.churners, self.members, self.seconds
        )
    }

    fn run(&self, server: &Server) -> Result<Vec<Figure>> {
        let target = &server.target;
        let mut generator = Generator::new(target)?;
        let window = Window::begin(&target.pids)?;
        generator.subscribe((0..self.members).map(|_| CHANNEL.to_owned()))?;
        let filling = window.end()?;
        generator.subscribe((0..self.churners).map(|at| format!("bench-{at:05}")))?;
        // What the last members were told of each other.
        generator.idle_for(Duration::from_millis(200))?;
        let mut told = Told {
            members: self.members,
            ..Told::default()
        };
        let time = Duration::from_secs_f64(self.seconds);
        self.churn(&mut generator, &mut told, time / 3)?;
        let window = Window::begin(&target.pids)?;
        let rounds = self.churn(&mut generator, &mut told, time)?;
        let spent = window.end()?;
        let visits = rounds * self.churners as u64;
        let mut figures = vec![
            Figure::new("joins and leaves/s", spent.rate(visits), 0),
            Figure::new(
                "CPU per join and leave, us",
                spent.server_micros_per(visits),
                1,
            ),
            Figure::new(
                ANNOUNCEMENT,
                spent.server_micros_per(2 * visits * self.members as u64),
                2,
            ),
            Figure::new(
                ROSTER_BYTES,
                per(as_f64(told.list as u64), self.members as u64),
                0,
            ),
            Figure::new(
                "CPU per member while it fills, us",
                filling.server_micros_per(self.members as u64),
                1,
            ),
        ];
        figures.extend(spent.generator());
        Ok(figures)
    }
}

impl Presence {
    /// Lets all join, waits until every member was told, and the same for leaving. Returns how often.
    fn churn(&self, generator: &mut Generator, told: &mut Told, time: Duration) -> Result<u64> {
        let until = Instant::now() + time;
        let churners = self.members..self.members + self.churners;
        let all = self.churners * self.members;
        let mut rounds = 0;
        while rounds == 0 || Instant::now() < until {
            (told.added, told.removed, told.joined) = (0, 0, 0);
            for churner in churners.clone() {
                generator.subscribers().subscribe(churner, CHANNEL)?;
            }
            wait(generator, told, |told| {
                told.added >= all && told.joined >= self.churners
            })?;
            for churner in churners.clone() {
                let leave = Target::unsubscription(CHANNEL);
                generator.subscribers().send(churner, &leave)?;
            }
            wait(generator, told, |told| told.removed >= all)?;
            rounds += 1;
        }
        Ok(rounds)
    }
}

fn wait(generator: &mut Generator, told: &mut Told, is_done: impl Fn(&Told) -> bool) -> Result<()> {
    let started = Instant::now();
    while !is_done(told) {
        generator.turn(Duration::from_millis(100), told)?;
        ensure!(
            started.elapsed() < STALL,
            "not all were told within {STALL:?}: {told:?}"
        );
    }
    Ok(())
}

/// What members and those who join were told.
#[derive(Debug, Default)]
struct Told {
    members: usize,
    added: usize,
    removed: usize,
    joined: usize,
    /// Bytes of the latest answer to a user who joined.
    list: usize,
}

impl Watch for Told {
    fn delivered(&mut self, _subscriber: usize, _sequence: u32, _at: Instant) {}

    fn answered(&mut self, _publisher: usize) {}

    fn told(&mut self, subscriber: usize, message: &[u8]) {
        if subscriber >= self.members {
            if after(message, "subscription_succeeded").is_some() {
                self.joined += 1;
                self.list = message.len();
            }
        } else if after(message, "member_added").is_some() {
            self.added += 1;
        } else if after(message, "member_removed").is_some() {
            self.removed += 1;
        }
    }
}
