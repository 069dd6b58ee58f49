//! Records what happens on channels: reads the logs of transitions, and has the store decide what is news and write the
//! deliveries, in one transaction for each pass over an app.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{
    DueTransitions, Generation, ORDER_DELAY, Present, Transition, TransitionKey, TransitionKind,
    TransitionLog, TransitionLogUnavailable,
};
use fanfare_protocol::{AppId, ChannelKind, WebhookEvent};
use fanfare_store::{Announced, NewDelivery, StateChange, Store, StoreError, Subject};
use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::body::{EventBody, array};
use super::counters::Counters;
use super::endpoint::LANES;
use super::hooks::{AppHooks, Hook, Hooks};
use super::intake::{Batch, Intake, QueuedEvent};
use super::sender::Sender;
use crate::clock::unix_millis;

/// How long the store or the log may take for one pass.
const PASS_TIMEOUT: Duration = Duration::from_secs(10);
/// Transitions of an app that are read at once, and other events.
const MAX_TRANSITIONS: usize = 500;
const MAX_EVENTS: usize = 500;
/// Least time between two passes over an app, so that what comes together is recorded together.
const PASS_GAP: Duration = Duration::from_millis(5);
/// The same while a webhook of the app is batched.
const BATCH_GAP: Duration = Duration::from_millis(100);
/// How often the log of each app is read even if nothing is known of it: a node may have died that knew.
const LOOK_PERIOD: Duration = Duration::from_secs(5);
const LOOK_JITTER: f64 = 0.2;
/// Most logs that are read a second for that reason.
const LOOKS_PER_SECOND: u32 = 200;
/// How long events wait that nothing but their time puts in order with members: that a member was added becomes due a little
/// after the member came, and then must have become due on each node.
const EVENT_DELAY: Duration = ORDER_DELAY.saturating_add(Duration::from_millis(10));
/// Time until the next attempt if the store or the log doesn't answer.
const RETRY_GAP: Duration = Duration::from_secs(1);
/// Time until the next pass if another node was faster.
const STALE_GAP: Duration = Duration::from_millis(50);
/// Passes over different apps at once.
const PASSES_AT_ONCE: usize = 8;
/// Channels and members that are armed at once.
const ARM_PAGE: i64 = 1000;
/// Most events of a delivery, and most bytes of them, unless one has more.
const MAX_BATCH: usize = 100;
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// How long a stopping node may take for what has come until then.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] TransitionLogUnavailable),
}

/// Records for all apps.
pub(super) struct Recorder {
    shared: Arc<Shared>,
    /// When each app is looked at next.
    agenda: Agenda,
    /// Under which generation of the log each app was armed, or forgotten because no transition of it is wanted.
    armed: HashMap<AppId, (Generation, bool)>,
    is_away: bool,
    stopping: CancellationToken,
}

struct Shared {
    store: Store,
    log: Arc<dyn TransitionLog>,
    hooks: Hooks,
    intake: Intake,
    sender: Sender,
    counters: Arc<Counters>,
}

/// When apps are looked at.
#[derive(Debug, Default)]
struct Agenda {
    by_app: HashMap<AppId, Entry>,
    by_time: BTreeMap<Instant, Vec<AppId>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    next_at: Instant,
    /// No look is earlier, whatever comes. `None` before the first one.
    not_before: Option<Instant>,
}

impl Agenda {
    /// Looks at an app at a time, or earlier if that is planned.
    fn plan(&mut self, app: &AppId, at: Instant) {
        let not_before = self.by_app.get(app).and_then(|entry| entry.not_before);
        let at = not_before.map_or(at, |not_before| at.max(not_before));
        match self.by_app.get_mut(app) {
            Some(entry) if entry.next_at <= at => return,
            Some(entry) => entry.next_at = at,
            None => {
                let entry = Entry {
                    next_at: at,
                    not_before: None,
                };
                self.by_app.insert(app.clone(), entry);
            }
        }
        // Earlier times of the same app stay in the list, and are skipped when they come.
        self.by_time.entry(at).or_default().push(app.clone());
    }

    /// Notes that an app was looked at, and when the next time is.
    fn looked(&mut self, app: &AppId, next_at: Instant, not_before: Instant) {
        let next_at = next_at.max(not_before);
        let entry = Entry {
            next_at,
            not_before: Some(not_before),
        };
        self.by_app.insert(app.clone(), entry);
        self.by_time.entry(next_at).or_default().push(app.clone());
    }

    fn forget(&mut self, app: &AppId) {
        self.by_app.remove(app);
    }

