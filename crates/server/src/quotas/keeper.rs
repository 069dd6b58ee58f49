//! Fetches shares of quotas from the store for this node, begins new days and months, and learns which quotas other
//! nodes have used up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{Engine, QuotaOwner, QuotaRequest, QuotaShares, UsedUp};
use fanfare_protocol::{AppId, QuotaKind, QuotaValues, Quotas};
use fanfare_store::{QuotaLevel, QuotaPeriod, Share, ShareRequest, Store, StoreError, share_size};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::QuotaRatios;
use super::period::Period;
use crate::clock::unix_millis;

/// How often other nodes' use is looked at, and the clock.
const TICK: Duration = Duration::from_secs(1);
/// How long the store may take. Publishes wait for two seconds.
const STORE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Time between two attempts while the store doesn't answer.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Shares that a node gives itself of each quota while the store doesn't answer.
const SHARES_WITHOUT_STORE: u32 = 5;
/// How far back a look for used-up quotas goes beyond the last one, in milliseconds: the nodes' clocks differ.
const CLOCK_DIFFERENCE: i64 = 10_000;
/// How long periods are kept, in milliseconds: the last month's too.
const KEPT: i64 = 62 * 24 * 60 * 60 * 1000;
/// Time between two deletions of old periods.
const DELETE_INTERVAL: Duration = Duration::from_secs(3600);

/// Keeps this node's shares.
pub(crate) struct Keeper {
    store: Store,
    engine: Arc<Engine>,
    /// The installation's quotas.
    quotas: Quotas,
    ratios: QuotaRatios,
    /// The apps, or the installation, whose quotas this node has used in their current periods.
    owners: HashMap<Option<AppId>, Owner>,
    looked_at: i64,
    retry_at: Option<Instant>,
}

/// Whose quotas this node uses.
struct Owner {
    owner: QuotaRequest,
    quotas: [Held; QuotaKind::ALL.len()],
}

/// What this node knows of a quota.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// The period that its share is of.
    period: Option<Period>,
    /// What it gave itself while the store was away.
    owed: i64,
    own_shares: u32,
    /// What was left of shares when the quota changed, which the store doesn't know yet.
    unused: i64,
}

impl Owner {
    fn shares<'a>(&'a self, engine: &'a Engine) -> &'a QuotaShares {
        match &self.owner {
            QuotaRequest::App(app) => app.quotas(),
            QuotaRequest::Installation => engine.installation_quotas(),
        }
    }

    fn is_deleted(&self) -> bool {
        matches!(&self.owner, QuotaRequest::App(app) if app.is_deleted())
    }

    fn values(&self, kind: QuotaKind, installation: &Quotas) -> QuotaValues {
        match &self.owner {
            QuotaRequest::App(app) => app.settings().quotas.of(kind),
            QuotaRequest::Installation => installation.of(kind),
        }
    }
}

fn id_of(owner: &QuotaRequest) -> Option<AppId> {
    match owner {
        QuotaRequest::App(app) => Some(app.id().clone()),
        QuotaRequest::Installation => None,
    }
}

fn used_up(
    owner: Option<&AppId>,
    kind: QuotaKind,
    values: QuotaValues,
    period: Period,
) -> Arc<UsedUp> {
    Arc::new(UsedUp {
        owner: match owner {
            Some(_) => QuotaOwner::App,
            None => QuotaOwner::Installation,
        },
        kind,
        limit: values.hard.unwrap_or_default(),
        resets_at: period.end(),
    })
}

impl Keeper {
    pub(crate) fn new(
        store: Store,
        engine: Arc<Engine>,
        quotas: Quotas,
        ratios: QuotaRatios,
    ) -> Self {
        Self {
            store,
            engine,
            quotas,
            ratios,
            owners: HashMap::new(),
            // A node that starts learns of all quotas that are used up.
            looked_at: 0,
            retry_at: None,
        }
    }

