//! Tenants. An [`App`] lives as long as the node or its last connection; changes replace its
//! settings and keys.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use fanfare_protocol::signature::SigningKey;
use fanfare_protocol::{
    AppId, AppKey, AppSettings, ChannelName, CloseCode, HistoryRule, SocketId, UserId,
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::budget::Usage;
use crate::cache::Cache;
use crate::clients::{ClientConnections, Clients};
use crate::closed::{ClosedConnection, ClosedConnections};
use crate::error::Refusal;
use crate::former_key::FormerKey;
use crate::history::{Histories, Retention};
use crate::live::{LiveApp, LiveEvent, LiveKind, LiveNode};
use crate::local_presence::LocalPresence;
use crate::network_counts::Displacements;
use crate::notice::{Notice, WantedNotices};
use crate::options::Options;
use crate::permit::ConnectionPermit;
use crate::quota::{QuotaOwner, QuotaShares};
use crate::rate_limit::PublishRateLimiter;
use crate::recent_events::RecentEvents;
use crate::route::Channels;
use crate::sequence::Offset;
use crate::subscription_share::NetworkSubscriptions;
use crate::traffic::{BackendTraffic, PublishCounters, PublishResult};
use crate::transitions::LocalTransitions;
use crate::watchlist::Users;

/// An app as the store describes it.
#[derive(Debug, Clone)]
pub struct AppDefinition {
    /// Its id.
    pub id: AppId,
    /// The settings that may change while the app runs.
    pub settings: AppSettings,
    /// Its active keys.
    pub keys: Vec<Key>,
    /// Keys that were active lately, of which clients and backends are told that they ended.
    pub former_keys: Vec<FormerKey>,
    /// The channel events that the outside wants of it.
    pub wanted_notices: WantedNotices,
}

/// An active key and what its secret signs.
#[derive(Debug, Clone)]
pub struct Key {
    /// The public half.
    pub key: AppKey,
    /// The secret, ready to sign.
    pub signing: SigningKey,
    /// Whether the key was used since the store was told last.
    pub used: KeyUsed,
}

/// Whether a key was used since [`Apps::take_key_uses`], and from where. Shared by all copies.
#[derive(Debug, Clone, Default)]
pub struct KeyUsed(Arc<(AtomicBool, Mutex<Option<IpAddr>>)>);

impl KeyUsed {
    /// Remembers a use. Only the first one since [`Apps::take_key_uses`] takes the lock.
    pub fn note(&self, from: Option<IpAddr>) {
        let (used, address) = &*self.0;
        if !used.load(Ordering::Relaxed) {
            *address.lock() = from;
            // A race of two first uses only decides which address is kept, and the lock orders the
            // address itself.
            used.store(true, Ordering::Relaxed);
        }
    }

    fn take(&self) -> Option<Option<IpAddr>> {
        let (used, address) = &*self.0;
        used.swap(false, Ordering::Relaxed).then(|| *address.lock())
    }
}

/// A tenant on this node.
pub struct App {
    id: AppId,
    settings: ArcSwap<AppSettings>,
    keys: ArcSwap<Vec<Key>>,
    former_keys: ArcSwap<Vec<FormerKey>>,
    deleted: AtomicBool,
    /// A [`WantedNotices`] in bits.
    wanted_notices: AtomicU8,
    /// Admitted connections on this node.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Subscriptions on this node, with those that are being made.
    pub(crate) subscriptions: AtomicUsize,
    pub(crate) network_subscriptions: NetworkSubscriptions,
    /// Resources of this node that the app's clients hold.
    pub(crate) usage: Arc<Usage>,
    /// What the app's backends have published.
    pub(crate) published: Arc<Published>,
    pub(crate) quotas: QuotaShares,
    pub(crate) displacements: Displacements,
    /// Connections that count against the quota over all nodes.
    counted: Arc<AtomicUsize>,
    publish_rate: ArcSwapOption<PublishRateLimiter>,
    /// Connections on this node by client library.
    pub(crate) clients: Clients,
    /// Connections on this node that ended lately.
    pub(crate) closed: ClosedConnections,
    pub(crate) channels: Channels,
    pub(crate) cache: Cache,
    pub(crate) users: Users,
    pub(crate) local_presence: LocalPresence,
    pub(crate) histories: Histories,
    history_rules: AtomicU64,
    /// Number of events cached or recorded so far, on a node by itself.
    offsets: AtomicU64,
    pub(crate) live: LiveApp,
    /// The transition log, on a node by itself.
    pub(crate) transitions: LocalTransitions,
}

/// What an app's backends have published. It outlives a deleted app until usage is taken.
#[derive(Debug)]
pub(crate) struct Published {
    app: AppId,
    counters: PublishCounters,
    /// Whether they have published since usage was taken.
    has_moved: AtomicBool,
    /// What they had published when usage was taken.
    taken: Mutex<BackendTraffic>,
}

impl Published {
    fn new(app: AppId) -> Self {
        Self {
            app,
            counters: PublishCounters::default(),
            has_moved: AtomicBool::new(false),
            taken: Mutex::default(),
        }
    }

    /// Returns what they have published so far.
    pub(crate) fn sum(&self) -> BackendTraffic {
        self.counters.sum()
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("App").field(&self.id).finish()
    }
}

impl App {
    fn new(definition: AppDefinition, shared: &Shared) -> Self {
        let recent_events = &shared.recent_events;
        let limiter = PublishRateLimiter::new(definition.settings.limits.backend_events_per_second);
        let quotas = QuotaShares::new(QuotaOwner::App, &definition.settings.quotas);
        Self {
            cache: Cache::new(definition.id.clone(), recent_events),
            users: Users::default(),
            local_presence: LocalPresence::default(),
            histories: Histories::new(definition.id.clone(), recent_events),
            history_rules: AtomicU64::new(rules_fingerprint(&definition.settings.history)),
            offsets: AtomicU64::new(0),
            live: LiveApp::new(definition.id.clone(), Arc::clone(&shared.live)),
            transitions: LocalTransitions::new(shared.max_transitions),
            wanted_notices: AtomicU8::new(definition.wanted_notices.to_bits()),
            published: Arc::new(Published::new(definition.id.clone())),
            id: definition.id,
            settings: ArcSwap::from_pointee(definition.settings),
            keys: ArcSwap::from_pointee(definition.keys),
            former_keys: ArcSwap::from_pointee(definition.former_keys),
            deleted: AtomicBool::new(false),
            subscriptions: AtomicUsize::new(0),
            network_subscriptions: NetworkSubscriptions::default(),
            connections: Arc::default(),
            usage: Arc::default(),
            quotas,
            displacements: Displacements::default(),
            counted: Arc::default(),
            publish_rate: ArcSwapOption::from(limiter),
            clients: Clients::default(),
            closed: ClosedConnections::new(&shared.closed),
            channels: Channels::default(),
        }
    }

    /// Returns the app's id.
    #[must_use]
    pub fn id(&self) -> &AppId {
        &self.id
    }

    /// Returns the bytes that the app's cached events and histories take on this node.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.cache.bytes() + self.histories.bytes()
    }

    /// Drops the oldest of the app's cached events, or of its histories if they take more, until
    /// `bytes` are free. Returns how many bytes were freed.
    pub(crate) fn evict(&self, bytes: usize) -> usize {
        if self.cache.bytes() > self.histories.bytes() {
            self.cache.evict(bytes)
        } else {
            self.histories.evict(bytes)
        }
    }

    /// Returns this node's shares of the app's quotas.
    #[must_use]
    pub fn quotas(&self) -> &QuotaShares {
        &self.quotas
    }

    /// Returns whether the app was deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Relaxed)
    }

    /// Returns the app's current settings.
    #[must_use]
    pub fn settings(&self) -> Arc<AppSettings> {
        self.settings.load_full()
    }

    /// Returns which channel events the outside wants.
    #[must_use]
    pub fn wanted_notices(&self) -> WantedNotices {
        WantedNotices::from_bits(self.wanted_notices.load(Ordering::Relaxed))
    }

    /// Shows a channel event to those who watch the app.
    pub(crate) fn show_notice(&self, channel: &ChannelName, notice: &Notice<'_>) {
        if !self.live.is_watched() {
            return;
        }
        let (kind, user_id) = match notice {
            Notice::Occupied => (LiveKind::Occupied, None),
            Notice::Vacated => (LiveKind::Vacated, None),
            Notice::MemberAdded(user) => (LiveKind::MemberAdded, Some(user.as_str())),
            Notice::MemberRemoved(user) => (LiveKind::MemberRemoved, Some(user.as_str())),
            Notice::CacheMiss => (LiveKind::CacheMiss, None),
            Notice::ClientEvent {
                event,
                data,
                socket_id,
                user_id,
            } => {
                return self.live.record(&LiveEvent {
                    channel: Some(channel.as_str()),
                    event: Some(event),
                    data: Some(data),
                    socket_id: Some(*socket_id),
                    user_id: user_id.map(UserId::as_str),
                    subscribers: Some(self.channels.subscribers(channel.as_str())),
                    ..LiveEvent::new(LiveKind::ClientEvent)
                });
            }
            // As many as there are subscriptions, which are shown themselves.
            Notice::SubscriptionCount(_) => return,
        };
        self.live.record(&LiveEvent {
            channel: Some(channel.as_str()),
            user_id,
            ..LiveEvent::new(kind)
        });
    }

    /// Returns whether somebody watches the app's live events, or did so lately.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.live.is_watched()
    }

    /// Returns whether client events are to be reported, to receivers of webhooks or to those who
    /// watch.
    pub(crate) fn wants_client_events(&self) -> bool {
        self.wanted_notices().client_events || self.is_watched()
    }

    /// Returns whether cache misses are to be reported.
    pub(crate) fn wants_cache_misses(&self) -> bool {
        self.wanted_notices().cache_misses || self.is_watched()
    }

    /// Returns how many messages of one connection are handled a second, client events included if
    /// they have a rate of their own, or `None` for no limit.
    pub(crate) fn messages_per_second(&self, options: &Options) -> Option<u32> {
        let settings = self.settings.load();
        let client_events = match settings.client_events {
            true => settings.limits.client_events_per_second,
            false => 0,
        };
        let others = options.messages_per_second;
        (others > 0).then(|| others.saturating_add(client_events))
    }

    /// Returns what the secret of a key signs, if the key is active.
    #[must_use]
    pub fn signing_key(&self, key: &str) -> Option<SigningKey> {
        self.keys
            .load()
            .iter()
            .find(|candidate| candidate.key.as_str() == key)
            .map(|key| key.signing.clone())
    }

    /// Returns what is known of a key that was active lately.
    #[must_use]
    pub fn former_key(&self, key: &str) -> Option<FormerKey> {
        let former = self.former_keys.load();
        former
            .iter()
            .find(|former| former.key.as_str() == key)
            .cloned()
    }

    /// Returns the fingerprint of the rules by which histories are kept. It is the same on every
    /// node.
    pub(crate) fn history_rules(&self) -> u64 {
        self.history_rules.load(Ordering::Relaxed)
    }

    /// Returns the next event's offset, on a node by itself.
    pub(crate) fn next_offset(&self) -> Offset {
        Offset::after(self.offsets.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the number of connections on this node that count against the quota over all nodes.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.counted.load(Ordering::Relaxed)
    }

    /// Counts one more of these connections, until the permit is dropped.
    #[must_use]
    pub fn count_connection(&self) -> ConnectionPermit {
        ConnectionPermit::count(&self.counted)
    }

    /// Returns the connections on this node by client library and version, the most first.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientConnections> {
        self.clients.list()
    }

    /// Returns the connections of a user, or the one with a socket id, that ended on this node within
    /// the last hour, newest first. An app remembers 256, or few if very many of all apps ended.
    #[must_use]
    pub fn closed_connections(
        &self,
        socket_id: Option<SocketId>,
        user: Option<&UserId>,
    ) -> Vec<ClosedConnection> {
        self.closed.find(|id, of| {
            socket_id.is_none_or(|socket_id| id == socket_id)
                && user.is_none_or(|user| of == Some(user))
        })
    }

    /// Remembers that a key was used; `from` is the network address, where it is known.
    pub fn note_key_use(&self, key: &str, from: Option<IpAddr>) {
        let keys = self.keys.load();
        if let Some(key) = keys.iter().find(|candidate| candidate.key.as_str() == key) {
            key.used.note(from);
        }
    }

    /// Returns the active key that was made last, and what its secret signs.
    #[must_use]
    pub fn newest_key(&self) -> Option<(AppKey, SigningKey)> {
        let keys = self.keys.load();
        keys.last()
            .map(|key| (key.key.clone(), key.signing.clone()))
    }

    /// Returns the active key that was made first, and what its secret signs.
    #[must_use]
    pub fn oldest_key(&self) -> Option<(AppKey, SigningKey)> {
        let keys = self.keys.load();
        keys.first()
            .map(|key| (key.key.clone(), key.signing.clone()))
    }

    /// Applies settings. Returns whether the app's subscribers get subscription counts from now on.
    fn update(&self, settings: AppSettings) -> bool {
        let before = self.settings.swap(Arc::new(settings));
        let per_second = self.settings.load().limits.backend_events_per_second;
        if before.limits.backend_events_per_second != per_second {
            self.publish_rate.store(PublishRateLimiter::new(per_second));
        }
        if before.quotas != self.settings.load().quotas {
            self.quotas.configure(&self.settings.load().quotas);
        }
        if before.history != self.settings.load().history {
            // Events published while no rule matched a channel are missing in its history, so all
            // histories begin again.
            let number = rules_fingerprint(&self.settings.load().history);
            self.history_rules.store(number, Ordering::Relaxed);
            self.histories.clear();
        }
        self.settings.load().subscription_count && !before.subscription_count
    }

    /// Counts events of the app's backends, and returns whether they are within its rate.
    pub(crate) fn is_within_publish_rate(&self, events: usize) -> bool {
        let events = u32::try_from(events).ok().and_then(NonZeroU32::new);
        match (&*self.publish_rate.load(), events) {
            (Some(limiter), Some(events)) => limiter.takes(events),
            _ => true,
        }
    }

    /// Returns why a connection that was admitted with `key` may not stay, if so.
    pub(crate) fn refusal(&self, key: &AppKey) -> Option<Refusal> {
        if self.deleted.load(Ordering::Relaxed) {
            return Some(Refusal::new(
                CloseCode::UnknownApp,
                format!("App {} was deleted", self.id),
            ));
        }
        if !self.settings.load().enabled {
            return Some(Refusal::new(
                CloseCode::AppDisabled,
                format!("App {} is disabled", self.id),
            ));
        }
        if !self
            .keys
            .load()
            .iter()
            .any(|candidate| candidate.key == *key)
        {
            let message = self.former_key(key.as_str()).map_or_else(
                || format!("App key {key} is no longer active"),
                |former| former.to_string(),
            );
            return Some(Refusal::new(CloseCode::Unauthorized, message));
        }
        None
    }

    /// Returns what the app's rules keep of a channel's events, if the channel has a history.
    #[must_use]
    pub fn retention(&self, channel: &ChannelName) -> Option<Retention> {
        self.retention_under(&self.settings(), channel)
    }

    /// Returns what `settings` of the app keep of a channel's events.
    pub(crate) fn retention_under(
        &self,
        settings: &AppSettings,
        channel: &ChannelName,
    ) -> Option<Retention> {
        let rule = settings.history_of(channel.as_str())?;
        Some(Retention {
            size: rule.size,
            ttl: Duration::from_secs(rule.ttl),
            rules: self.history_rules(),
        })
    }
}

