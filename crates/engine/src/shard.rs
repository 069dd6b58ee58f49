//! One thread's connections and channels: plain data, touched by this thread alone, so nothing here is locked.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, CloseCode, Frame, SocketId};
use slab::Slab;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::backlog::{Backlog, BacklogEntry};
use crate::clock::CLOSE_GRACE;
use crate::command::Command;
use crate::connection::Connection;
use crate::engine::Engine;
use crate::error::Refusal;
use crate::inbox::{self, Inbox};
use crate::options::WaitingLimits;
use crate::outbox::{Buffers, Origin, SharedFrame};
use crate::replay::Replay;
use crate::route::ChannelId;
use crate::sequence::{Offset, Position};
use crate::shard_stats::{AppSlot, ShardStats};
use crate::trace::{FinishedSpan, SpanSink, TraceContext, TracedWork};

/// A thread that owns connections, their outboxes and the subscriber lists of their channels.
pub struct Shard {
    pub(crate) index: usize,
    pub(crate) engine: Arc<Engine>,
    pub(crate) state: RefCell<State>,
    inbox: Arc<Inbox<Command>>,
    /// Commands that are being applied. Empty between batches, and kept for its allocation.
    batch: RefCell<Vec<Command>>,
    /// When the events of the batch were published. Empty between batches, too.
    published: RefCell<Vec<Instant>>,
}

/// Interval at which a drain closes a part of the connections.
const TICK: Duration = Duration::from_millis(10);

/// Connections that are adopted before events get their turn. One takes some 10 µs.
const ADOPTED_AT_ONCE: usize = 16;

/// Commands for which the queue and the batch keep room after a burst.
const COMMANDS_KEPT: usize = 1024;

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) connections: Slab<Connection>,
    pub(crate) channels: HashMap<ChannelId, Subscribers, foldhash::fast::RandomState>,
    pub(crate) outgoing: Outgoing,
    pub(crate) stats: ShardStats,
    /// Most bytes that may wait for the connections of this shard, in all, per app and per network.
    pub(crate) waiting: WaitingLimits,
    /// Whether closing connections brought the waiting bytes below the bound when it was last
    /// tried.
    pub(crate) relieved: bool,
}

/// State that all outboxes of a shard share.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) buffers: Buffers,
    /// Slots of connections that have something to write, each once.
    dirty: Vec<usize>,
    /// Most bytes of live events that may wait for one connection.
    pub(crate) max_waiting: usize,
    /// Number of connections that were closed because they lagged.
    pub(crate) slow_consumers: u64,
}

/// A sampled event of a batch that is being written.
struct TracedWrite {
    channel: ChannelId,
    except: Option<SocketId>,
    at: Instant,
    parent: TraceContext,
}

/// A channel's subscribers on this shard.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    /// The app that the channel belongs to.
    pub(crate) app: AppSlot,
    /// Slots of the subscribers, except those in `positioned`.
    pub(crate) slots: Vec<usize>,
    /// Slots of the subscribers that get each event's position in the channel's history.
    pub(crate) positioned: Vec<usize>,
    /// Present while connections join, and keeps this entry alive for them. Boxed, because that is
    /// rare.
    pub(crate) backlog: Option<Box<Backlog>>,
    /// Offset of the newest event that any subscriber got from the cache.
    pub(crate) replayed: Option<Offset>,
    /// The subscription count that was announced last, if any.
    pub(crate) count: Option<NonZeroU32>,
}

impl Subscribers {
    /// Returns the list of subscribers that get positions, or of those that don't.
    pub(crate) fn list(&mut self, positioned: bool) -> &mut Vec<usize> {
        if positioned {
            &mut self.positioned
        } else {
            &mut self.slots
        }
    }
}

