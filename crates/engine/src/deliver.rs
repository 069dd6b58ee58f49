//! The one way out for an event: finds the shards that have subscribers of its channel, encodes the
//! frame once and queues it. The locks of the routes are never held across an await.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_protocol::{AppId, CloseCode, Frame, HistoryPosition, ServerMessage, UserId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bus::{BusError, Envelope, StreamPosition};
use crate::channel_ref::ChannelRef;
use crate::command::Command;
use crate::error::Refusal;
use crate::history::NewEvent;
use crate::inbox::{self, Inbox};
use crate::notice::Notices;
use crate::route::ChannelId;
use crate::sequence::{Generation, Offset};
use crate::transitions::{LEAVE_GRACE, LOST_NODE_GRACE};

/// Most shards a node may have: one bit each.
pub(crate) const MAX_SHARDS: usize = 64;
/// Most bytes that a history position adds to a frame.
const POSITION_ROOM: usize = 128;

/// Channels whose subscribers get the newest subscription count at a time, the first one first.
pub(crate) type DueCounts = BTreeMap<(Instant, ChannelId), ChannelRef>;

/// A channel whose count has changed and is to be reported to other nodes.
#[derive(Debug)]
pub(crate) struct ChangedRoute {
    pub(crate) channel_ref: ChannelRef,
    /// Whether it got its first subscriber on this node then.
    pub(crate) is_new: bool,
}

/// Queues events to the shards that have subscribers for them.
#[derive(Debug)]
pub(crate) struct Deliverer {
    pub(crate) inboxes: Vec<Arc<Inbox<Command>>>,
    pub(crate) next_channel: AtomicU64,
    /// Number of channels with subscribers on this node.
    pub(crate) occupied: AtomicUsize,
    /// Subscription counts that are due, and the signal that one has become the first of them.
    pub(crate) due_counts: Mutex<DueCounts>,
    pub(crate) first_count_due: Notify,
    /// Whether this node belongs to a cluster.
    is_shared: bool,
    generation: AtomicU32,
    /// Channels whose counts have changed and are to be reported to other nodes.
    pub(crate) changed: Mutex<Vec<ChangedRoute>>,
    pub(crate) notices: Arc<dyn Notices>,
    /// Whether the node closes all connections and admits none.
    draining: AtomicBool,
    /// Whether it runs on afterwards.
    runs_on: AtomicBool,
    /// Until when fenced connections are being closed, if they are.
    closing_until: Mutex<Option<Instant>>,
}

impl Deliverer {
    /// Creates a deliverer for these inboxes. With `shared`, other nodes exist, and all nodes
    /// together know how many subscribers a channel has.
    pub(crate) fn new(
        inboxes: Vec<Arc<Inbox<Command>>>,
        shared: bool,
        notices: Arc<dyn Notices>,
    ) -> Self {
        assert!(
            (1..=MAX_SHARDS).contains(&inboxes.len()),
            "a node has 1 to {MAX_SHARDS} shards"
        );
        Self {
            inboxes,
            next_channel: AtomicU64::new(0),
            occupied: AtomicUsize::new(0),
            due_counts: Mutex::default(),
            first_count_due: Notify::new(),
            is_shared: shared,
            generation: AtomicU32::new(1),
            changed: Mutex::default(),
            notices,
            draining: AtomicBool::new(false),
            runs_on: AtomicBool::new(false),
            closing_until: Mutex::default(),
        }
    }