/// Returns a fingerprint of a list of rules: the first eight bytes of their SHA-256, each rule as
/// `channels NUL size NUL ttl LF`. Nodes of different builds compare it, so neither the algorithm
/// nor the text may change; a change restarts all histories.
fn rules_fingerprint(rules: &[HistoryRule]) -> u64 {
    let mut hash = Sha256::new();
    for HistoryRule {
        channels,
        size,
        ttl,
    } in rules
    {
        hash.update(format!("{channels}\0{size}\0{ttl}\n"));
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(first)
}

/// All apps, in memory: looking one up never waits, and strangers' guesses cost the database
/// nothing.
#[derive(Debug)]
pub struct Apps {
    directory: ArcSwap<Directory>,
    shared: Shared,
    /// What the backends of deleted apps published.
    deleted_traffic: Mutex<BackendTraffic>,
    /// The counters of the apps whose backends have published since usage was taken. They count after the app is let
    /// go.
    moved: Mutex<Vec<Arc<Published>>>,
}

/// What all apps of a node share.
#[derive(Debug)]
struct Shared {
    recent_events: Arc<RecentEvents>,
    live: Arc<LiveNode>,
    /// Most entries of an app's transition log.
    max_transitions: usize,
    /// Bytes of the closed connections that all apps remember.
    closed: Arc<AtomicUsize>,
}

/// What a change of apps asks of connections.
#[derive(Debug, Default)]
pub(crate) struct AppsChange {
    /// Whether connections may have to be closed. Most changes concern none, and a look at all
    /// connections of a node is work that other apps pay for.
    pub(crate) concerns_connections: bool,
    /// Apps whose subscribers get subscription counts from now on.
    pub(crate) newly_counted: Vec<Arc<App>>,
}

#[derive(Debug, Default, Clone)]
struct Directory {
    by_id: HashMap<AppId, Arc<App>>,
    by_key: HashMap<AppKey, Arc<App>>,
    by_former_key: HashMap<AppKey, Arc<App>>,
}

impl Apps {
    pub(crate) fn new(
        recent_events: Arc<RecentEvents>,
        live: Arc<LiveNode>,
        max_transitions: usize,
    ) -> Self {
        Self {
            directory: ArcSwap::default(),
            shared: Shared {
                recent_events,
                live,
                max_transitions,
                closed: Arc::default(),
            },
            deleted_traffic: Mutex::default(),
            moved: Mutex::default(),
        }
    }

    /// Returns the app with this id.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<Arc<App>> {
        self.directory.load().by_id.get(id).cloned()
    }

    /// Returns the app that has this key.
    #[must_use]
    pub fn by_key(&self, key: &str) -> Option<Arc<App>> {
        self.directory.load().by_key.get(key).cloned()
    }

    /// Returns the app that had this key lately, and what is known of the key.
    #[must_use]
    pub fn by_former_key(&self, key: &str) -> Option<(Arc<App>, FormerKey)> {
        let app = self.directory.load().by_former_key.get(key).cloned()?;
        let former = app.former_key(key)?;
        Some((app, former))
    }

    /// Returns all apps, in no particular order.
    pub(crate) fn all(&self) -> Vec<Arc<App>> {
        self.directory.load().by_id.values().cloned().collect()
    }

    /// Returns what the live events of all apps share.
    pub(crate) fn live(&self) -> &LiveNode {
        &self.shared.live
    }

    /// Returns the most entries that an app's transition log may have.
    pub(crate) fn max_transitions(&self) -> usize {
        self.shared.max_transitions
    }

    /// Returns what the backends of deleted apps published.
    pub(crate) fn deleted_traffic(&self) -> BackendTraffic {
        *self.deleted_traffic.lock()
    }

    /// Counts a request of an app's backends, as [`PublishCounters::count`] does. Only the first one since usage was
    /// taken takes the lock.
    pub(crate) fn count_published(
        &self,
        app: &App,
        result: PublishResult,
        events: usize,
        bytes: usize,
    ) {
        let published = &app.published;
        published.counters.count(result, events, bytes);
        let has_moved = &published.has_moved;
        if !has_moved.load(Ordering::SeqCst) && !has_moved.swap(true, Ordering::SeqCst) {
            self.moved.lock().push(Arc::clone(published));
        }
    }

    /// Returns the apps whose backends have published since the last call, and what. Costs nothing for the others.
    pub(crate) fn take_moved(&self) -> Vec<(AppId, BackendTraffic)> {
        let moved = std::mem::take(&mut *self.moved.lock());
        let since_taken = |published: Arc<Published>| {
            // Before the counters are read, so that what comes after them sets the mark again.
            published.has_moved.store(false, Ordering::SeqCst);
            let mut taken = published.taken.lock();
            let sum = published.sum();
            let since = sum - std::mem::replace(&mut *taken, sum);
            drop(taken);
            (published.app.clone(), since)
        };
        moved.into_iter().map(since_taken).collect()
    }

    /// Returns the keys that were used since the last call, and the network address of each one's
    /// first use since then.
    pub fn take_key_uses(&self) -> Vec<(AppKey, Option<IpAddr>)> {
        let directory = self.directory.load();
        let keys = directory
            .by_id
            .values()
            .flat_map(|app| app.keys.load_full().to_vec());
        keys.filter_map(|key| Some((key.key, key.used.take()?)))
            .collect()
    }

    /// Applies definitions that are new or have changed, and removes apps that were deleted. One
    /// caller at a time.
    pub(crate) fn update(&self, definitions: Vec<AppDefinition>, deleted: &[String]) -> AppsChange {
        let mut directory = Directory::clone(&self.directory.load());
        let mut change = AppsChange::default();
        for id in deleted {
            if let Some(app) = directory.remove(id) {
                *self.deleted_traffic.lock() += app.published.sum();
                change.concerns_connections = true;
            }
        }
        for definition in definitions {
            directory.update(definition, &self.shared, &mut change);
        }
        // Readers see the directory of before or of after, never one in between.
        self.directory.store(Arc::new(directory));
        change
    }
}