impl Shard {
    pub(crate) fn new(index: usize, engine: Arc<Engine>, inbox: Arc<Inbox<Command>>) -> Rc<Self> {
        let state = State {
            connections: Slab::new(),
            channels: HashMap::default(),
            stats: ShardStats::new(Arc::clone(&engine.quotas)),
            waiting: WaitingLimits::of_shard(engine.options()),
            relieved: true,
            outgoing: Outgoing {
                buffers: Buffers::default(),
                dirty: Vec::new(),
                max_waiting: engine.options().outbox_bytes,
                slow_consumers: 0,
            },
        };
        Rc::new(Self {
            index,
            engine,
            state: RefCell::new(state),
            inbox,
            batch: RefCell::default(),
            published: RefCell::default(),
        })
    }

    pub(crate) fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Applies commands, forever. Each batch is applied whole before anything is written, so that
    /// events of the same moment leave in one write per socket.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            self.inbox.wait().await;
            self.serve_inbox();
            self.adopt();
            // Readers on this thread get their turn, however many events arrive.
            tokio::task::yield_now().await;
        }
    }

    /// Adopts the connections that wait for it.
    fn adopt(self: &Rc<Self>) {
        for (count, command) in self.inbox.take_deferred().into_iter().enumerate() {
            if count % ADOPTED_AT_ONCE == ADOPTED_AT_ONCE - 1 {
                self.serve_inbox();
            }
            self.apply(command);
        }
    }

    /// Applies the commands that are queued, if any. Readers call this after each of their turns,
    /// so that events don't wait until all readers had theirs.
    pub(crate) fn serve_inbox(self: &Rc<Self>) {
        let mut batch = self.batch.take();
        if self.inbox.take(&mut batch) {
            let mut weight = 0;
            let mut published = self.published.take();
            // Allocates nothing without a sampled event.
            let mut traced = Vec::new();
            for mut command in batch.drain(..) {
                if let Command::Deliver {
                    channel,
                    frame,
                    positioned,
                    except,
                    at,
                    trace,
                    ..
                } = &mut command
                {
                    let extra = positioned.as_ref().map_or(0, Frame::len);
                    weight += inbox::weight(frame.len() + extra);
                    published.push(*at);
                    if let Some(parent) = trace.take() {
                        traced.push(TracedWrite {
                            channel: *channel,
                            except: *except,
                            at: *at,
                            parent: *parent,
                        });
                    }
                }
                self.apply(command);
            }
            // Room is given back after the write, so that publishers are held back by what this shard can
            // write.
            let mut state = self.state();
            state.flush_dirty();
            self.inbox.release(weight);
            state.stats.note_batch(&mut published, weight);
            for write in traced {
                state.record_write(&write, &*self.engine.options().spans);
            }
            drop(state);
            self.published.replace(published);
        }
        self.batch.replace(batch);
    }

    /// Frees memory that a burst of commands needed.
    pub(crate) fn trim_inbox(&self) {
        self.inbox.trim(COMMANDS_KEPT);
        self.batch.borrow_mut().shrink_to(COMMANDS_KEPT);
    }

    /// Applies one command.
    fn apply(self: &Rc<Self>, command: Command) {
        match command {
            Command::Run(task) => task(self),
            Command::Deliver {
                channel,
                frame,
                positioned,
                except,
                offset,
                ..
            } => {
                let frame = SharedFrame::new(&frame);
                let positioned = positioned.as_ref().map(SharedFrame::new);
                self.state().deliver(
                    channel,
                    [&frame, positioned.as_ref().unwrap_or(&frame)],
                    except,
                    offset,
                );
            }
            Command::Announce {
                channel,
                name,
                frame,
                position,
            } => {
                self.state().announce(channel, &name, &frame, position);
            }
            Command::Count {
                channel,
                name,
                count,
                frame,
            } => self.state().announce_count(channel, &name, count, &frame),
            Command::NotifyWatcher {
                slot,
                socket_id,
                position,
                frame,
            } => self
                .state()
                .notify_watcher(slot, socket_id, position, &frame),
            Command::Review => self.review(),
            Command::Terminate { slot, socket_id } => self.terminate(slot, socket_id),
            Command::Fence => {
                for (_, connection) in &mut self.state().connections {
                    connection.fence();
                }
            }
            Command::CloseFenced { per_second } => self.close_fenced(per_second),
            Command::Drain { period, done } => {
                tokio::task::spawn_local(Rc::clone(self).drain(period, done));
            }
        }
    }

    /// Closes the connections whose app is disabled or deleted, or whose key is no longer active, and lets go of deleted
    /// apps without connections.
    fn review(&self) {
        let mut state = self.state();
        state.stats.drop_deleted();
        let now = Instant::now();
        let slots: Vec<usize> = state.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let refusal = state
                .connections
                .get(slot)
                .and_then(|c| c.app.refusal(&c.key));
            if let Some(refusal) = refusal {
                state.close(slot, &refusal, now);
            }
        }
    }

    /// Closes fenced connections with a code that makes clients reconnect.
    fn close_fenced(self: &Rc<Self>, per_second: usize) {
        let cut = |(slot, connection): (usize, &Connection)| {
            let named = (slot, connection.socket_id);
            connection.is_fenced().then_some(named)
        };
        let cut: Vec<_> = self.state().connections.iter().filter_map(cut).collect();
        if cut.is_empty() {
            return;
        }
        // Not where none is fenced, such as after a start: clients that leave then do so by themselves.
        let seconds = Duration::from_secs(cut.len().div_ceil(per_second) as u64);
        let deliverer = self.engine.deliverer();
        deliverer.start_closing(CLOSE_GRACE + seconds);
        let refusal = Refusal::new(
            CloseCode::EventsMissed,
            "This server was cut off from the others and may have missed events, reconnect",
        );
        let shard = Rc::clone(self);
        tokio::task::spawn_local(
            async move { shard.close_at_rate(cut, &refusal, per_second).await },
        );
    }

    /// Closes connections, `per_second` of them each second.
    async fn close_at_rate(
        &self,
        some: Vec<(usize, SocketId)>,
        refusal: &Refusal,
        per_second: usize,
    ) {
        let (start, mut due) = (Instant::now(), Duration::ZERO);
        let every = Duration::from_secs(1) / u32::try_from(per_second).unwrap_or(u32::MAX).max(1);
        for (slot, socket_id) in some {
            // A timer fires at most once a millisecond, and late on a busy machine: then several
            // are due.
            if start.elapsed() < due {
                tokio::time::sleep_until(start + due).await;
            }
            let mut state = self.state();
            // The slot may belong to another connection after the sleep.
            if state.has(slot, socket_id) {
                state.close(slot, refusal, Instant::now());
            }
            drop(state);
            due += every;
        }
    }

    /// Closes all connections within `period` with a code that makes clients reconnect at once,
    /// waits until they are gone, and reports that.
    async fn drain(self: Rc<Self>, period: Duration, done: oneshot::Sender<()>) {
        let named = |(slot, connection): (usize, &Connection)| (slot, connection.socket_id);
        let all = self.state().connections.iter().map(named).collect();
        let refusal = self.engine.deliverer().drain_refusal(CloseCode::Reconnect);
        self.close_paced(all, &refusal, period).await;
        // Clients may still read what waits and answer the close frame; the sweep bounds that time.
        while self.engine.is_draining() && !self.state().connections.is_empty() {
            tokio::time::sleep(TICK).await;
        }
        // The receiver is dropped if the node gave up on this drain.
        let _ = done.send(());
    }

    /// Closes connections, a few every [`TICK`], spread over `period`, while the node drains.
    async fn close_paced(&self, some: Vec<(usize, SocketId)>, refusal: &Refusal, period: Duration) {
        let ticks = (period.as_millis() / TICK.as_millis()).max(1) as usize;
        for some in some.chunks(some.len().div_ceil(ticks).max(1)) {
            let now = Instant::now();
            for (slot, socket_id) in some {
                let mut state = self.state();
                // The slot may belong to another connection after the sleep.
                if state.has(*slot, *socket_id) {
                    state.close(*slot, refusal, now);
                }
            }
            tokio::time::sleep(TICK).await;
            if !self.engine.is_draining() {
                return;
            }
        }
    }
}