    /// Takes the apps whose time has come.
    fn take_due(&mut self, now: Instant) -> Vec<AppId> {
        let mut due = Vec::new();
        while let Some(first) = self.by_time.first_entry()
            && *first.key() <= now
        {
            let (at, apps) = first.remove_entry();
            due.extend(apps.into_iter().filter(|app| {
                let entry = self.by_app.get(app);
                entry.is_some_and(|entry| entry.next_at == at)
            }));
        }
        due.dedup();
        due
    }

    fn next_at(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|(at, _)| *at)
    }
}

impl Recorder {
    pub(super) fn new(
        store: Store,
        log: Arc<dyn TransitionLog>,
        hooks: Hooks,
        intake: Intake,
        sender: Sender,
        counters: Arc<Counters>,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                log,
                hooks,
                intake,
                sender,
                counters,
            }),
            agenda: Agenda::default(),
            armed: HashMap::new(),
            is_away: false,
            stopping,
        }
    }

    /// Records until the node stops, and then what has come until then.
    pub(super) async fn run(mut self) {
        let mut changes = self.shared.hooks.changes();
        let mut generations = self.shared.log.generations();
        self.follow_hooks();
        while !self.stopping.is_cancelled() {
            for app in self.shared.intake.take_woken() {
                let gap = self.gap(&app);
                self.agenda.plan(&app, Instant::now() + gap);
            }
            let due = self.agenda.take_due(Instant::now());
            self.pass_over(due).await;
            let next_at = self.agenda.next_at();
            let next_at = next_at.unwrap_or_else(|| Instant::now() + LOOK_PERIOD);
            tokio::select! {
                () = self.shared.intake.woken() => {}
                () = sleep_until(next_at) => {}
                Ok(()) = changes.changed() => self.follow_hooks(),
                Ok(()) = generations.changed() => self.follow_hooks(),
                () = self.stopping.cancelled() => {}
            }
        }
        let rest = async {
            // The last ones are in their order by then.
            sleep(EVENT_DELAY).await;
            let mut apps: Vec<AppId> = self.agenda.by_app.keys().cloned().collect();
            loop {
                self.pass_over(apps.clone()).await;
                apps.retain(|app| self.shared.intake.oldest(app).is_some());
                if apps.is_empty() {
                    return;
                }
                sleep(PASS_GAP).await;
            }
        };
        if timeout(STOP_TIMEOUT, rest).await.is_err() {
            tracing::warn!(
                "events of webhooks are recorded by the other nodes, or when this one starts again; the store does not answer"
            );
        }
    }

    /// Looks soon at all apps that have webhooks, and no longer at the others.
    fn follow_hooks(&mut self) {
        let now = Instant::now();
        let apps = self.shared.hooks.apps();
        let with_hooks: HashSet<&AppId> = apps.iter().map(|(app, _)| app).collect();
        let gone: Vec<AppId> = {
            let known = self.agenda.by_app.keys();
            known
                .filter(|app| !with_hooks.contains(app))
                .cloned()
                .collect()
        };
        for app in gone {
            // Its last look finds that nothing is wanted any more.
            self.agenda.plan(&app, now);
        }
        let generation = *self.shared.log.generations().borrow();
        for (app, hooks) in &apps {
            if self.armed.get(app) != Some(&(generation, hooks.want_transitions())) {
                self.agenda.plan(app, now);
            }
        }
    }

    fn gap(&self, app: &AppId) -> Duration {
        let hooks = self.shared.hooks.of(app);
        hooks.map_or(PASS_GAP, |hooks| gap(&hooks))
    }

    async fn pass_over(&mut self, apps: Vec<AppId>) {
        let generation = *self.shared.log.generations().borrow();
        let shared = &self.shared;
        let armed = &self.armed;
        let passes = apps.into_iter().map(|app| async move {
            let wants = shared
                .hooks
                .of(&app)
                .is_some_and(|hooks| hooks.want_transitions());
            let key = (generation, wants);
            let passed = shared.pass(&app, armed.get(&app) != Some(&key)).await;
            (app, key, passed)
        });
        let passed: Vec<_> = stream::iter(passes)
            .buffer_unordered(PASSES_AT_ONCE)
            .collect()
            .await;
        let count = u32::try_from(self.agenda.by_app.len()).unwrap_or(u32::MAX);
        let period = LOOK_PERIOD.max(Duration::from_secs(1) * count / LOOKS_PER_SECOND);
        let now = Instant::now();
        for (app, key, passed) in passed {
            match passed {
                Ok(Passed::Unwanted) => {
                    self.agenda.forget(&app);
                    self.armed.remove(&app);
                }
                Ok(Passed::Wanted { next }) => {
                    self.armed.insert(app.clone(), key);
                    self.note_answer();
                    let jitter = 1.0 + LOOK_JITTER * (2.0 * rand::random::<f64>() - 1.0);
                    let look = period.mul_f64(jitter);
                    let next = next.map_or(look, |next| next.min(look));
                    self.agenda.looked(&app, now + next, now + self.gap(&app));
                }
                Err(error) => {
                    self.note_failure(&error);
                    self.agenda.looked(&app, now + RETRY_GAP, now + RETRY_GAP);
                }
            }
        }
    }

    fn note_answer(&mut self) {
        if std::mem::take(&mut self.is_away) {
            tracing::info!("events of webhooks are recorded again");
        }
    }

    fn note_failure(&mut self, error: &PassError) {
        match error {
            // The cluster itself says that it is away.
            PassError::Log(error) => tracing::debug!(%error, "events of webhooks wait"),
            PassError::Store(error) => {
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!(%error, "events of webhooks are not recorded, because the store does not take them; they wait");
                }
            }
        }
    }
}

