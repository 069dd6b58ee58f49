//! Sends what waits for one webhook while this node holds its lease.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fanfare_store::{
    Actor, DeliveryAttempt, EndpointHealth, NextStep, Outcome, StoreError, WaitingDelivery,
    WebhookState,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::HookLabel;
use super::body::Content;
use super::counters::AttemptResult;
use super::courier::{Answer, Reach};
use super::endpoint::{Endpoint, Health, Item, LANES, Next, Sends, Verdict};
use super::hooks::Hook;
use super::permits::{Pace, Permit};
use super::request::{Attempted, DeliveryId, signed_request};
use super::sender::{FailingHook, Lease, STORE_TIMEOUT, Shared};
use super::shown::show_attempt;
use crate::clock::unix_millis;

/// Deliveries that are read at once, and when memory is short.
const PAGE: i64 = 64;
const SHORT_PAGE: i64 = 4;
/// Most pages that are read before something is sent: of a long row of deliveries that are left out none is kept.
const MAX_PAGES: usize = 8;
/// A bit for each lane.
const ALL_LANES: i64 = (1 << LANES) - 1;
/// Deliveries of which fewer wait here before more are read.
const LOW: usize = 32;
/// Bytes of events of a webhook, and of all webhooks, above which pages are short.
const MAX_HELD_BYTES: usize = 8 << 20;
const MAX_HELD_BYTES_OF_ALL: usize = 64 << 20;
/// Outcomes that are not in the store yet, above which nothing is sent.
const MAX_OUTCOMES: usize = 256;
/// Milliseconds for which a task waits for the next attempt with its lease.
const PATIENCE: i64 = 60_000;
/// Milliseconds after which a node looks at a webhook again that may not send.
const LOOK_AGAIN: i64 = 15_000;
/// Time between two attempts to write outcomes while the store doesn't answer.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);
/// How long a lease must last for another request.
const LEAST_LEASE: Duration = Duration::from_secs(2);
/// How long a receiver may take to answer before it gets less of the room for requests.
const LATE_AFTER: Duration = Duration::from_secs(1);
/// Longest time without a look around.
const TICK: Duration = Duration::from_secs(60);

/// The end of an attempt, or `None` if none was made.
struct Finished {
    sequence: i64,
    at: i64,
    answer: Option<Answer>,
}

/// The task of a webhook.
pub(super) struct Sending {
    shared: Arc<Shared>,
    webhook: String,
    lease: Arc<Lease>,
    endpoint: Endpoint,
    held: HashMap<i64, Arc<WaitingDelivery>>,
    held_bytes: usize,
    /// The last sequence number that was read, and whether there may be more after it.
    read_to: i64,
    has_more: bool,
    /// Whether the last look has read as many pages as it may and wants more.
    is_reading: bool,
    /// For each lane that was full, the sequence number after which its deliveries were not read.
    behind: [Option<i64>; LANES as usize],
    outcomes: Vec<Outcome>,
    /// When the webhook was last changed, as far as was looked.
    seen: Option<i64>,
    /// Whether this task has disabled the webhook, which the node learns a little later.
    is_disabled: bool,
    /// When outcomes are written that the store didn't take.
    settle_at: Option<Instant>,
    /// Unix time in milliseconds before which nothing is sent, because the host isn't reached.
    host_away_until: i64,
    finish: mpsc::UnboundedSender<Finished>,
    finished: mpsc::UnboundedReceiver<Finished>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.shared
            .held_bytes
            .fetch_sub(self.held_bytes, Ordering::Relaxed);
    }
}