impl State {
    /// Records the write of a sampled event, as one of its subscribers saw it.
    fn record_write(&self, write: &TracedWrite, spans: &dyn SpanSink) {
        let Some(subscribers) = self.channels.get(&write.channel) else {
            return;
        };
        let slots = subscribers.slots.iter().chain(&subscribers.positioned);
        let connections = slots.map(|slot| &self.connections[*slot]);
        let mut got_it =
            connections.filter(|connection| write.except != Some(connection.socket_id));
        let Some(one) = got_it.next() else {
            return;
        };
        spans.record(FinishedSpan {
            context: write.parent.child(),
            parent: write.parent,
            is_parent_remote: false,
            start: write.at,
            end: Instant::now(),
            work: TracedWork::Write {
                subscribers: subscribers.slots.len() + subscribers.positioned.len(),
                waiting_bytes: one.waiting(),
            },
        });
    }

    /// Queues an event's frame to a channel's subscribers: `frame` to most, and `positioned` to
    /// those that get positions.
    fn deliver(
        &mut self,
        channel: ChannelId,
        [frame, positioned]: [&SharedFrame<'_>; 2],
        except: Option<SocketId>,
        offset: Option<Offset>,
    ) {
        let Some(subscribers) = self.channels.get_mut(&channel) else {
            return;
        };
        if let Some(backlog) = &mut subscribers.backlog
            && let Some(offset) = offset
        {
            let event = BacklogEntry::Event {
                offset,
                frame: positioned.frame().clone(),
                except,
            };
            backlog.push(event, self.outgoing.max_waiting);
        }
        // A subscriber may have got this event from the cache; it is left out below.
        let replayed = offset.is_some() && offset <= subscribers.replayed;
        let (mut deliveries, mut bytes) = (0, 0);
        let plain = subscribers.slots.iter().map(|slot| (slot, frame));
        let with_positions = subscribers.positioned.iter();
        for (slot, frame) in plain.chain(with_positions.map(|slot| (slot, positioned))) {
            // A listed slot always exists: a connection leaves its channels before its slot is
            // freed.
            let connection = &mut self.connections[*slot];
            let has_it = |c: &Connection| {
                c.subscriptions
                    .values()
                    .any(|s| s.channel == channel && s.replayed >= offset)
            };
            if except != Some(connection.socket_id) && !(replayed && has_it(connection)) {
                self.outgoing.push(connection, *slot, frame, Origin::Live);
                deliveries += 1;
                bytes += frame.frame().len();
            }
        }
        self.stats
            .count_deliveries(subscribers.app, deliveries, bytes as u64);
    }

    /// Queues a presence change to the subscribers whose snapshot is older.
    fn announce(
        &mut self,
        channel: ChannelId,
        name: &ChannelName,
        frame: &Frame,
        position: Position,
    ) {
        let Some(subscribers) = self.channels.get_mut(&channel) else {
            return;
        };
        if let Some(backlog) = &mut subscribers.backlog {
            let frame = frame.clone();
            backlog.push(
                BacklogEntry::PresenceChange { position, frame },
                self.outgoing.max_waiting,
            );
        }
        let frame = SharedFrame::new(frame);
        for slot in subscribers.slots.iter().chain(&subscribers.positioned) {
            let connection = &mut self.connections[*slot];
            let subscription = connection.subscriptions.get(name.as_str());
            let member = subscription.and_then(|subscription| subscription.member.as_ref());
            if member.is_some_and(|(_, since)| *since < position) {
                self.outgoing.push(connection, *slot, &frame, Origin::Live);
            }
        }
    }

    /// Queues a change of a watched user, unless the watchlist that the client got last has it.
    fn notify_watcher(
        &mut self,
        slot: usize,
        socket_id: SocketId,
        position: Position,
        frame: &Frame,
    ) {
        if let Some(connection) = self.connections.get_mut(slot)
            && connection.socket_id == socket_id
            && let Some(signed_in) = &connection.user
            && signed_in.watchlist_position < position
        {
            let frame = SharedFrame::new(frame);
            self.outgoing.push(connection, slot, &frame, Origin::Live);
        }
    }

    /// Queues a frame for one connection, to be flushed soon.
    pub(crate) fn push(&mut self, slot: usize, frame: &Frame, origin: Origin) {
        let frame = SharedFrame::new(frame);
        self.outgoing
            .push(&mut self.connections[slot], slot, &frame, origin);
    }

    /// Queues events of a history for one connection, to be flushed soon.
    pub(crate) fn replay(&mut self, slot: usize, replay: Replay) {
        let connection = &mut self.connections[slot];
        connection.replay(replay);
        self.outgoing
            .schedule_write(connection, slot, Origin::Answer);
    }

    /// Queues bytes of the transport's own, such as a PONG, for one connection, to be flushed soon.
    pub(crate) fn push_raw(&mut self, slot: usize, bytes: &[u8]) {
        let connection = &mut self.connections[slot];
        connection.push_raw(bytes, &mut self.outgoing.buffers);
        self.outgoing
            .schedule_write(connection, slot, Origin::Answer);
    }

    /// Returns whether the slot still belongs to this connection: slots are reused.
    pub(crate) fn has(&self, slot: usize, socket_id: SocketId) -> bool {
        let connection = self.connections.get(slot);
        connection.is_some_and(|connection| connection.socket_id == socket_id)
    }

    /// Sends the reason, and closes one connection.
    pub(crate) fn close(&mut self, slot: usize, refusal: &Refusal, now: Instant) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.close(refusal, true, now, &mut self.outgoing.buffers);
        }
    }

    /// Writes what waits for one connection. Its slot stays in the dirty list, where the next batch
    /// finds nothing to write.
    pub(crate) fn flush(&mut self, slot: usize) {
        self.connections[slot].flush(&mut self.outgoing.buffers);
        if self.connections[slot].owes_counts {
            self.send_owed_counts(slot);
        }
        self.relieve_at_once();
    }

    /// Writes what waits for the connections in the dirty list.
    fn flush_dirty(&mut self) {
        for slot in self.outgoing.dirty.drain(..) {
            if let Some(connection) = self.connections.get_mut(slot)
                && connection.dirty
            {
                connection.dirty = false;
                connection.flush(&mut self.outgoing.buffers);
            }
        }
        self.relieve_at_once();
    }

    /// Removes a connection that has left its channels.
    pub(crate) fn take_out(&mut self, slot: usize) {
        let mut connection = self.connections.remove(slot);
        connection.abandon(&mut self.outgoing.buffers);
        let (app, framing) = (connection.app_slot, connection.framing());
        self.stats.close(app, framing, connection.closed_with);
    }
}