/// The outcome of a pass over an app.
enum Passed {
    /// Nothing tells of the app any more.
    Unwanted,
    Wanted {
        /// When there is more, if that is known.
        next: Option<Duration>,
    },
}

impl Shared {
    async fn pass(&self, app: &AppId, must_arm: bool) -> Result<Passed, PassError> {
        let Some(hooks) = self.hooks.of(app) else {
            self.intake.forget(app);
            self.log.forget(app).await?;
            return Ok(Passed::Unwanted);
        };
        if must_arm {
            match hooks.want_transitions() {
                true => in_time(self.arm(app)).await?,
                false => self.log.forget(app).await?,
            }
        }
        // Taken before the log is read: a channel's events come after it was occupied.
        let wait = wait_of_events(&hooks);
        let mut batch = self
            .intake
            .take(app, MAX_EVENTS, unix_millis().saturating_sub(wait));
        let next = match in_time(self.record(app, &hooks, &mut batch)).await {
            Ok(next) => next,
            Err(error) => {
                self.intake.put_back(app, batch);
                return Err(error);
            }
        };
        let until_event = self.intake.oldest(app).map(|at| {
            let left = at.saturating_add(wait).saturating_sub(unix_millis());
            Duration::from_millis(u64::try_from(left).unwrap_or_default())
        });
        let next = next.into_iter().chain(until_event).min();
        Ok(Passed::Wanted { next })
    }

