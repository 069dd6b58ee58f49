//! Removing what dead nodes had, each piece once, whichever node does it. A dead node is found in
//! the list of all nodes when its lease has run out. That list may be lost while the node's entries
//! in an app are not, so each app has a list of its own as well. A name that only an app's list has
//! is removed by the process that had it, or by another node after most of a lease.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fanfare_engine::{ChangedCount, ChannelRef, LOST_NODE_GRACE, Notice};
use fanfare_protocol::{AppId, ChannelName};
use tokio::time::{Duration, Instant};

use crate::backend::{BackendError, Counted, NodeName, Reaped, Reply};
use crate::cluster::Cluster;
use crate::link::Link;
use crate::peers::process;

/// Most apps whose lists are read at once.
const APPS_AT_ONCE: usize = 128;

/// Progress through the apps' lists over one connection, and the unknown nodes found there.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Apps in which this node has entries.
    mine: Round,
    /// All apps.
    all: Round,
    /// When names were first seen that only an app's list has.
    unlisted: HashMap<AppId, HashMap<String, Instant>>,
}

/// Goes through apps in the order of their ids, a part at a time, and begins again at the end.
#[derive(Debug, Default)]
struct Round {
    last: Option<AppId>,
}

impl Round {
    fn next(&mut self, apps: HashSet<AppId>) -> Vec<AppId> {
        let mut apps: Vec<_> = apps.into_iter().collect();
        apps.sort();
        let begin = self
            .last
            .as_ref()
            .map_or(0, |last| apps.partition_point(|app| app <= last));
        let begin = if begin == apps.len() { 0 } else { begin };
        let part: Vec<_> = apps.into_iter().skip(begin).take(APPS_AT_ONCE).collect();
        self.last = part.last().cloned();
        part
    }
}

/// Returns the lists of some apps.
async fn enlisted(
    link: &Arc<Link>,
    apps: &[AppId],
) -> Result<Vec<(AppId, Vec<String>)>, BackendError> {
    let lists = apps.iter().map(|app| link.membership.enlisted(app));
    let lists = link.all_in_time(lists).await?;
    Ok(apps.iter().cloned().zip(lists).collect())
}

impl Cluster {
    /// Removes what a dead node had, unless another node does. Each entry goes in one atomic call
    /// that also announces it, so two nodes that do the same would not announce it twice.
    pub(crate) async fn reap_in_turn(self: Arc<Self>, link: Arc<Link>, dead: String) {
        let dead: NodeName = dead.into();
        let cleared = async {
            let claim = link.membership.claim(&dead, self.settings.lease);
            if !link.in_time(claim).await? {
                return Ok(());
            }
            self.reap(&link, &dead).await?;
            let was_known = link.in_time(link.membership.forget(&dead)).await?;
            if was_known && !link.peers.is_process_alive(&dead) {
                self.node.note_lost_node();
                tracing::info!(node = %dead, "a node is gone: what it had was cleared away");
            } else {
                tracing::debug!(node = %dead, "cleared away what a node had said over an earlier connection");
            }
            Ok::<(), BackendError>(())
        };
        if let Err(error) = cleared.await {
            tracing::debug!(%error, node = %dead, "clearing away what a dead node left; another node will go on");
        }
    }

    /// Removes all that a node had, in every app of its list, part by part.
    pub(crate) async fn reap(
        self: &Arc<Self>,
        link: &Arc<Link>,
        dead: &NodeName,
    ) -> Result<(), BackendError> {
        let apps = link.in_time(link.membership.apps(dead)).await?;
        for app in apps {
            if let Ok(app) = AppId::parse(&app) {
                self.reap_in_app(link, &app, dead).await?;
            }
        }
        Ok(())
    }

    /// Removes what a node had in one app, part by part.
    async fn reap_in_app(
        self: &Arc<Self>,
        link: &Arc<Link>,
        app: &AppId,
        dead: &NodeName,
    ) -> Result<(), BackendError> {
        loop {
            let known = self.node.app(app.as_str());
            // An app that this node doesn't know wants nothing.
            let log = known.map(|known| self.log_rules(&known, LOST_NODE_GRACE));
            let reap = link.membership.reap(app, dead, log.unwrap_or_default());
            let reaped = link.in_time(reap).await?;
            self.announce_reaped(app, &reaped);
            if !reaped.more {
                return Ok(());
            }
        }
    }