    /// Keeps the shares until `stopped`, and then gives back what is left of them.
    pub(crate) async fn run(mut self, stopped: impl Future<Output = ()>) {
        let engine = Arc::clone(&self.engine);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut delete_at = Instant::now();
        tokio::pin!(stopped);
        loop {
            let retry_at = self.retry_at;
            tokio::select! {
                () = &mut stopped => break,
                () = engine.quota_requests().asked(), if retry_at.is_none() => {}
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {}
                _ = ticks.tick() => self.look().await,
            }
            self.begin_periods(unix_millis());
            self.fetch().await;
            if delete_at <= Instant::now() {
                delete_at = Instant::now() + DELETE_INTERVAL;
                // What is left is deleted an hour later.
                let _ = self.store.delete_old_quotas(unix_millis() - KEPT).await;
            }
        }
        self.give_back().await;
    }

    /// Begins the periods that are due, and forgets deleted apps and the owners whose quotas this node doesn't use in
    /// them yet.
    fn begin_periods(&mut self, now: i64) {
        let engine = &self.engine;
        for owner in self.owners.values_mut() {
            for kind in QuotaKind::ALL {
                let held = owner.quotas[kind as usize];
                if held.period.is_some_and(|period| now >= period.until) {
                    owner.shares(engine).of(kind).begin();
                    owner.quotas[kind as usize] = Held::default();
                }
            }
        }
        let before = self.owners.len();
        self.owners.retain(|_, owner| {
            !owner.is_deleted() && owner.quotas.iter().any(|held| held.period.is_some())
        });
        if self.owners.len() != before {
            let owners = &self.owners;
            self.ratios.retain(|app, kind| {
                let id = app.as_ref().and_then(|id| AppId::parse(id).ok());
                let owner = owners.get(&id);
                owner.is_some_and(|owner| owner.quotas[kind as usize].period.is_some())
            });
        }
    }

    /// Fetches shares for whoever asked.
    async fn fetch(&mut self) {
        let now = unix_millis();
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        for owner in self.engine.quota_requests().take() {
            match self.owners.entry(id_of(&owner)) {
                // An app that was deleted and created again is another one.
                Entry::Occupied(mut known) => known.get_mut().owner = owner,
                Entry::Vacant(vacant) => {
                    let quotas = Default::default();
                    vacant.insert(Owner { owner, quotas });
                }
            }
        }
        let requests = self.requests(now);
        if requests.is_empty() {
            self.retry_at = None;
            return;
        }
        let taken = timeout(STORE_TIMEOUT, self.store.take_shares(&requests, now)).await;
        match taken.unwrap_or(Err(StoreError::Late)) {
            Ok(shares) => {
                self.retry_at = None;
                for (request, share) in requests.iter().zip(shares) {
                    self.grant(request, share);
                }
            }
            Err(error) => {
                if self.retry_at.is_none() {
                    tracing::warn!(%error, "the store hands out no shares of quotas; nodes go on with a little of their own");
                }
                self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
                for request in &requests {
                    self.grant_own(request);
                }
            }
        }
    }

    /// Returns requests for the shares that run low.
    fn requests(&mut self, now: i64) -> Vec<ShareRequest> {
        let mut requests = Vec::new();
        for (id, owner) in &mut self.owners {
            for kind in QuotaKind::ALL {
                let values = owner.values(kind, &self.quotas);
                let share = owner.shares(&self.engine).of(kind);
                if values.is_none() || !share.is_low() {
                    continue;
                }
                let (debt, awaited, unused) = (share.debt(), share.awaited(), share.take_unused());
                let held = &mut owner.quotas[kind as usize];
                held.unused += unused;
                let period = *held.period.get_or_insert(Period::of(kind, now));
                requests.push(ShareRequest {
                    period: QuotaPeriod {
                        app: id.as_ref().map(ToString::to_string),
                        kind,
                        at: period.at,
                    },
                    values,
                    debt: debt + held.owed - held.unused,
                    awaited,
                });
            }
        }
        requests
    }

    fn grant(&mut self, request: &ShareRequest, share: Share) {
        let QuotaPeriod { app, kind, .. } = &request.period;
        let id = app.as_ref().and_then(|id| AppId::parse(id).ok());
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        let held = &mut owner.quotas[*kind as usize];
        let Some(period) = held.period else { return };
        // What it gave itself is in the share already, and what it gave back isn't.
        let amount =
            share.amount - std::mem::take(&mut held.owed) + std::mem::take(&mut held.unused);
        held.own_shares = 0;
        let used_up = share
            .is_used_up
            .then(|| used_up(id.as_ref(), *kind, request.values, period));
        let base = request.values.base().unwrap_or_default();
        self.ratios.set(app.as_deref(), *kind, share.taken, base);
        owner.shares(&self.engine).of(*kind).grant(amount, used_up);
        if let Some(level) = share.reached {
            tell(
                app.as_deref(),
                *kind,
                request.values,
                share.taken,
                level,
                period,
            );
        }
    }