    /// Adds to the log what receivers are owed, if entries were lost.
    async fn arm(&self, app: &AppId) -> Result<(), PassError> {
        let newest = self.store.newest_announcement(app.as_str()).await?;
        let mut after: Option<Announced> = None;
        loop {
            let page = self
                .store
                .announced_present(app.as_str(), after.as_ref(), ARM_PAGE);
            let page = page.await?;
            let is_first = after.is_none();
            after = page.last().cloned();
            if after.is_none() && !is_first {
                return Ok(());
            }
            let present = page.into_iter().map(present).collect();
            // The first call counts even if nobody is present: it raises the stamps.
            self.log.arm(app, present, newest).await?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Records an app's transitions that are due and other events, and returns when there is more.
    async fn record(
        &self,
        app: &AppId,
        hooks: &AppHooks,
        batch: &mut Batch,
    ) -> Result<Option<Duration>, PassError> {
        let now = unix_millis();
        let mut due = match hooks.want_transitions() {
            true => self.log.due(app, MAX_TRANSITIONS).await?,
            false => nothing_due(now),
        };
        let order = Order::new(due.stamp, now);
        let later = order.leave_what_is_later(&mut due, batch);
        self.intake.put_back(app, later);
        let (wanted, mut handled): (Vec<Transition>, Vec<Transition>) = due
            .due
            .into_iter()
            .partition(|transition| is_wanted(hooks, transition));
        let wanted = self.with_left_members(app, hooks, wanted).await?;
        let stale = self.write(app, hooks, &wanted, batch, order, now).await?;
        let is_stale = !stale.is_empty();
        let fresh = wanted.into_iter().enumerate();
        let fresh = fresh.filter(|(index, _)| !stale.contains(index));
        handled.extend(fresh.map(|(_, transition)| transition));
        if !handled.is_empty()
            && let Err(error) = self.log.settle(app, handled).await
        {
            // They are recorded. What is read again is not news.
            tracing::debug!(%app, %error, "recorded events of webhooks are not settled");
            return Ok(Some(RETRY_GAP));
        }
        Ok(if is_stale {
            Some(STALE_GAP)
        } else {
            due.next_due
        })
    }

    /// Adds that members have left whose channels are vacated. Those of a node that has died are given longer to return
    /// than those who left by themselves, so the last one to leave may be told of before them.
    async fn with_left_members(
        &self,
        app: &AppId,
        hooks: &AppHooks,
        transitions: Vec<Transition>,
    ) -> Result<Vec<Transition>, StoreError> {
        let vacated = transitions
            .iter()
            .filter(|transition| has_members_vacated(transition));
        let vacated: Vec<&str> = vacated
            .map(|transition| transition.key.channel.as_str())
            .collect();
        if vacated.is_empty() || !hooks.wanted_notices().members {
            return Ok(transitions);
        }
        let members = self.store.announced_members(app.as_str(), &vacated).await?;
        Ok(add_left_members(transitions, members))
    }

    /// Writes deliveries to the store, and returns the indexes of the transitions that another node has overtaken.
    async fn write(
        &self,
        app: &AppId,
        hooks: &AppHooks,
        transitions: &[Transition],
        batch: &Batch,
        order: Order,
        now: i64,
    ) -> Result<Vec<usize>, StoreError> {
        let mut changes: Vec<StateChange> = transitions.iter().map(state_change).collect();
        let misses = batch.cache_misses.iter();
        changes.extend(misses.map(|channel| cache_miss(channel, now)));
        if changes.is_empty() && batch.events.is_empty() {
            return Ok(Vec::new());
        }
        let mut written = None;
        let make = |news: &[bool]| {
            let mut events = events_of(transitions, batch, news, order);
            events.retain(|event| hooks.want(event.kind, &event.channel));
            let deliveries = deliveries(hooks, &events);
            let to_send = deliveries.iter().filter(|delivery| !delivery.is_kept);
            let to_send: HashSet<String> = to_send.map(|one| one.webhook_id.clone()).collect();
            written = Some((events, to_send));
            deliveries
        };
        let recorded = self
            .store
            .record_webhook_events(app.as_str(), order.stamp, &changes, now, make)
            .await?;
        if let Some((events, to_send)) = written {
            for event in events {
                self.counters.count_recorded(event.kind);
            }
            self.sender.wake(to_send.iter().map(String::as_str));
        }
        Ok(recorded.stale)
    }
}

fn has_members_vacated(Transition { key, .. }: &Transition) -> bool {
    key.kind == TransitionKind::Vacated && ChannelKind::of(&key.channel).has_members()
}

/// Adds that members have left, before the channels of which it is told that they are vacated.
fn add_left_members(transitions: Vec<Transition>, members: Vec<Announced>) -> Vec<Transition> {
    let mut left: HashMap<String, Vec<TransitionKey>> = HashMap::new();
    for Announced { channel, user } in members {
        let of_channel = left.entry(channel.clone()).or_default();
        of_channel.push(TransitionKey {
            kind: TransitionKind::Removed,
            channel,
            user,
        });
    }
    let known: HashSet<TransitionKey> = {
        let removed = transitions.iter().map(|transition| &transition.key);
        removed
            .filter(|key| key.kind == TransitionKind::Removed)
            .cloned()
            .collect()
    };
    let mut all = Vec::with_capacity(transitions.len());
    for transition in transitions {
        if has_members_vacated(&transition)
            && let Some(keys) = left.remove(&transition.key.channel)
        {
            let unknown = keys.into_iter().filter(|key| !known.contains(key));
            all.extend(unknown.map(|key| Transition {
                due_ms: transition.due_ms,
                key,
            }));
        }
        all.push(transition);
    }
    all
}

async fn in_time<T>(step: impl Future<Output = Result<T, PassError>>) -> Result<T, PassError> {
    let ended = timeout(PASS_TIMEOUT, step).await;
    ended.unwrap_or(Err(PassError::Store(StoreError::Late)))
}

fn present(Announced { channel, user }: Announced) -> Present {
    Present { channel, user }
}

fn nothing_due(now: i64) -> DueTransitions {
    DueTransitions {
        stamp: now.saturating_mul(1000),
        due: Vec::new(),
        next_due: None,
        refused: 0,
    }
}

fn gap(hooks: &AppHooks) -> Duration {
    if hooks.are_batched() {
        BATCH_GAP
    } else {
        PASS_GAP
    }
}

/// Returns whether receivers are told of a transition or of its opposite: what they were told of one must be known when
/// the other comes. Patterns don't count, because they may change in between.
fn is_wanted(hooks: &AppHooks, Transition { key, .. }: &Transition) -> bool {
    let events = match key.kind {
        TransitionKind::Occupied | TransitionKind::Vacated => {
            [WebhookEvent::ChannelOccupied, WebhookEvent::ChannelVacated]
        }
        TransitionKind::Added | TransitionKind::Removed => {
            [WebhookEvent::MemberAdded, WebhookEvent::MemberRemoved]
        }
    };
    events.into_iter().any(|event| hooks.tell_of(event))
}

fn state_change(transition: &Transition) -> StateChange {
    let key = &transition.key;
    StateChange {
        channel: key.channel.clone(),
        subject: match &key.user {
            Some(user) => Subject::Member(user.clone()),
            None => Subject::Channel,
        },
        is_present: key.kind.is_present(),
        due: due_of(transition),
    }
}

fn cache_miss(channel: &str, now: i64) -> StateChange {
    StateChange {
        channel: channel.to_owned(),
        subject: Subject::CacheMiss,
        is_present: false,
        due: now,
    }
}

/// Puts transitions, which have times of the log's clock, in order with other events, which have times of this node's clock.
#[derive(Debug, Clone, Copy)]
struct Order {
    /// When the log was read, in microseconds of its clock.
    stamp: i64,
    /// How far the log's clock is ahead, in milliseconds.
    ahead: i64,
}

impl Order {
    /// `stamp` is a time of the log's clock, in microseconds, and `earlier` one of this node before it. So an event never
    /// seems to be earlier than it was: it comes after what led to it.
    fn new(stamp: i64, earlier: i64) -> Self {
        Self {
            stamp,
            ahead: (stamp / 1000).saturating_sub(earlier),
        }
    }

    /// Returns until when a transition must have become due that comes before an event.
    fn due_before(self, event: &QueuedEvent) -> i64 {
        event
            .at
            .saturating_add(self.ahead)
            .saturating_add(millis(EVENT_DELAY))
    }

    /// Takes out what comes after transitions or events that were not read, and returns those of them that are to be put
    /// back. All events or all transitions stay.
    fn leave_what_is_later(self, due: &mut DueTransitions, batch: &mut Batch) -> Batch {
        let mut later = Batch::default();
        let last_due = due.due.last().map(due_of);
        let last_event = batch.events.last().map(|event| self.due_before(event));
        let has_more_due = due.next_due == Some(Duration::ZERO);
        let is_due_shorter = !batch.has_more || last_due < last_event;
        if let Some(last_due) = last_due.filter(|_| has_more_due && is_due_shorter) {
            let events = &mut batch.events;
            let count = events.partition_point(|event| self.due_before(event) < last_due);
            later.events = events.split_off(count);
        } else if let Some(last_event) = last_event.filter(|_| batch.has_more) {
            due.due
                .retain(|transition| due_of(transition) <= last_event);
        }
        later
    }
}

fn due_of(transition: &Transition) -> i64 {
    i64::try_from(transition.due_ms).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Returns for how many milliseconds events of an app wait before they are recorded.
fn wait_of_events(hooks: &AppHooks) -> i64 {
    match hooks.wanted_notices().members {
        true => millis(EVENT_DELAY),
        false => 0,
    }
}

/// Returns the events that receivers are told of, by their times: of the transitions and cache misses those that are news,
/// and all others.
fn events_of(
    transitions: &[Transition],
    batch: &Batch,
    news: &[bool],
    order: Order,
) -> Vec<QueuedEvent> {
    let (of_transitions, of_misses) = news.split_at(transitions.len().min(news.len()));
    let transitions = transitions
        .iter()
        .zip(of_transitions)
        .filter(|(_, is_news)| **is_news);
    let misses = batch
        .cache_misses
        .iter()
        .zip(of_misses)
        .filter(|(_, is_news)| **is_news);
    let mut events = Vec::new();
    let mut others = batch.events.iter().peekable();
    for (transition, _) in transitions {
        let due = due_of(transition);
        while let Some(event) = others.next_if(|event| order.due_before(event) < due) {
            events.push(event.clone());
        }
        events.push(event_of(transition));
    }
    let miss = |channel: &String| {
        let body = EventBody::CacheMiss { channel };
        QueuedEvent::new(&body, channel, unix_millis())
    };
    events.extend(misses.map(|(channel, _)| miss(channel)));
    events.extend(others.cloned());
    events
}

fn event_of(transition: &Transition) -> QueuedEvent {
    let channel = transition.key.channel.as_str();
    let user_id = transition.key.user.as_deref().unwrap_or_default();
    let body = match transition.key.kind {
        TransitionKind::Occupied => EventBody::ChannelOccupied { channel },
        TransitionKind::Added => EventBody::MemberAdded { channel, user_id },
        TransitionKind::Removed => EventBody::MemberRemoved { channel, user_id },
        TransitionKind::Vacated => EventBody::ChannelVacated { channel },
    };
    QueuedEvent::new(&body, channel, due_of(transition))
}

/// Returns what is recorded for each webhook.
fn deliveries(hooks: &AppHooks, events: &[QueuedEvent]) -> Vec<NewDelivery> {
    let mut deliveries = Vec::new();
    for hook in hooks.iter() {
        let wanted = events
            .iter()
            .filter(|event| hook.wants(event.kind, &event.channel));
        if hook.is_batched() {
            batch(hook, wanted, &mut deliveries);
        } else {
            deliveries.extend(wanted.map(|event| delivery(hook, &[event])));
        }
    }
    deliveries
}

/// Adds deliveries with several events of a lane each.
fn batch<'a>(
    hook: &Hook,
    events: impl Iterator<Item = &'a QueuedEvent>,
    deliveries: &mut Vec<NewDelivery>,
) {
    let mut by_lane: BTreeMap<i64, Vec<&QueuedEvent>> = BTreeMap::new();
    for event in events {
        // pusher-http-go 5.1 and pusher-php-server 7.2 refuse the whole body for one event of an encrypted channel.
        if ChannelKind::of(&event.channel).is_encrypted() {
            deliveries.push(delivery(hook, &[event]));
            continue;
        }
        by_lane
            .entry(lane_of(&event.channel))
            .or_default()
            .push(event);
    }
    for events in by_lane.into_values() {
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |event: &&&QueuedEvent| {
                bytes += event.json.len();
                bytes <= MAX_BATCH_BYTES
            };
            let count = rest.iter().take(MAX_BATCH).take_while(fits).count().max(1);
            let (together, later) = rest.split_at(count);
            deliveries.push(delivery(hook, together));
            rest = later;
        }
    }
}

fn delivery(hook: &Hook, events: &[&QueuedEvent]) -> NewDelivery {
    let mut names: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let first = events
        .first()
        .map(|event| event.channel.as_str())
        .unwrap_or_default();
    let is_same = events.iter().all(|event| event.channel == first);
    NewDelivery {
        webhook_id: hook.id.clone(),
        lane: lane_of(first),
        names: names.join(" "),
        channel: is_same.then(|| first.to_owned()),
        events: array(events.iter().map(|event| event.json.as_str())),
        count: i64::try_from(events.len()).unwrap_or(i64::MAX),
        is_kept: hook.url().is_none(),
    }
}

/// Returns the lane of a channel: an FNV-1a hash, mixed once more. It must be the same for each version of Fanfare.
fn lane_of(channel: &str) -> i64 {
    let hash = channel
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    i64::try_from(mixed).unwrap_or_default() % LANES
}

#[cfg(test)]
mod tests {
    use super::super::testing::{hook_of, webhook};
    use super::*;