impl Directory {
    /// Removes and returns an app, which lives on as long as its last connection.
    fn remove(&mut self, id: &str) -> Option<Arc<App>> {
        let app = self.by_id.remove(id)?;
        app.deleted.store(true, Ordering::Relaxed);
        self.remove_keys(&app);
        app.keys.store(Arc::default());
        app.former_keys.store(Arc::default());
        Some(app)
    }

    /// Removes an app's active and former keys.
    fn remove_keys(&mut self, app: &Arc<App>) {
        let remove = |from: &mut HashMap<AppKey, Arc<App>>, key: &AppKey| {
            // The key may belong to another app in the meantime.
            if from.get(key).is_some_and(|owner| Arc::ptr_eq(owner, app)) {
                from.remove(key);
            }
        };
        for key in app.keys.load().iter() {
            remove(&mut self.by_key, &key.key);
        }
        for former in app.former_keys.load().iter() {
            remove(&mut self.by_former_key, &former.key);
        }
    }

    /// Applies a definition. Connections may have to be closed if the app is disabled or one of its
    /// keys is no longer active.
    fn update(&mut self, definition: AppDefinition, shared: &Shared, change: &mut AppsChange) {
        change.concerns_connections |= !definition.settings.enabled;
        let keys: Vec<AppKey> = definition.keys.iter().map(|key| key.key.clone()).collect();
        let former_keys = definition.former_keys.iter();
        let former_keys: Vec<AppKey> = former_keys.map(|former| former.key.clone()).collect();
        let app = match self.by_id.get(&definition.id).cloned() {
            Some(app) => {
                let wanted = definition.wanted_notices.to_bits();
                app.wanted_notices.store(wanted, Ordering::Relaxed);
                // The keys of before go first; those that stay are inserted again below.
                self.remove_keys(&app);
                // Before the active keys, so that a connection that is closed for its key is told why.
                app.former_keys.store(Arc::new(definition.former_keys));
                if app.update(definition.settings) {
                    change.newly_counted.push(Arc::clone(&app));
                }
                let mut keys = definition.keys;
                for key in &mut keys {
                    let known = app.keys.load();
                    let known = known.iter().find(|known| known.key == key.key);
                    key.used = known.map(|known| known.used.clone()).unwrap_or_default();
                }
                let before = app.keys.swap(Arc::new(keys));
                let active = app.keys.load();
                let is_active = |key: &Key| active.iter().any(|active| active.key == key.key);
                change.concerns_connections |= !before.iter().all(is_active);
                app
            }
            None => {
                let app = Arc::new(App::new(definition, shared));
                shared.recent_events.share(&app);
                app
            }
        };
        let with_app = |key: AppKey| (key, Arc::clone(&app));
        self.by_key.extend(keys.into_iter().map(with_app));
        self.by_former_key
            .extend(former_keys.into_iter().map(with_app));
        self.by_id.insert(app.id.clone(), app);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_build_knows_rules_by_the_same_number() {
        let rule = |channels: &str, size, ttl| HistoryRule {
            channels: channels.into(),
            size,
            ttl,
        };
        let rules = [rule("private-*", 100, 300), rule("news", 10, 60)];
        // Computed with another implementation of SHA-256.
        assert_eq!(rules_fingerprint(&rules), 0xb6c9_9595_f66f_0783);
        assert_eq!(rules_fingerprint(&[]), 0xe3b0_c442_98fc_1c14);
        let [one, other] = rules;
        assert_ne!(rules_fingerprint(&[other, one]), 0xb6c9_9595_f66f_0783);
    }
}
