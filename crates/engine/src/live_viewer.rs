//! Watching an app's live events, on this node and for other nodes.

use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::AppId;
use tokio::time::timeout;

use crate::app::App;
use crate::engine::Engine;
use crate::live::{
    LiveBatch, LiveEvent, LiveKind, LiveLine, LiveOrder, LiveQuery, OpenError, Opened, Viewer,
    Waiting,
};
use crate::node::Node;
use crate::refusals::{RefusalKind, RefusalSink, Refused, RefusedClient};

/// How long a viewer waits for what other nodes have kept.
const RECENT_TIMEOUT: Duration = Duration::from_millis(500);

/// A viewer of an app's live events, until it is dropped.
#[derive(Debug)]
pub struct LiveViewer {
    app: Arc<App>,
    viewer: Arc<Viewer>,
    kept: Vec<Arc<LiveLine>>,
    recent: usize,
    /// The number of other nodes when it was opened.
    others: usize,
}

impl Engine {
    /// Opens a viewer of an app that gets at most `rate` lines a second, and first the last
    /// `recent` lines that were kept. `caller` is who watches, for the bound of one caller.
    ///
    /// # Errors
    ///
    /// Returns [`OpenError`] if the query is invalid, or the app or the caller has too many viewers
    /// here.
    pub fn watch_live(
        &self,
        app: &Arc<App>,
        caller: &str,
        query: &LiveQuery,
        rate: u32,
        recent: usize,
    ) -> Result<LiveViewer, OpenError> {
        let others = self.live_nodes() - 1;
        let Opened { viewer, kept } = app.live.open(caller, query, rate, recent)?;
        Ok(LiveViewer {
            app: Arc::clone(app),
            viewer,
            kept,
            recent,
            others,
        })
    }

    /// Sets the name that lines of this node have, before there are any.
    pub fn set_live_name(&self, name: &str) {
        self.node().set_live_name(name);
    }

    /// Returns the number of nodes whose events viewers of this node get, itself included.
    #[must_use]
    pub fn live_nodes(&self) -> usize {
        self.bus().nodes()
    }

    /// Returns the number of viewers on this node.
    #[must_use]
    pub fn live_viewers(&self) -> usize {
        self.node().live().viewers()
    }

    /// Returns how many lines that viewers wanted were left out, on this node.
    #[must_use]
    pub fn live_left_out(&self) -> u64 {
        self.node().live().left_out()
    }

    /// Shows an event to those who watch an app, if it is one that is always kept or somebody does.
    pub fn show_live(&self, app: &AppId, event: &LiveEvent<'_>) {
        if let Some(app) = self.apps().by_id(app.as_str()) {
            app.live.record(event);
        }
    }

    /// Forgets kept lines that nobody has watched for long. Called every minute or so.
    pub fn sweep_live(&self) {
        for app in self.apps().all() {
            app.live.sweep();
        }
    }
}

impl LiveViewer {
    /// Takes the last lines that were kept before the viewer came, on all nodes, oldest first.
    /// Waits half a second for other nodes.
    pub async fn take_recent(&mut self) -> Vec<Arc<LiveLine>> {
        let all_have_sent = async {
            while self.viewer.nodes_with_recent() < self.others {
                self.viewer.woken().await;
            }
        };
        // What has come by then is shown.
        let _ = timeout(RECENT_TIMEOUT, all_have_sent).await;
        let mut recent = std::mem::take(&mut self.kept);
        recent.extend(self.viewer.take_recent().unwrap_or_default());
        recent.sort_by(|a, b| {
            let order = |line: &LiveLine| (line.time_ms, line.sequence);
            (order(a), &a.node).cmp(&(order(b), &b.node))
        });
        let excess = recent.len().saturating_sub(self.recent);
        recent.drain(..excess);
        recent
    }

    /// Waits until something may wait for the viewer.
    pub async fn woken(&self) {
        self.viewer.woken().await;
    }