    /// Gives this node a share of its own while the store is away: clients are served without the store, and a quota
    /// bounds costs, which a few hundredths don't change. It is counted when the store is back.
    fn grant_own(&mut self, request: &ShareRequest) {
        let QuotaPeriod { app, kind, .. } = &request.period;
        let id = app.as_ref().and_then(|id| AppId::parse(id).ok());
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        let held = &mut owner.quotas[*kind as usize];
        if held.own_shares >= SHARES_WITHOUT_STORE {
            // Asked again at the next attempt.
            owner.shares(&self.engine).of(*kind).wake();
            return;
        }
        held.own_shares += 1;
        let base = i64::try_from(request.values.base().unwrap_or_default()).unwrap_or(i64::MAX);
        let amount = share_size(base, base).max(request.awaited);
        held.owed += amount;
        owner.shares(&self.engine).of(*kind).grant(amount, None);
    }

    /// Learns which quotas other nodes have used up.
    async fn look(&mut self) {
        if !self.engine.has_quotas() {
            return;
        }
        let now = unix_millis();
        let since = self.looked_at - CLOCK_DIFFERENCE;
        let found = timeout(STORE_TIMEOUT, self.store.used_up_quotas(since)).await;
        let Ok(Ok(found)) = found else { return };
        self.looked_at = now;
        for QuotaPeriod { app, kind, at } in found {
            let period = Period::of(kind, now);
            if period.at != at {
                continue;
            }
            let owner = match app {
                Some(id) => self.engine.apps().by_id(&id).map(QuotaRequest::App),
                None => Some(QuotaRequest::Installation),
            };
            if let Some(owner) = owner {
                self.use_up(owner, kind, period);
            }
        }
    }

    fn use_up(&mut self, owner: QuotaRequest, kind: QuotaKind, period: Period) {
        let id = id_of(&owner);
        let quotas = Default::default();
        let entry = self.owners.entry(id.clone());
        let owner = entry.or_insert(Owner { owner, quotas });
        let values = owner.values(kind, &self.quotas);
        if values.hard.is_none() {
            return;
        }
        owner.quotas[kind as usize].period = Some(period);
        owner
            .shares(&self.engine)
            .of(kind)
            .use_up(used_up(id.as_ref(), kind, values, period));
    }

    /// Gives back what is left of this node's shares. What the store doesn't take is lost until the periods end.
    async fn give_back(&mut self) {
        let mut left = Vec::new();
        for (id, owner) in &self.owners {
            for kind in QuotaKind::ALL {
                let held = owner.quotas[kind as usize];
                let Some(period) = held.period else { continue };
                let share = owner.shares(&self.engine).of(kind);
                let unused = share.take_left() + share.take_unused() + held.unused;
                let amount = unused - held.owed;
                if amount != 0 {
                    let key = QuotaPeriod {
                        app: id.as_ref().map(ToString::to_string),
                        kind,
                        at: period.at,
                    };
                    left.push((key, amount));
                }
            }
        }
        if !left.is_empty() {
            let given = timeout(STORE_TIMEOUT, self.store.give_back_shares(&left)).await;
            if let Err(error) = given.unwrap_or(Err(StoreError::Late)) {
                tracing::debug!(%error, "shares of quotas are not given back");
            }
        }
    }
}

/// Tells operators once in each period how far a quota is used.
fn tell(
    app: Option<&str>,
    kind: QuotaKind,
    values: QuotaValues,
    used: i64,
    level: QuotaLevel,
    period: Period,
) {
    let (quota, limit) = (kind.setting(), values.base());
    let resets_at = period.end();
    match level {
        QuotaLevel::Soft => tracing::warn!(
            app,
            quota,
            limit,
            used,
            resets_at,
            "a quota is used as far as operators want to know of (quotas)"
        ),
        QuotaLevel::UsedUp => tracing::warn!(
            app,
            quota,
            limit,
            used,
            resets_at,
            "a quota is used up: events and new connections are refused (quotas)"
        ),
    }
}