    fn app(id: &str) -> AppId {
        AppId::parse(id).expect("an id")
    }

    fn event(channel: &str, json: &str) -> QueuedEvent {
        QueuedEvent {
            kind: WebhookEvent::ClientEvent,
            channel: channel.into(),
            json: json.into(),
            at: 0,
        }
    }

    fn event_at(at: i64, json: &str) -> QueuedEvent {
        QueuedEvent {
            at,
            ..event("presence-a", json)
        }
    }

    fn due_at(due_ms: u64, kind: TransitionKind, user: &str) -> Transition {
        Transition {
            due_ms,
            ..transition(kind, "presence-a", Some(user))
        }
    }

    fn texts(events: &[QueuedEvent]) -> Vec<&str> {
        events.iter().map(|event| event.json.as_str()).collect()
    }

    fn transition(kind: TransitionKind, channel: &str, user: Option<&str>) -> Transition {
        Transition {
            due_ms: 1,
            key: TransitionKey {
                kind,
                channel: channel.into(),
                user: user.map(Into::into),
            },
        }
    }

    fn single() -> Hook {
        hook_of(webhook("wh_1"))
    }

    fn batched() -> Hook {
        let mut record = webhook("wh_2");
        record.is_batched = true;
        hook_of(record)
    }

    #[test]
    fn one_event_is_a_delivery_unless_the_webhook_is_batched() {
        let events = [event("a", "1"), event("b", "2"), event("a", "3")];
        let hooks = AppHooks::new(vec![single(), batched()]);
        let recorded = deliveries(&hooks, &events);
        let of = |id: &str| {
            let of_hook = recorded.iter().filter(|delivery| delivery.webhook_id == id);
            let texts: Vec<&str> = of_hook.map(|delivery| delivery.events.as_str()).collect();
            texts
        };
        assert_eq!(of("wh_1"), ["[1]", "[2]", "[3]"]);
        assert_ne!(lane_of("a"), lane_of("b"), "they are in different lanes");
        let mut batches = of("wh_2");
        batches.sort_unstable();
        assert_eq!(batches, ["[1,3]", "[2]"]);
        let first = &recorded[0];
        assert_eq!(first.names, "client_event");
        assert_eq!(first.channel.as_deref(), Some("a"));
        assert_eq!((first.count, first.lane), (1, lane_of("a")));
        assert!(!first.is_kept);
    }