    /// Notes that the node closes all connections, and stops unless it runs on.
    pub(crate) fn start_draining(&self, runs_on: bool) {
        self.runs_on.store(runs_on, Ordering::Relaxed);
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Notes that the node takes clients again.
    pub(crate) fn end_draining(&self) {
        self.draining.store(false, Ordering::Relaxed);
    }

    /// Notes that fenced connections are closed from now on, which takes so long.
    pub(crate) fn start_closing(&self, period: Duration) {
        let until = Instant::now() + period;
        let mut closing_until = self.closing_until.lock();
        // Each shard closes its own.
        *closing_until = Some(closing_until.map_or(until, |other| other.max(until)));
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Returns what clients are told while the node drains.
    pub(crate) fn drain_refusal(&self, code: CloseCode) -> Refusal {
        let message = if self.runs_on.load(Ordering::Relaxed) {
            "This server is being drained, reconnect"
        } else {
            "This server is shutting down, reconnect"
        };
        Refusal::new(code, message)
    }

    /// Returns how long clients that leave now may take to return before receivers are told.
    pub(crate) fn leave_grace(&self) -> Duration {
        let closing_until = *self.closing_until.lock();
        if self.is_draining() || closing_until.is_some_and(|until| Instant::now() < until) {
            LOST_NODE_GRACE
        } else {
            LEAVE_GRACE
        }
    }

    /// Returns whether this node belongs to a cluster.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Returns the current generation. A listener of another generation may have missed events.
    pub(crate) fn generation(&self) -> Generation {
        // Pairs with the release below: a thread that sees a generation sees all that was done
        // before it began.
        self.generation.load(Ordering::Acquire)
    }

    /// Starts the next generation, after the connection to the back end was lost.
    pub(crate) fn start_generation(&self, next: Generation) {
        self.generation.store(next, Ordering::Release);
    }

    /// Returns the number of channels with subscribers on this node.
    pub(crate) fn occupied(&self) -> usize {
        self.occupied.load(Ordering::Relaxed)
    }

    /// Returns the bytes of events that are queued, or have reserved room, in all inboxes.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.inboxes.iter().map(|inbox| inbox.reserved()).sum()
    }

    pub(crate) fn inboxes(&self) -> &[Arc<Inbox<Command>>] {
        &self.inboxes
    }

    /// Queues events to every shard that has subscribers for them: all events, or none.
    ///
    /// Room is reserved in every inbox first. Then each event is queued to all its shards under the
    /// lock of its channel, so that two events of a channel reach every shard in the same order.
    ///
    /// # Errors
    ///
    /// Returns [`BusError::Overloaded`] if a shard's inbox is full.
    pub(crate) fn deliver(&self, envelopes: &[Envelope]) -> Result<(), BusError> {
        // Encoded outside the locks. `queue` looks at each route again, because subscribers may come
        // meanwhile.
        let frames: Vec<Option<Frame>> = envelopes.iter().map(encode_if_occupied).collect();
        let weights = envelopes.iter().zip(&frames);
        let total = weights
            .map(|(envelope, frame)| weight(envelope, frame.as_ref()))
            .sum();
        let stays = |envelope: &Envelope| envelope.keep || envelope.history.is_some();
        if total == 0 && !envelopes.iter().any(stays) {
            return Ok(());
        }
        // All events of a request belong to one app.
        if let Some(envelope) = envelopes.first() {
            self.reserve_everywhere(envelope.channel_ref.app.id(), total)?;
        }
        self.queue(envelopes, frames, total, None);
        Ok(())
    }

    /// Queues an event from another node to the shards, and waits until their inboxes have room.
    pub(crate) async fn deliver_when_room(
        &self,
        envelope: &Envelope,
        stream_position: &StreamPosition,
    ) {
        let frame = encode_if_occupied(envelope);
        let weight = weight(envelope, frame.as_ref());
        if frame.is_some() {
            for inbox in &self.inboxes {
                // Subscribers may come and go meanwhile, so `queue` looks at the route again.
                inbox.reserve_when_room(weight).await;
            }
        }
        let envelopes = std::slice::from_ref(envelope);
        self.queue(envelopes, vec![frame], weight, Some(stream_position));
    }

    /// Queues events to their shards, for which `reserved` bytes were reserved in every inbox. On a
    /// node by itself they are cached and recorded here; in a cluster the back end has done so.
    fn queue(
        &self,
        envelopes: &[Envelope],
        frames: Vec<Option<Frame>>,
        reserved: usize,
        stream_position: Option<&StreamPosition>,
    ) {
        let mut unused = vec![reserved; self.inboxes.len()];
        let at = Instant::now();
        for (envelope, frame) in envelopes.iter().zip(frames) {
            let ChannelRef { app, channel } = &envelope.channel_ref;
            let routes = app.channels.stripe(channel.as_str()).lock();
            // Under the channel's lock, so that the kept event is the one queued last and history
            // is in queue order.
            let (offset, recorded) = remember(envelope, stream_position);
            let Some(route) = routes.get(channel) else {
                continue;
            };
            // A client that subscribed since the frame was skipped was told of a cached event or a
            // history that ends before this one.
            let late = frame.is_none();
            let Some(frame) = frame.or_else(|| offset.is_some().then(|| encode(envelope, None)))
            else {
                continue;
            };
            let positioned = recorded.filter(|_| route.positioned > 0);
            let positioned = positioned.map(|position| encode(envelope, Some(&position)));
            let extra = positioned.as_ref().map_or(0, Frame::len);
            // For the first of the shards: the write to one subscriber stands for all.
            let mut trace = envelope.trace.clone();
            for shard in shards(route.shards) {
                let weight = inbox::weight(frame.len() + extra);
                if late {
                    self.inboxes[shard].force(weight);
                } else {
                    // The exact weight is known only now; the rest is given back below.
                    unused[shard] -= weight;
                }
                self.inboxes[shard].push(Command::Deliver {
                    channel: route.id,
                    frame: frame.clone(),
                    positioned: positioned.clone(),
                    except: envelope.except,
                    offset,
                    at,
                    trace: trace.take(),
                });
            }
        }
        for (inbox, unused) in self.inboxes.iter().zip(unused) {
            inbox.release(unused);
        }
    }

    /// Reserves room in every inbox, or in none.
    fn reserve_everywhere(&self, app: &AppId, weight: usize) -> Result<(), BusError> {
        for (index, inbox) in self.inboxes.iter().enumerate() {
            if !inbox.reserve_for(app, weight) {
                // Gives back what the inboxes before this one have reserved.
                self.inboxes[..index]
                    .iter()
                    .for_each(|inbox| inbox.release(weight));
                return Err(BusError::Overloaded);
            }
        }
        Ok(())
    }
}

/// Returns the encoded frame, or `None` if the channel has no subscribers.
fn encode_if_occupied(envelope: &Envelope) -> Option<Frame> {
    let ChannelRef { app, channel } = &envelope.channel_ref;
    (app.channels.subscribers(channel.as_str()) > 0).then(|| encode(envelope, None))
}

/// Encodes an event as its subscribers get it.
fn encode(envelope: &Envelope, position: Option<&HistoryPosition>) -> Frame {
    let event = ServerMessage::Event {
        name: &envelope.name,
        channel: envelope.channel_ref.channel.as_str(),
        data: &envelope.data,
        user_id: envelope.user_id.as_ref().map(UserId::as_str),
        position,
    };
    event.to_frame()
}

/// Returns the most bytes that an event takes in an inbox, with a position if it gets one.
fn weight(envelope: &Envelope, frame: Option<&Frame>) -> usize {
    let positioned = |frame: &Frame| match envelope.history {
        Some(_) => frame.len() + POSITION_ROOM,
        None => 0,
    };
    frame.map_or(0, |frame| inbox::weight(frame.len() + positioned(frame)))
}

/// Caches and records an event where its channel does so, and returns its offset, if it is kept, and
/// its position in the history.
fn remember(
    envelope: &Envelope,
    stream_position: Option<&StreamPosition>,
) -> (Option<Offset>, Option<HistoryPosition>) {
    let ChannelRef { app, channel } = &envelope.channel_ref;
    if !envelope.keep && envelope.history.is_none() {
        return (None, None);
    }
    let position = stream_position.and_then(|stream_position| stream_position.position);
    let offset = position.and_then(Offset::of);
    let offset = offset.unwrap_or_else(|| app.next_offset());
    let limits = &app.settings().limits;
    if envelope.keep {
        let event = (&envelope.name, &envelope.data);
        app.cache.keep(channel, event, limits, offset);
    }
    let recorded = match (stream_position, envelope.history) {
        (Some(stream_position), _) => stream_position.recorded.clone(),
        (None, Some(retention)) => {
            let max = limits.history_bytes;
            let event = NewEvent {
                name: &envelope.name,
                data: &envelope.data,
                user_id: envelope.user_id.as_ref(),
                except: envelope.except,
            };
            Some(app.histories.record(channel, event, retention, offset, max))
        }
        (None, None) => None,
    };
    (Some(offset), recorded)
}

/// Returns the indexes of the shards in a route's mask.
pub(crate) fn shards(mask: u64) -> impl Iterator<Item = usize> {
    (0..MAX_SHARDS).filter(move |shard| mask & (1 << shard) != 0)
}