impl Sending {
    /// Sends until nothing waits, the lease is lost, or the node stops.
    pub(super) async fn run(shared: Arc<Shared>, webhook: String, lease: Arc<Lease>) {
        let found = timeout(STORE_TIMEOUT, shared.store.webhook_health(&webhook)).await;
        let health = match found.unwrap_or(Err(StoreError::Late)) {
            Ok(Some(found)) => health_of(&found.endpoint),
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(webhook, %error, "a webhook is not read; it is leased again");
                return;
            }
        };
        let mut sending = Self::new(shared, webhook, lease, health);
        if let Err(error) = sending.send().await {
            tracing::debug!(webhook = sending.webhook, %error, "a webhook is left; it is leased again");
        }
    }

    fn new(shared: Arc<Shared>, webhook: String, lease: Arc<Lease>, health: Health) -> Self {
        let (finish, finished) = mpsc::unbounded_channel();
        Self {
            endpoint: Endpoint::new(shared.retry_for, health, Sends::All),
            shared,
            webhook,
            lease,
            held: HashMap::new(),
            held_bytes: 0,
            read_to: 0,
            has_more: true,
            is_reading: false,
            behind: [None; LANES as usize],
            outcomes: Vec::new(),
            seen: None,
            is_disabled: false,
            settle_at: None,
            host_away_until: i64::MIN,
            finish,
            finished,
        }
    }

    async fn send(&mut self) -> Result<(), StoreError> {
        loop {
            let Some(hook) = self.shared.hooks.get(&self.webhook) else {
                return Ok(());
            };
            let is_active =
                hook.state == WebhookState::Active && hook.url().is_some() && !self.is_disabled;
            self.endpoint.set_sends(if is_active {
                Sends::All
            } else {
                Sends::Replays
            });
            self.note_change(&hook);
            let news = self.lease.take_news();
            self.has_more |= news.has_new;
            if news.may_have_old || self.endpoint.take_room_for_left_out() {
                self.read_again();
            }
            self.read(is_active).await?;
            let now = unix_millis();
            self.give_up_expired(now);
            let is_stopping = self.shared.stopping.is_cancelled();
            if !is_stopping {
                self.start(&hook, now);
            }
            if !self.settle(now).await {
                return Ok(());
            }
            if self.is_at_rest(is_stopping) {
                return self.hold(is_active).await;
            }
            self.wait().await;
        }
    }

    /// Sends at once after the webhook was changed or enabled again: somebody has mended it and waits for what comes of it.
    fn note_change(&mut self, hook: &Hook) {
        let seen = self.seen.replace(hook.updated_at);
        let is_changed = seen.is_some_and(|seen| seen != hook.updated_at);
        if !is_changed || hook.state != WebhookState::Active {
            return;
        }
        self.endpoint.start_over(unix_millis());
        self.shared.breakers.note(&host_of(hook), true);
        self.host_away_until = i64::MIN;
        self.is_disabled = false;
    }

    /// Reads all that waits from its beginning.
    fn read_again(&mut self) {
        self.has_more = true;
        self.read_to = 0;
        self.behind = [None; LANES as usize];
    }

    /// Reads what waits in the store, if too little waits here. Of a webhook that isn't active only replays are sent.
    async fn read(&mut self, is_active: bool) -> Result<(), StoreError> {
        self.is_reading = false;
        for _ in 0..MAX_PAGES {
            if self.shared.stopping.is_cancelled() {
                return Ok(());
            }
            let ready = self.endpoint.possible_waiting();
            let is_short = self.held_bytes > MAX_HELD_BYTES
                || self.shared.held_bytes.load(Ordering::Relaxed) > MAX_HELD_BYTES_OF_ALL;
            let limit = if is_short { SHORT_PAGE } else { PAGE };
            // While the receiver fails, a few are enough to find out whether it is back.
            let may_fill_lanes = !is_short && !self.endpoint.is_failing();
            if let Some(lane) = self.lane_to_catch_up(is_short) {
                self.catch_up(lane, limit).await?;
                continue;
            }
            let wants_more = ready < LOW && !(is_short && ready > 0)
                || self.endpoint.has_idle_lane() && may_fill_lanes;
            if !self.has_more || !wants_more {
                return Ok(());
            }
            self.leave_full_lanes();
            let page = self
                .page(self.read_to, !is_active, self.lanes(), limit)
                .await?;
            let Some(last) = page.last() else {
                self.has_more = false;
                continue;
            };
            self.read_to = last.sequence;
            self.keep_all(page);
        }
        self.is_reading = true;
        Ok(())
    }

    /// Notes from where on the deliveries of full lanes are not read, so that the others are.
    fn leave_full_lanes(&mut self) {
        for (lane, behind) in (0..).zip(&mut self.behind) {
            if behind.is_none() && self.endpoint.is_full(lane) {
                *behind = Some(self.read_to);
            }
        }
    }

    /// Returns the lanes of which deliveries are read, a bit for each.
    fn lanes(&self) -> i64 {
        let read = (0..LANES)
            .zip(&self.behind)
            .filter(|(_, behind)| behind.is_none());
        read.map(|(lane, _)| 1 << lane).sum()
    }

    /// Returns a lane that was full and has become short.
    fn lane_to_catch_up(&self, is_short: bool) -> Option<i64> {
        let least = if is_short { 1 } else { LOW };
        let mut lanes = (0..LANES).zip(&self.behind);
        let is_short_of = |(lane, behind): &(i64, &Option<i64>)| {
            behind.is_some() && self.endpoint.waiting_in(*lane) < least
        };
        lanes.find(is_short_of).map(|(lane, _)| lane)
    }

    /// Reads deliveries of one lane that were not read while it was full.
    async fn catch_up(&mut self, lane: i64, limit: i64) -> Result<(), StoreError> {
        let index = usize::try_from(lane).unwrap_or_default();
        let after = self.behind[index].unwrap_or_default();
        let page = self.page(after, false, 1 << lane, limit).await?;
        self.behind[index] = page.last().map(|last| last.sequence);
        self.keep_all(page);
        Ok(())
    }

    fn keep_all(&mut self, page: Vec<WaitingDelivery>) {
        let now = unix_millis();
        for delivery in page {
            self.keep(now, delivery);
        }
    }

    async fn page(
        &self,
        after: i64,
        only_replays: bool,
        lanes: i64,
        limit: i64,
    ) -> Result<Vec<WaitingDelivery>, StoreError> {
        let (store, node) = (&self.shared.store, &self.shared.node);
        let page = store.waiting_deliveries(node, &self.webhook, after, only_replays, lanes, limit);
        let page = timeout(STORE_TIMEOUT, page).await;
        page.unwrap_or(Err(StoreError::Late))
    }

    fn keep(&mut self, now: i64, delivery: WaitingDelivery) {
        // A delivery whose outcome isn't in the store yet still waits there.
        let is_settled = |outcome: &Outcome| outcome.sequence == delivery.sequence;
        if self.held.contains_key(&delivery.sequence) || self.outcomes.iter().any(is_settled) {
            return;
        }
        let item = Item {
            sequence: delivery.sequence,
            lane: delivery.lane,
            channel: delivery.channel.clone(),
            queued_at: delivery.queued_at,
            attempts: u32::try_from(delivery.tries).unwrap_or(u32::MAX),
            due: delivery.due,
            is_replay: delivery.is_replay,
        };
        if !self.endpoint.add(now, item) {
            return;
        }
        let bytes = delivery.events.len();
        self.held_bytes += bytes;
        self.shared.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.held.insert(delivery.sequence, Arc::new(delivery));
    }

    fn forget(&mut self, sequence: i64) {
        if let Some(delivery) = self.held.remove(&sequence) {
            let bytes = delivery.events.len();
            self.held_bytes -= bytes;
            self.shared.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn give_up_expired(&mut self, now: i64) {
        let expired = self.endpoint.take_expired(now);
        self.shared.counters.count_given_up(expired.len());
        for sequence in expired {
            self.forget(sequence);
            self.outcomes.push(Outcome {
                sequence,
                attempt: None,
                next: NextStep::Failed,
                at: now,
            });
        }
    }

    /// Starts the attempts whose time has come.
    fn start(&mut self, hook: &Arc<Hook>, now: i64) {
        if now < self.host_away_until
            || self.outcomes.len() > MAX_OUTCOMES
            || !self.lease.lasts(LEAST_LEASE)
        {
            return;
        }
        let host = host_of(hook);
        for sequence in self.endpoint.take_ready(now) {
            if let Err(wait) = self.shared.breakers.admit(&host) {
                let wait = i64::try_from(wait.as_millis()).unwrap_or(PATIENCE);
                self.host_away_until = now.saturating_add(wait);
            }
            let delivery = self.held.get(&sequence);
            match delivery.filter(|_| now >= self.host_away_until) {
                Some(delivery) => self.attempt(hook, Arc::clone(delivery)),
                None => self.endpoint.put_back(sequence),
            }
        }
    }

    fn attempt(&self, hook: &Arc<Hook>, delivery: Arc<WaitingDelivery>) {
        let (shared, hook, lease) = (
            Arc::clone(&self.shared),
            Arc::clone(hook),
            Arc::clone(&self.lease),
        );
        let finish = self.finish.clone();
        let is_careful = self.endpoint.is_careful();
        tokio::spawn(async move {
            let pace = match is_careful || shared.is_late(&hook.id) {
                true => Pace::Struggling,
                false => Pace::Quick,
            };
            let permit = shared.permits.acquire(&hook.app, pace).await;
            let at = unix_millis();
            // It may have waited for a permit, and the webhook may be another node's by now.
            let answer = match lease.lasts(Duration::ZERO) {
                true => Some(send_with(permit, &shared, &hook, &delivery, at).await),
                false => None,
            };
            // An error means that the task of the webhook has ended, because the lease was lost.
            let _ = finish.send(Finished {
                sequence: delivery.sequence,
                at,
                answer,
            });
        });
    }

    /// Takes note of the end of an attempt.
    async fn take_answer(&mut self, finished: Finished) {
        let Finished {
            sequence,
            at,
            answer,
        } = finished;
        let (Some(answer), Some(delivery)) = (answer, self.held.get(&sequence).cloned()) else {
            self.endpoint.put_back(sequence);
            return;
        };
        if answer.reach == Reach::Reached {
            self.host_away_until = i64::MIN;
        }
        let now = unix_millis();
        let verdict = match answer.is_success() {
            true => Verdict::Delivered,
            false => Verdict::Failed(answer.retry_after),
        };
        let next = self.endpoint.finish(sequence, verdict, now, rand::random());
        self.count(&answer, next);
        let attempt = delivery.attempts + 1;
        if let Next::RetryAt(_) = next {
            let attempted = WaitingDelivery {
                attempts: attempt,
                ..WaitingDelivery::clone(&delivery)
            };
            self.held.insert(sequence, Arc::new(attempted));
        } else {
            self.forget(sequence);
        }
        self.outcomes.push(Outcome {
            sequence,
            attempt: Some(DeliveryAttempt {
                attempt,
                at,
                milliseconds: i64::try_from(answer.took.as_millis()).unwrap_or(i64::MAX),
                status: answer.status.map(i64::from),
                error: answer.error.clone(),
                answer: (!answer.text.is_empty()).then(|| answer.text.clone()),
                node: self.shared.node.clone(),
                is_replay: delivery.is_replay,
            }),
            next: match next {
                Next::Delivered => NextStep::Delivered,
                Next::GivenUp => NextStep::Failed,
                Next::RetryAt(due) => NextStep::Retry(due),
            },
            at: now,
        });
        if let Some(hook) = self.shared.hooks.get(&self.webhook) {
            show_attempt(&self.shared.engine, &hook, &delivery, &answer);
            self.note_health(&hook, &answer, now);
            self.disable_if_hopeless(&hook, &answer, now).await;
        }
    }

    fn count(&self, answer: &Answer, next: Next) {
        let counters = &self.shared.counters;
        counters.count_attempt(match (answer.is_success(), answer.status) {
            (true, _) => AttemptResult::Delivered,
            (false, Some(_)) => AttemptResult::Refused,
            (false, None) => AttemptResult::Unanswered,
        });
        match next {
            Next::Delivered => counters.count_delivered(),
            Next::GivenUp => counters.count_given_up(1),
            Next::RetryAt(_) => {}
        }
    }

    /// Remembers for alerts whether the receiver fails.
    fn note_health(&self, hook: &Hook, answer: &Answer, now: i64) {
        let host = host_of(hook);
        if answer.reach != Reach::NotTried {
            let is_reached = answer.reach == Reach::Reached;
            self.shared.breakers.note(&host, is_reached);
        }
        let health = self.endpoint.health();
        let mut failing = self.shared.failing.lock();
        let (true, Some(since)) = (self.endpoint.is_failing(), health.failing_since) else {
            if failing.remove(&self.webhook).is_some() {
                tracing::info!(webhook = self.webhook, app = %hook.app, "the receiver of a webhook takes deliveries again");
            }
            return;
        };
        let next = self.endpoint.next_ready_at(now).unwrap_or(now);
        let known = FailingHook {
            hook: HookLabel::of(hook),
            host,
            since,
            error: answer.error.clone().unwrap_or_default(),
            known_until: next.saturating_add(2 * PATIENCE),
        };
        if failing
            .insert(self.webhook.clone(), known.clone())
            .is_none()
        {
            tracing::warn!(
                webhook = self.webhook,
                app = known.hook.app,
                host = known.host,
                error = known.error,
                "the receiver of a webhook fails: one delivery at a time is tried until it takes one, and the others wait"
            );
        }
    }

    /// Disables the webhook if its receiver says that it is gone, or has failed for days.
    async fn disable_if_hopeless(&mut self, hook: &Hook, answer: &Answer, now: i64) {
        let reason = if answer.is_gone() {
            "its receiver answered that it is gone (410)".to_owned()
        } else if self.endpoint.is_hopeless(now) {
            let failures = self.endpoint.health().failures;
            let error = answer.error.as_deref().unwrap_or_default();
            format!(
                "its receiver has taken nothing for five days and {failures} attempts; the last error was: {error}"
            )
        } else {
            return;
        };
        if hook.state != WebhookState::Active {
            return;
        }
        self.is_disabled = true;
        let by = Actor::system();
        let (store, app) = (&self.shared.store, hook.app.as_str());
        let state = WebhookState::Disabled;
        let disabled = store.set_webhook_state(app, &self.webhook, state, Some(&reason), None, &by);
        let disabled = timeout(STORE_TIMEOUT, disabled).await;
        if let Err(error) = disabled.unwrap_or(Err(StoreError::Late)) {
            // The next failure tries again.
            self.is_disabled = false;
            tracing::debug!(webhook = self.webhook, %error, "a webhook is not disabled yet");
            return;
        }
        tracing::warn!(
            webhook = self.webhook,
            app,
            reason,
            "a webhook is disabled: events are recorded for it, and nothing is sent until somebody enables it"
        );
    }

    /// Writes outcomes to the store. Returns `false` if the lease was lost.
    async fn settle(&mut self, now: i64) -> bool {
        let is_due = self.settle_at.is_none_or(|at| at <= Instant::now());
        if self.outcomes.is_empty() || !is_due {
            return true;
        }
        let health = self.health_to_store(now, false);
        let settled = self.shared.store.settle_deliveries(
            &self.shared.node,
            &self.webhook,
            &self.outcomes,
            &health,
        );
        match timeout(STORE_TIMEOUT, settled)
            .await
            .unwrap_or(Err(StoreError::Late))
        {
            Ok(true) => {
                self.outcomes.clear();
                self.settle_at = None;
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::debug!(webhook = self.webhook, %error, "outcomes of deliveries are not written; they are written again");
                self.settle_at = Some(Instant::now() + SETTLE_AGAIN);
                true
            }
        }
    }

    fn health_to_store(&self, now: i64, is_held: bool) -> EndpointHealth {
        let health = self.endpoint.health();
        // What has never been tried is due, but its turn comes later.
        let next = self
            .endpoint
            .next_ready_at(now)
            .map(|at| at.max(self.host_away_until));
        let held_until = match (is_held, self.endpoint.is_failing()) {
            (true, _) => Some(next.map_or(now + LOOK_AGAIN, |at| at.min(now + LOOK_AGAIN))),
            (false, true) => next,
            (false, false) => None,
        };
        EndpointHealth {
            failures: health.failures.into(),
            failing_since: health.failing_since,
            last_success_at: health.last_success_at,
            last_failure_at: health.last_failure_at,
            held_until,
        }
    }

    /// Returns whether the lease isn't needed for now.
    fn is_at_rest(&self, is_stopping: bool) -> bool {
        if self.endpoint.in_flight() > 0 || !self.outcomes.is_empty() {
            return false;
        }
        if self.is_reading && !is_stopping {
            return false;
        }
        if is_stopping {
            return true;
        }
        let now = unix_millis();
        let is_held_back = now < self.host_away_until || !self.lease.lasts(LEAST_LEASE);
        if is_held_back && self.endpoint.waiting() > 0 {
            return !self.lease.lasts(Duration::ZERO);
        }
        let next = self.endpoint.next_ready_at(now);
        next.is_none_or(|at| at - now > PATIENCE)
    }

    /// Gives up what has waited too long for a webhook that isn't active, and says in the store when it is looked at
    /// again.
    async fn hold(&mut self, is_active: bool) -> Result<(), StoreError> {
        if is_active {
            return Ok(());
        }
        let now = unix_millis();
        let retry_for = i64::try_from(self.shared.retry_for.as_millis()).unwrap_or(i64::MAX);
        let is_expired =
            |delivery: &&WaitingDelivery| now > delivery.queued_at.saturating_add(retry_for);
        let mut after = 0;
        loop {
            let page = self.page(after, false, ALL_LANES, PAGE).await?;
            let (Some(last), waiting) = (page.last(), page.len()) else {
                return Ok(());
            };
            after = last.sequence;
            let given_up = |delivery: &WaitingDelivery| Outcome {
                sequence: delivery.sequence,
                attempt: None,
                next: NextStep::Failed,
                at: now,
            };
            let outcomes: Vec<Outcome> = page.iter().filter(is_expired).map(given_up).collect();
            let health = self.health_to_store(now, true);
            let (store, node) = (&self.shared.store, &self.shared.node);
            let settled = store.settle_deliveries(node, &self.webhook, &outcomes, &health);
            let settled = timeout(STORE_TIMEOUT, settled).await;
            let is_ours = settled.unwrap_or(Err(StoreError::Late))?;
            self.shared.counters.count_given_up(outcomes.len());
            if !is_ours || outcomes.len() < waiting {
                return Ok(());
            }
        }
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self) {
        let now = unix_millis();
        let next = self.endpoint.next_ready_at(now);
        let next = next.map(|at| at.max(self.host_away_until));
        // Held back by the host: what is ready has been put back.
        let next = next.or_else(|| Some(self.host_away_until).filter(|at| *at > now));
        let until_next = next.map_or(TICK, |at| {
            Duration::from_millis(u64::try_from(at - now).unwrap_or_default())
        });
        let until_settle = self.settle_at.map_or(TICK, |at| at - Instant::now());
        let until_lease = match self.lease.lasts(LEAST_LEASE) {
            true => TICK,
            // It is renewed every few seconds, unless the store is away.
            false => SETTLE_AGAIN,
        };
        let tick = match self.is_reading {
            true => Duration::ZERO,
            false => until_next.min(until_settle).min(until_lease).min(TICK),
        };
        let is_stopping = self.shared.stopping.is_cancelled();
        let mut batch = Vec::new();
        tokio::select! {
            _ = self.finished.recv_many(&mut batch, MAX_OUTCOMES) => {}
            () = self.lease.woken() => {}
            () = sleep(tick) => {}
            () = self.shared.stopping.cancelled(), if !is_stopping => {}
        }
        for finished in batch {
            self.take_answer(finished).await;
        }
    }
}

/// Makes one attempt, and notes whether its answer is late.
async fn send_with(
    mut permit: Option<Permit>,
    shared: &Shared,
    hook: &Hook,
    delivery: &WaitingDelivery,
    at: i64,
) -> Answer {
    let mut sent = pin!(send_once(shared, hook, delivery, at));
    if let Ok(answer) = timeout(LATE_AFTER, &mut sent).await {
        shared.note_late(&hook.id, false);
        return answer;
    }
    // Noted at once, because requests that follow would take the room of other receivers until this one ends.
    shared.note_late(&hook.id, true);
    if let Some(permit) = &mut permit {
        permit.note_late();
    }
    sent.await
}

/// Makes one attempt.
async fn send_once(shared: &Shared, hook: &Hook, delivery: &WaitingDelivery, at: i64) -> Answer {
    let Some(url) = hook.url() else {
        return Answer::refused("the webhook has no address any more".into());
    };
    let attempted = Attempted {
        content: Content {
            events: &delivery.events,
            created_at: delivery.created_at,
            is_replay: delivery.is_replay,
        },
        id: DeliveryId::Sequence(delivery.sequence),
        attempt: delivery.attempts + 1,
    };
    match signed_request(shared.engine.apps(), hook, attempted, at) {
        Ok(request) => shared.courier.post(url, request).await,
        Err(error) => Answer::refused(error),
    }
}

/// Returns the host and port to which a webhook's requests go.
fn host_of(hook: &Hook) -> String {
    let Some(url) = hook.url() else {
        return String::new();
    };
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

fn health_of(stored: &EndpointHealth) -> Health {
    Health {
        failures: u32::try_from(stored.failures).unwrap_or(u32::MAX),
        failing_since: stored.failing_since,
        last_success_at: stored.last_success_at,
        last_failure_at: stored.last_failure_at,
    }
}

#[cfg(test)]
mod tests {
    use fanfare_store::{
        Database, MasterKey, NewApp, NewDelivery, NewWebhook, Store, WebhookRecord,
    };

    use super::super::endpoint::MAX_IN_LANE;
    use super::super::hooks::AppHooks;
    use super::super::sender::Sender;
    use super::super::testing::{hook_of, webhook};
    use super::*;
    use crate::config::Config;
    use crate::startup::state_at_rest;

    const NODE: &str = "node";

    /// A store with a webhook that this node holds.
    struct World {
        sending: Sending,
        app: String,
        _folder: tempfile::TempDir,
    }

    impl World {
        async fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let database = Database::open(&folder.path().join("store.db")).await;
            let database = database.expect("a database");
            let store = database.unlock(MasterKey::random()).await.expect("a store");
            let by = Actor::system();
            let new = NewApp {
                name: "a".into(),
                ..NewApp::default()
            };
            let app = store.create_app(new, &by).await;
            let (app, _) = app.expect("an app");
            let new = NewWebhook {
                name: "a".into(),
                url: Some("https://example.com".into()),
                ..NewWebhook::default()
            };
            let webhook = store.create_webhook(&app.id, new, 10, &by).await;
            let sending = sending(store, webhook.expect("a webhook").id);
            Self {
                sending,
                app: app.id,
                _folder: folder,
            }
        }

        fn store(&self) -> &Store {
            &self.sending.shared.store
        }

        /// Records deliveries of a lane, and leases the webhook.
        async fn record(&self, lane: i64, channel: &str, count: usize) {
            let webhook_id = self.sending.webhook.clone();
            let delivery = NewDelivery {
                webhook_id,
                lane,
                names: "client_event".into(),
                channel: Some(channel.into()),
                events: "[]".into(),
                count: 1,
                is_kept: false,
            };
            let now = unix_millis();
            let make = |_: &[bool]| vec![delivery; count];
            let recorded = self
                .store()
                .record_webhook_events(&self.app, 1, &[], now, make);
            recorded.await.expect("recorded");
            let leased = self.store().lease_webhooks(NODE, now, 60_000, 10).await;
            assert_eq!(leased.expect("leased"), [self.sending.webhook.as_str()]);
        }

        /// Notes that the first delivery was refused until its short gaps were used up.
        async fn refuse_first(&self) {
            for attempt in 1..=10 {
                let now = unix_millis();
                let outcomes = [Outcome {
                    sequence: 1,
                    attempt: Some(DeliveryAttempt {
                        attempt,
                        at: now,
                        milliseconds: 1,
                        status: Some(500),
                        error: None,
                        answer: None,
                        node: NODE.into(),
                        is_replay: false,
                    }),
                    next: NextStep::Retry(now + 300_000),
                    at: now,
                }];
                let (webhook, health) = (&self.sending.webhook, EndpointHealth::default());
                let settled = self
                    .store()
                    .settle_deliveries(NODE, webhook, &outcomes, &health);
                assert!(settled.await.expect("settled"));
            }
        }
    }

    fn sending(store: Store, webhook: String) -> Sending {
        let config = Config::default();
        let state = state_at_rest(&config, store.clone()).expect("a state");
        let sender = Sender::new(
            &config.webhooks,
            NODE.into(),
            store,
            Arc::clone(&state.engine),
            state.webhooks.hooks().clone(),
            Arc::default(),
        );
        let lease = Arc::new(Lease::new(Instant::now() + TICK));
        Sending::new(sender.shared(), webhook, lease, Health::default())
    }

    #[tokio::test]
    async fn an_attempt_that_was_not_made_says_nothing_of_the_host() {
        let mut world = World::new().await;
        let hook = hook_of(WebhookRecord {
            id: world.sending.webhook.clone(),
            ..webhook("wh_1")
        });
        let host = host_of(&hook);
        let shared = Arc::clone(&world.sending.shared);
        shared
            .hooks
            .set([(hook.app.clone(), AppHooks::new(vec![hook]))]);
        for _ in 0..10 {
            shared.breakers.note(&host, false);
        }
        world.sending.host_away_until = i64::MAX;
        world.record(0, "a", 1).await;
        world.sending.read(true).await.expect("read");
        let answer = Answer::refused("the app has no active key to sign with".into());
        let finished = Finished {
            sequence: 1,
            at: unix_millis(),
            answer: Some(answer),
        };
        world.sending.take_answer(finished).await;
        assert_eq!(world.sending.outcomes.len(), 1, "it is in the log");
        assert_eq!(world.sending.host_away_until, i64::MAX);
        assert!(shared.breakers.admit(&host).is_err());
    }

    #[tokio::test]
    async fn channels_in_the_lane_of_a_refused_one_are_read_however_much_of_it_is_aside() {
        let mut world = World::new().await;
        world.record(0, "refused", 61).await;
        for lane in 1..LANES {
            world.record(lane, &format!("channel-{lane}"), 1).await;
        }
        world.record(0, "well", 10).await;
        world.refuse_first().await;
        world.sending.read(true).await.expect("read");
        assert_eq!(world.sending.endpoint.waiting_in(0), 10);
    }

    #[tokio::test]
    async fn a_long_row_of_deliveries_that_are_left_out_is_read_with_pauses_to_its_end() {
        let mut world = World::new().await;
        world.record(0, "refused", 1500).await;
        world.record(0, "well", 1).await;
        world.refuse_first().await;
        world.sending.read(true).await.expect("read");
        assert!(world.sending.is_reading && world.sending.endpoint.waiting_in(0) == 0);
        assert!(!world.sending.is_at_rest(false));
        let mut looks = 1;
        while world.sending.is_reading {
            world.sending.read(true).await.expect("read");
            looks += 1;
        }
        assert_eq!((looks, world.sending.endpoint.waiting_in(0)), (4, 1));
    }

    #[tokio::test]
    async fn a_lane_that_stands_is_read_until_it_is_full() {
        let mut world = World::new().await;
        world.record(0, "a", 2 * MAX_IN_LANE).await;
        world.record(1, "b", 1).await;
        while world.sending.read(true).await.is_ok() && world.sending.is_reading {}
        assert_eq!(world.sending.endpoint.waiting_in(0), MAX_IN_LANE);
        assert_eq!(world.sending.endpoint.waiting_in(1), 1);
    }
}