    #[test]
    fn a_batch_has_at_most_a_hundred_events_and_256_kilobytes() {
        let hooks = AppHooks::new(vec![batched()]);
        let counts = |events: &[QueuedEvent]| {
            let recorded = deliveries(&hooks, events);
            recorded
                .iter()
                .map(|delivery| delivery.count)
                .collect::<Vec<_>>()
        };
        let many: Vec<_> = (0..250).map(|_| event("a", "1")).collect();
        assert_eq!(counts(&many), [100, 100, 50]);
        let large = "x".repeat(100 * 1024);
        let large: Vec<_> = (0..5).map(|_| event("a", &large)).collect();
        assert_eq!(counts(&large), [2, 2, 1]);
        let huge = "x".repeat(MAX_BATCH_BYTES + 1);
        assert_eq!(counts(&[event("a", &huge), event("a", "1")]), [1, 1]);
    }

    #[test]
    fn events_of_encrypted_channels_are_in_no_batch() {
        let events = [
            event("a", "1"),
            event("private-encrypted-a", "2"),
            event("private-encrypted-a", "3"),
            event("a", "4"),
        ];
        let recorded = deliveries(&AppHooks::new(vec![batched()]), &events);
        let mut texts: Vec<_> = recorded.iter().map(|delivery| &*delivery.events).collect();
        texts.sort_unstable();
        assert_eq!(texts, ["[1,4]", "[2]", "[3]"]);
    }