impl Outgoing {
    pub(crate) fn push(
        &mut self,
        connection: &mut Connection,
        slot: usize,
        frame: &SharedFrame<'_>,
        origin: Origin,
    ) {
        connection.push(frame, origin, &mut self.buffers);
        self.schedule_write(connection, slot, origin);
    }

    /// Schedules a write after something was queued: a blocked connection is flushed when its
    /// socket takes more, any other with the batch. A connection for which more live events wait
    /// than may is closed with an error; no event is ever skipped.
    fn schedule_write(&mut self, connection: &mut Connection, slot: usize, origin: Origin) {
        if origin == Origin::Live && connection.lags(self.max_waiting) {
            self.check_lag(connection);
        }
        if connection.is_blocked() {
            connection.note_held(&mut self.buffers);
        } else if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Closes a connection that lags, unless its socket takes what waits now.
    fn check_lag(&mut self, connection: &mut Connection) {
        if !connection.is_blocked() {
            connection.flush(&mut self.buffers);
        }
        if !connection.is_open() || !connection.lags(self.max_waiting) {
            return;
        }
        tracing::warn!(
            app = %connection.app.id(),
            socket_id = %connection.socket_id,
            waiting_bytes = connection.waiting(),
            "disconnecting a slow consumer: it does not read as fast as it is written to (outbox.max_bytes)"
        );
        self.slow_consumers += 1;
        let refusal = Refusal::new(
            CloseCode::OverCapacity,
            "You read too slowly and have missed events, reconnect",
        );
        connection.close(&refusal, false, Instant::now(), &mut self.buffers);
    }
}
