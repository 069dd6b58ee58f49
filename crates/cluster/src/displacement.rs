//! Displacement over nodes: asks the other nodes which networks hold most of an app's connections,
//! and one of them to close a connection for a client of this node; answers both.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_engine::{App, Network, NodeNetworks, RemoteNetworks};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;
use crate::link::Link;
use crate::message::{Message, NodeQuery, NodeReply, QueryKind, ReplyKind};
use crate::peers::process;

/// How long a node waits for replies.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a displaced connection's place is kept after the reply. Longer than the other node
/// waits for it and then needs to report the connection that takes the place: a place that was free
/// in between would go to whichever client comes first, which is the network that was displaced.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// Queries of this node that wait for replies.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<NodeReply>>>,
}

impl Queries {
    /// Creates a query for at most `replies` replies.
    fn begin(&self, replies: usize) -> Query<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = mpsc::channel(replies.max(1));
        self.waiting.lock().insert(id, sender);
        Query {
            queries: self,
            id,
            replies,
        }
    }

    /// Hands a reply to its query, if one waits for it.
    pub(crate) fn receive(&self, reply: NodeReply) {
        if let Some(sender) = self.waiting.lock().get(&reply.id) {
            // A full queue has as many replies as there are nodes.
            let _ = sender.try_send(reply);
        }
    }
}

/// A query, until it is dropped.
struct Query<'a> {
    queries: &'a Queries,
    id: u64,
    replies: mpsc::Receiver<NodeReply>,
}

impl Drop for Query<'_> {
    fn drop(&mut self) {
        self.queries.waiting.lock().remove(&self.id);
    }
}

impl Cluster {
    /// Asks the other nodes which networks hold most of an app's connections, and waits
    /// [`REPLY_TIMEOUT`] for their replies.
    pub(crate) async fn ask_for_networks(&self, app: &Arc<App>) -> RemoteNetworks {
        let mut found = RemoteNetworks::default();
        let Some(link) = self.link() else {
            return found;
        };
        let mut missing = link.peers.others();
        let mut query = self.queries.begin(missing.len());
        let asked = async {
            if !missing.is_empty() {
                self.send_query(&link, &query, app, QueryKind::LargestNetworks)
                    .await;
            }
            while !missing.is_empty()
                && let Some(reply) = query.replies.recv().await
            {
                if let ReplyKind::LargestNetworks(networks) = reply.kind
                    && missing.remove(process(&reply.from))
                {
                    let parsed =
                        |(network, held): (String, usize)| Some((Network::parse(&network)?, held));
                    found.nodes.push(NodeNetworks {
                        node: reply.from,
                        networks: networks.into_iter().filter_map(parsed).collect(),
                    });
                }
            }
        };
        // Without all replies, what came is used.
        let _ = timeout(REPLY_TIMEOUT, asked).await;
        found.complete = missing.is_empty();
        found
    }

    /// Asks a node to close one connection of a network, and returns whether it did.
    pub(crate) async fn ask_to_displace(
        &self,
        app: &Arc<App>,
        node: &str,
        network: Network,
    ) -> bool {
        let Some(link) = self.link() else {
            return false;
        };
        let mut query = self.queries.begin(1);
        let kind = QueryKind::Displace {
            node: node.into(),
            network: network.to_string(),
        };
        let replied = async {
            self.send_query(&link, &query, app, kind).await;
            query.replies.recv().await
        };
        let reply = timeout(REPLY_TIMEOUT, replied).await.ok().flatten();
        reply.is_some_and(|reply| reply.kind == ReplyKind::Displaced(true))
    }

    async fn send_query(
        &self,
        link: &Arc<Link>,
        query: &Query<'_>,
        app: &Arc<App>,
        kind: QueryKind,
    ) {
        let query = NodeQuery {
            id: query.id,
            from: link.name().to_string(),
            app: app.id().to_string(),
            kind,
        };
        send(link, &Message::Query(query)).await;
    }

    /// Replies to a query of another node, if it asks this one.
    pub(crate) fn answer_query(self: &Arc<Self>, link: &Arc<Link>, query: NodeQuery) {
        let me = link.name();
        let is_asked = match &query.kind {
            QueryKind::LargestNetworks => query.from != **me,
            QueryKind::Displace { node, .. } => *node == **me,
        };
        if is_asked {
            let (cluster, link) = (Arc::clone(self), Arc::clone(link));
            // The shards are asked, and messages that come meanwhile need not wait for that.
            tokio::spawn(async move { cluster.reply(&link, query).await });
        }
    }

    async fn reply(&self, link: &Arc<Link>, query: NodeQuery) {
        let app = self.node.app(&query.app);
        let (kind, permits) = match (&query.kind, &app) {
            (QueryKind::LargestNetworks, app) => {
                let networks = match app {
                    Some(app) => self.node.largest_networks(app).await,
                    None => Vec::new(),
                };
                let displayed = |(network, held): (Network, usize)| (network.to_string(), held);
                let networks = networks.into_iter().map(displayed).collect();
                (ReplyKind::LargestNetworks(networks), None)
            }
            (QueryKind::Displace { network, .. }, app) => {
                let permits = match (app, Network::parse(network)) {
                    (Some(app), Some(network)) => self.node.displace(app, network).await,
                    _ => None,
                };
                (ReplyKind::Displaced(permits.is_some()), permits)
            }
        };
        let reply = NodeReply {
            id: query.id,
            to: query.from,
            from: link.name().to_string(),
            kind,
        };
        send(link, &Message::Reply(reply)).await;
        if permits.is_some() {
            sleep(KEPT_FOR).await;
        }
        drop(permits);
    }
}

/// Publishes a message to all nodes. A query or reply that is lost is missed by the node that asks.
async fn send(link: &Arc<Link>, message: &Message<'_>) {
    let sent = link.broker.broadcast(message.write(), link.publish_until());
    if let Err(error) = link.in_time(sent).await {
        tracing::debug!(%error, "the other nodes were asked in vain");
    }
}