    #[test]
    fn a_webhook_without_an_address_keeps_its_deliveries() {
        let mut record = webhook("wh_3");
        record.url = None;
        let hooks = AppHooks::new(vec![hook_of(record)]);
        assert!(deliveries(&hooks, &[event("a", "1")])[0].is_kept);
    }

    #[test]
    fn receivers_are_told_of_what_is_news_and_of_all_other_events() {
        let transitions = [
            transition(TransitionKind::Occupied, "presence-a", None),
            transition(TransitionKind::Added, "presence-a", Some("7")),
            transition(TransitionKind::Vacated, "b", None),
        ];
        let batch = Batch {
            events: vec![event("private-a", "1")],
            cache_misses: vec!["cache-a".into(), "cache-b".into()],
            has_more: false,
        };
        let news = [true, true, false, false, true];
        let events = events_of(&transitions, &batch, &news, Order::new(0, 0));
        assert_eq!(
            texts(&events),
            [
                r#"{"name":"channel_occupied","channel":"presence-a"}"#,
                r#"{"name":"member_added","channel":"presence-a","user_id":"7"}"#,
                r#"{"name":"cache_miss","channel":"cache-b"}"#,
                "1",
            ]
        );
    }

    #[test]
    fn events_are_told_of_after_what_led_to_them_and_before_what_came_later() {
        // A member who comes at 1000 sends an event at once, and another one before leaving at 5000. All of it is recorded
        // together, because the store was away. The log's clock is a minute behind.
        let minute = 60_000;
        let transitions = [
            due_at(1050, TransitionKind::Added, "7"),
            due_at(8000, TransitionKind::Removed, "7"),
        ];
        let batch = Batch {
            events: vec![
                event_at(minute + 990, "before"),
                event_at(minute + 1001, "first"),
                event_at(minute + 4999, "last"),
                event_at(minute + 9000, "of another"),
            ],
            ..Batch::default()
        };
        let order = Order::new(10_000_000, minute + 10_000);
        let events = events_of(&transitions, &batch, &[true, true], order);
        let added = r#"{"name":"member_added","channel":"presence-a","user_id":"7"}"#;
        let removed = r#"{"name":"member_removed","channel":"presence-a","user_id":"7"}"#;
        // Those of the same moment may have been led to.
        let expected = [added, "before", "first", "last", removed, "of another"];
        assert_eq!(texts(&events), expected);
    }

