//! Messages from other nodes, and from this one.

use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::{
    ChannelRef, Envelope, PresenceChange, Retention, StreamPosition, Topic, TraceContext,
};
use fanfare_protocol::presence::Member;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::backend::{self, Incoming};
use crate::cluster::Cluster;
use crate::link::Link;
use crate::message::{Heartbeat, Message, Unreadable};

/// The history of an event from the bus, which the back end has recorded already.
const RECORDED: Retention = Retention {
    size: 0,
    ttl: Duration::ZERO,
    rules: 0,
};

impl Cluster {
    /// Delivers incoming messages in order until the connection is lost. After that nothing is
    /// delivered, not even messages that came before: a client that subscribes again by then would
    /// get them after a gap.
    pub(crate) async fn receive(
        self: Arc<Self>,
        link: Arc<Link>,
        mut incoming: UnboundedReceiver<Incoming>,
    ) {
        let mut lost = std::pin::pin!(link.lost());
        let mut trace = None;
        loop {
            let next = tokio::select! {
                // The loss is checked first, before a message that waits.
                biased;
                _ = &mut lost => return,
                next = incoming.recv() => next,
            };
            match next {
                Some(Incoming::Message {
                    topic,
                    message,
                    room,
                }) => {
                    if let Err(error) = self.handle(&link, &topic, &message, &mut trace).await {
                        tracing::error!(%error, ?topic, "a message from another node is lost");
                        // The topic has a gap now, so nothing after it may be delivered.
                        return link.set_lost(format!("a message could not be read: {error}"));
                    }
                    // Given back only after the delivery: what waits here counts against the bound.
                    drop(room);
                }
                Some(Incoming::Lost(reason)) => return link.set_lost(reason),
                None => return link.set_lost("the connection ended".into()),
            }
        }
    }

    /// Delivers one message. A sampled event comes right after its span, which `trace` holds in between.
    ///
    /// # Errors
    ///
    /// Returns [`Unreadable`] if it cannot be read.
    async fn handle(
        self: &Arc<Self>,
        link: &Arc<Link>,
        topic: &backend::Topic,
        message: &[u8],
        trace: &mut Option<(backend::Topic, TraceContext)>,
    ) -> Result<(), Unreadable> {
        let message = Message::read(message)?;
        if *topic == backend::Topic::Nodes {
            self.handle_node_message(link, message);
            return Ok(());
        }
        if let Message::Trace(context) = message {
            *trace = Some((topic.clone(), context));
            return Ok(());
        }
        // Messages of another topic may come in between.
        let trace = trace.take_if(|(of, _)| of == topic);
        let trace = trace.map(|(_, context)| Box::new(context));
        match self.topics.find(topic) {
            Some(Topic::Channel(channel_ref)) => {
                self.handle_channel_message(channel_ref, message, trace)
                    .await;
            }
            Some(Topic::Users(app)) => {
                if let Message::Online {
                    position,
                    user_id,
                    online,
                } = message
                {
                    self.node.announce_online(&app, &user_id, online, position);
                }
            }
            Some(Topic::Live(app)) => {
                if let Message::LiveLines(lines) = message {
                    self.handle_live_lines(&app, lines);
                }
            }
            // The topic is not wanted any more.
            None => {}
        }
        Ok(())
    }

    fn handle_node_message(self: &Arc<Self>, link: &Arc<Link>, message: Message<'_>) {
        match message {
            Message::Heartbeat(beat) => self.handle_heartbeat(link, &beat),
            Message::Farewell { node } => link.peers.forget(node),
            Message::Terminate { app, user_id } => {
                if let Some(app) = self.node.app(app) {
                    self.node.terminate(&app, &user_id);
                }
            }
            Message::LiveOrders(orders) => self.handle_live_orders(orders),
            Message::Query(query) => self.answer_query(link, query),
            Message::Question(question) => self.receive_question(link, &question),
            Message::Answer(answer) if *answer.to == **link.name() => {
                self.questions.receive(&answer)
            }
            Message::Reply(reply) if reply.to == **link.name() => self.queries.receive(reply),
            _ => {}
        }
    }

    /// Notes a heartbeat. A node that doesn't receive this one's yet is answered at once, so that
    /// it need not wait.
    fn handle_heartbeat(&self, link: &Link, beat: &Heartbeat) {
        self.questions.note_name(beat);
        if !link.peers.note_heartbeat(beat) && beat.node != **link.name() {
            link.heartbeat_now.notify_one();
        }
    }

    async fn handle_channel_message(
        &self,
        channel_ref: ChannelRef,
        message: Message<'_>,
        trace: Option<Box<TraceContext>>,
    ) {
        match message {
            Message::Event {
                position,
                keep,
                recorded,
                name,
                user_id,
                except,
                data,
            } => {
                let envelope = Envelope {
                    history: recorded.as_ref().map(|_| RECORDED),
                    channel_ref,
                    name: name.into(),
                    data: data.into(),
                    user_id,
                    except,
                    keep,
                    trace,
                };
                let stamp = StreamPosition { position, recorded };
                self.node.deliver(&envelope, &stamp).await;
            }
            Message::Added {
                position,
                user_id,
                user_info,
            } => {
                let member = Member {
                    user_id,
                    user_info: user_info.map(Into::into),
                };
                self.node
                    .announce(&channel_ref, &PresenceChange::Added(&member), position);
            }
            Message::Removed { position, user_id } => {
                self.node
                    .announce(&channel_ref, &PresenceChange::Removed(&user_id), position);
            }
            Message::Count(count) => self.node.update_count(&channel_ref, count),
            Message::Online { .. }
            | Message::Heartbeat(_)
            | Message::Terminate { .. }
            | Message::Query(_)
            | Message::Reply(_)
            | Message::Question(_)
            | Message::Answer(_)
            | Message::Trace(_)
            | Message::LiveOrders(_)
            | Message::LiveLines(_)
            | Message::Farewell { .. } => {}
        }
    }
}