    /// Removes what this process announced in `apps` over earlier connections. The lists of the
    /// apps have the names, whatever became of the list of all nodes.
    pub(crate) async fn clear_former(
        self: &Arc<Self>,
        link: &Arc<Link>,
        apps: &HashSet<AppId>,
        names: &[NodeName],
    ) -> Result<(), BackendError> {
        let apps: Vec<_> = apps.iter().cloned().collect();
        for apps in apps.chunks(APPS_AT_ONCE) {
            for (app, enlisted) in enlisted(link, apps).await? {
                let own = |name: &&String| {
                    process(name) == process(link.name()) && **name != **link.name()
                };
                for name in enlisted.iter().filter(own) {
                    self.reap_in_app(link, &app, &name.as_str().into()).await?;
                }
            }
        }
        for names in names.chunks(APPS_AT_ONCE) {
            let forget = |node| link.membership.forget(node);
            link.all_in_time(names.iter().map(forget)).await?;
        }
        Ok(())
    }

    /// Looks through the lists of some apps, others each time. A listed node that is neither alive
    /// nor known to be dead is reaped after a while, because its own process may still do it.
    ///
    /// # Errors
    ///
    /// Returns [`BackendError::Forgotten`] if this node is missing in the list of an app in which it
    /// has entries, so that these are lost.
    pub(crate) async fn inspect_lists(
        self: &Arc<Self>,
        link: &Arc<Link>,
        rounds: &mut Rounds,
        known: &HashSet<String>,
    ) -> Result<(), BackendError> {
        let mine = link.enlisted();
        let all = self
            .node
            .apps()
            .iter()
            .map(|app| app.id().clone())
            .collect();
        // A part of the apps at a time, so that a heartbeat costs the same with any number of them.
        let mut apps = rounds.mine.next(mine.clone());
        apps.extend(rounds.all.next(all));
        apps.sort();
        apps.dedup();
        for (app, enlisted) in enlisted(link, &apps).await? {
            if mine.contains(&app) && !enlisted.iter().any(|name| **name == **link.name()) {
                return Err(BackendError::Forgotten);
            }
            let unlisted = |name: &String| !known.contains(name) && **name != **link.name();
            let unlisted: HashSet<_> = enlisted.into_iter().filter(unlisted).collect();
            let since = rounds.unlisted.entry(app.clone()).or_default();
            since.retain(|name, _| unlisted.contains(name));
            for name in unlisted {
                let since = since.entry(name.clone()).or_insert_with(Instant::now);
                if since.elapsed() >= self.unlisted_for() {
                    self.reap_in_app(link, &app, &name.as_str().into()).await?;
                    tracing::info!(node = %name, %app, "cleared away what a node had left that no list of nodes names");
                }
            }
            if since.is_empty() {
                rounds.unlisted.remove(&app);
            }
        }
        Ok(())
    }

    /// Returns how long a node may be missing in the list of all nodes. A live node notices that
    /// within three fifths of a lease, and removes its former names itself.
    fn unlisted_for(&self) -> Duration {
        self.settings.lease * 4 / 5
    }

    /// Reports what was removed as channel events, and lets subscribers here get the new counts.
    fn announce_reaped(self: &Arc<Self>, id: &AppId, reaped: &Reaped) {
        let name = |channel: &str| ChannelName::parse(channel, usize::MAX).ok();
        for (channel, user) in &reaped.removed {
            if let Some(channel) = name(channel) {
                self.node
                    .notice_of(id, &channel, Notice::MemberRemoved(user));
            }
        }
        for channel in &reaped.vacated {
            if let Some(channel) = name(channel) {
                self.node.notice_of(id, &channel, Notice::Vacated);
            }
        }
        let Some(app) = self.node.app(id.as_str()) else {
            return;
        };
        if !app.settings().subscription_count {
            return;
        }
        for channel in reaped.counted.iter().filter_map(|channel| name(channel)) {
            if channel.is_counted() {
                let channel_ref = ChannelRef {
                    app: Arc::clone(&app),
                    channel,
                };
                let (node, of) = (Arc::clone(&self.node), channel_ref.clone());
                // The count has changed, but not with this report.
                let reply = Reply::new(move |counted: Counted| {
                    node.report_changed_count(&of, counted.after);
                });
                let changed = ChangedCount {
                    count: self.node.subscribers(&channel_ref),
                    channel_ref,
                    visited: false,
                    announce: true,
                };
                self.queue.enqueue(&app, self.subscriptions(changed, reply));
            }
        }
    }
}