    /// Takes what waits.
    #[must_use]
    pub fn take(&self) -> Waiting {
        self.viewer.take(usize::MAX)
    }

    /// Returns the app.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }
}

impl Drop for LiveViewer {
    fn drop(&mut self) {
        self.app.live.close(&self.viewer);
    }
}

impl RefusalSink for Node {
    fn refused(&self, app: &str, refused: Refused<'_>, client: RefusedClient<'_>) {
        let Some(app) = self.app(app) else {
            return;
        };
        let code = match refused.kind {
            RefusalKind::Connection(code) => Some(code.number()),
            _ => None,
        };
        app.live.record(&LiveEvent {
            channel: client.channel,
            event: client.event,
            socket_id: client.socket_id,
            user_id: client.user_id,
            key: client.key,
            address: refused.address,
            refusal: Some(refused.kind.as_str()),
            reason: Some(refused.reason),
            code,
            ..LiveEvent::new(LiveKind::Refused)
        });
    }
}

impl Node {
    /// Sets the name that lines of this node have, before there are any.
    pub fn set_live_name(&self, name: &str) {
        self.live().set_name(name);
    }

    /// Waits until the viewers on this node of some app have changed.
    pub async fn live_orders_changed(&self) {
        self.live().changed().await;
    }

    /// Returns the apps whose viewers on this node have changed since the last call, and their
    /// viewers.
    #[must_use]
    pub fn take_changed_live_orders(&self) -> Vec<(Arc<App>, Vec<LiveOrder>)> {
        let changed = self.live().take_changed();
        let apps = changed.iter().filter_map(|app| self.app(app.as_str()));
        apps.map(|app| (Arc::clone(&app), app.live.orders()))
            .collect()
    }

    /// Returns the apps that have viewers on this node, and these.
    #[must_use]
    pub fn live_orders(&self) -> Vec<(Arc<App>, Vec<LiveOrder>)> {
        if self.live().viewers() == 0 {
            return Vec::new();
        }
        let apps = self.apps().into_iter();
        let orders = apps.map(|app| (Arc::clone(&app), app.live.orders()));
        orders.filter(|(_, orders)| !orders.is_empty()).collect()
    }

    /// Takes what another node asks for: these viewers of an app for as long as the lease, and no
    /// others of it.
    pub fn apply_live_orders(
        &self,
        app: &App,
        from: &str,
        orders: Vec<LiveOrder>,
        lease: Duration,
    ) {
        app.live.apply_orders(from, orders, lease);
    }

    /// Waits until a viewer of another node watches some app.
    pub async fn watched_from_afar(&self) {
        self.live().watched_from_afar().await;
    }

    /// Takes what waits for viewers of other nodes, about `max_bytes` of each app, and `None` if
    /// there are no such viewers.
    #[must_use]
    pub fn take_live_batches(&self, max_bytes: usize) -> Option<Vec<(Arc<App>, LiveBatch)>> {
        let watched = self.live().apps_watched_from_afar();
        if watched.is_empty() {
            return None;
        }
        let mut batches = Vec::new();
        for id in watched {
            let Some(app) = self.app(id.as_str()) else {
                self.live().forget_watched_from_afar(&id);
                continue;
            };
            let batch = app.live.take_for_others(max_bytes);
            if !batch.is_empty() {
                batches.push((app, batch));
            }
        }
        Some(batches)
    }

    /// Hands lines of another node to the viewers of this one.
    pub fn receive_live(&self, app: &App, batch: LiveBatch) {
        app.live.receive(batch);
    }

    /// Counts what could not be sent as left out.
    pub fn give_back_live(&self, app: &App, batch: &LiveBatch) {
        app.live.give_back(batch);
    }

    /// Returns whether an app has viewers on this node.
    #[must_use]
    pub fn has_live_viewers(&self, app: &App) -> bool {
        !app.live.orders().is_empty()
    }
}
