//! Live events for operators who watch on another node: each node tells the others what its viewers
//! want, and gets lines from them while it does.
//!
//! Nothing here delays an event. What a node has for others waits in bounded queues, and what
//! doesn't fit or doesn't arrive is counted.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{App, Bus, LiveBatch, LiveOrder, Topic};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::backend;
use crate::cluster::Cluster;
use crate::link::Link;
use crate::message::Message;

/// How long a node sends lines without being asked again.
const LEASE: Duration = Duration::from_secs(30);
/// Interval at which a node asks again.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Interval at which lines are sent, those of an app in one message.
const SEND_EVERY: Duration = Duration::from_millis(50);
/// About the most bytes of lines in a message, besides those that were kept before.
const MAX_BATCH_BYTES: usize = 256 << 10;
/// How long a node waits until it receives an app's lines.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the viewers on a node want of an app; without any, nothing any more.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    /// The process of the node that asks.
    from: String,
    /// The id of the app.
    app: String,
    viewers: Vec<LiveOrder>,
}

impl Cluster {
    /// Asks the other nodes for lines, and sends them theirs, forever.
    pub(crate) async fn live_loop(&self, link: &Arc<Link>) -> String {
        tokio::select! {
            never = self.order_loop(link) => never,
            never = self.line_loop(link) => never,
        }
    }

    /// Tells the other nodes what viewers on this one want: at once when that changes, and again
    /// before their leases end.
    async fn order_loop(&self, link: &Arc<Link>) -> String {
        loop {
            for (app, orders) in self.node.live_orders() {
                self.order(link, &app, orders).await;
            }
            let next = Instant::now() + RENEW_EVERY;
            while timeout_at(next, self.node.live_orders_changed())
                .await
                .is_ok()
            {
                for (app, orders) in self.node.take_changed_live_orders() {
                    self.order(link, &app, orders).await;
                }
            }
        }
    }

    async fn order(&self, link: &Arc<Link>, app: &Arc<App>, viewers: Vec<LiveOrder>) {
        let topic = Topic::Live(Arc::clone(app));
        if viewers.is_empty() {
            self.topics.unsubscribe((&topic).into());
        } else if timeout(SUBSCRIBE_TIMEOUT, self.subscribe(&topic))
            .await
            .is_err()
        {
            // Asked for again with the next renewal; lines that nobody receives would be lost.
            return;
        }
        let orders = Orders {
            from: self.process().to_owned(),
            app: app.id().to_string(),
            viewers,
        };
        let text = serde_json::to_string(&orders).expect("orders are JSON");
        let message = Message::LiveOrders(&text).write();
        let sent = link.broker.broadcast(message, link.publish_until());
        if let Err(error) = link.in_time(sent).await {
            tracing::debug!(%error, "the other nodes were not asked for live events");
        }
    }

    /// Sends lines to the nodes that ask for them.
    async fn line_loop(&self, link: &Arc<Link>) -> String {
        loop {
            while let Some(batches) = self.node.take_live_batches(MAX_BATCH_BYTES) {
                for (app, batch) in batches {
                    self.send_lines(link, &app, &batch).await;
                }
                sleep(SEND_EVERY).await;
            }
            self.node.watched_from_afar().await;
        }
    }

    async fn send_lines(&self, link: &Arc<Link>, app: &App, batch: &LiveBatch) {
        let text = serde_json::to_string(batch).expect("lines are JSON");
        let message = Message::LiveLines(&text).write();
        let topic = backend::Topic::Live(app.id().clone());
        if let Err(error) = link.in_time(link.broker.send(topic, message)).await {
            tracing::debug!(%error, "live events were not sent to another node");
            self.node.give_back_live(app, batch);
        }
    }

    /// Takes what another node asks for. What can't be read is a later version's, perhaps.
    pub(crate) fn handle_live_orders(&self, text: &str) {
        let Ok(Orders { from, app, viewers }) = serde_json::from_str(text) else {
            return;
        };
        if from == self.process() {
            return;
        }
        if let Some(app) = self.node.app(&app) {
            self.node.apply_live_orders(&app, &from, viewers, LEASE);
        }
    }

    /// Hands lines of another node to the viewers on this one.
    pub(crate) fn handle_live_lines(&self, app: &App, text: &str) {
        if let Ok(batch) = serde_json::from_str(text) {
            self.node.receive_live(app, batch);
        }
    }
}