    #[test]
    fn what_is_read_in_parts_is_recorded_in_its_order() {
        const PART: usize = 4;
        let transitions: Vec<_> = (0..40)
            .map(|n| due_at(n * 100, TransitionKind::Added, &n.to_string()))
            .collect();
        // Sometimes there are many events between two transitions, and sometimes many transitions between two events.
        let times = (0..100).map(|n: i64| if n < 60 { n * 10 } else { n * 50 - 1500 });
        let all: Vec<_> = times.map(|at| event_at(at, &at.to_string())).collect();
        let (order, mut told, mut passes) = (Order::new(0, 0), Vec::new(), 0);
        let (mut waiting, mut queue) = (transitions.clone(), all.clone());
        while !waiting.is_empty() || !queue.is_empty() {
            let rest = queue.split_off(PART.min(queue.len()));
            let mut batch = Batch {
                events: queue,
                has_more: !rest.is_empty(),
                ..Batch::default()
            };
            let mut due = DueTransitions {
                due: waiting.iter().take(PART).cloned().collect(),
                next_due: (waiting.len() > PART).then_some(Duration::ZERO),
                ..nothing_due(10_000)
            };
            let later = order.leave_what_is_later(&mut due, &mut batch);
            let news = vec![true; due.due.len()];
            told.extend(events_of(&due.due, &batch, &news, order));
            waiting.retain(|transition| !due.due.contains(transition));
            queue = [later.events, rest].concat();
            passes += 1;
            assert!(passes < 100, "each pass records something");
        }
        let at_once = Batch {
            events: all,
            ..Batch::default()
        };
        let expected = events_of(&transitions, &at_once, &[true; 40], order);
        assert_eq!(texts(&told), texts(&expected));
    }

    #[test]
    fn members_of_a_dead_node_have_left_before_their_channel_is_vacated() {
        let transitions = vec![
            transition(TransitionKind::Removed, "presence-a", Some("1")),
            transition(TransitionKind::Vacated, "presence-a", None),
            transition(TransitionKind::Vacated, "news", None),
        ];
        let member = |user: &str| Announced {
            channel: "presence-a".into(),
            user: Some(user.into()),
        };
        let all = add_left_members(transitions, vec![member("1"), member("2")]);
        let told: Vec<_> = all
            .iter()
            .map(|one| (one.key.kind, one.key.user.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                (TransitionKind::Removed, Some("1")),
                (TransitionKind::Removed, Some("2")),
                (TransitionKind::Vacated, None),
                (TransitionKind::Vacated, None),
            ]
        );
    }

    #[test]
    fn a_lane_is_the_same_for_every_version() {
        // Computed with another implementation.
        let lanes = ["", "news", "presence-room-1", "private-é"].map(lane_of);
        assert_eq!(lanes, [0, 0, 3, 1]);
        let mut seen = [0; 4];
        for channel in 0..1000 {
            let lane = lane_of(&format!("private-room-{channel}"));
            seen[usize::try_from(lane).expect("a lane")] += 1;
        }
        assert!(seen.iter().all(|count| *count > 150), "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn apps_are_looked_at_when_their_time_comes() {
        let mut agenda = Agenda::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        agenda.plan(&app("1"), start + 5 * second);
        agenda.plan(&app("2"), start + 3 * second);
        agenda.plan(&app("1"), start + second);
        agenda.plan(&app("1"), start + 4 * second);
        assert_eq!(agenda.next_at(), Some(start + second));
        assert_eq!(agenda.take_due(start), []);
        assert_eq!(agenda.take_due(start + 3 * second), [app("1"), app("2")]);
        // A look at the first one is soon followed by news of it, which wait a little.
        agenda.looked(&app("1"), start + 8 * second, start + 4 * second);
        agenda.plan(&app("1"), start + 3 * second);
        assert_eq!(agenda.take_due(start + 3 * second), []);
        assert_eq!(agenda.take_due(start + 9 * second), [app("1")]);
        agenda.looked(&app("1"), start + 20 * second, start + 9 * second);
        agenda.forget(&app("1"));
        assert_eq!(agenda.take_due(start + 30 * second), []);
    }
}
