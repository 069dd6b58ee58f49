//! A shard's state of one connection.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use fanfare_protocol::presence::Member;
use fanfare_protocol::{
    AppKey, ChannelName, CloseCode, Frame, Framing, ServerMessage, SocketId, UserId,
};
use tokio::time::Instant;

use crate::admitted::Admitted;
use crate::app::App;
use crate::budget::{BudgetExceeded, Charge, Payer, Resource};
use crate::clients::ClientPermit;
use crate::clock::CLOSE_GRACE;
use crate::closed::EndedConnection;
use crate::connection_traffic::ConnectionTraffic;
use crate::error::Refusal;
use crate::lifecycle::{EndedSubscription, Lifecycle, Note};
use crate::outbox::{Buffers, Flushed, Origin, Outbox, SharedFrame, Sink};
use crate::permit::Permits;
use crate::rate_limit::{ClientEventRate, MessageRate};
use crate::reading::Reading;
use crate::replay::Replay;
use crate::round_trip::RoundTrip;
use crate::sequence::Position;
use crate::shard_stats::{AppSlot, ShardStats};
use crate::subscription_share::SubscriptionShare;
use crate::subscriptions::{Subscription, Subscriptions};

/// The reader pauses while more bytes than this wait that the client asked for and its socket is
/// blocked.
const MAX_UNWRITTEN_ANSWERS: usize = 64 * 1024;
/// An evicted connection with more bytes than this in a partly written frame is reset, because a
/// close frame behind them would not arrive.
const MAX_PARTIAL_FRAME: usize = 64 * 1024;

/// Bytes that a subscription takes besides the channel's name.
const SUBSCRIPTION_BYTES: usize = 600;

/// One admitted connection.
pub(crate) struct Connection {
    pub(crate) socket_id: SocketId,
    pub(crate) app: Arc<App>,
    /// The app's counters on this shard.
    pub(crate) app_slot: AppSlot,
    /// The code with which the server has closed it.
    pub(crate) closed_with: Option<CloseCode>,
    pub(crate) key: AppKey,
    /// Its network address, if known.
    pub(crate) address: Option<IpAddr>,
    /// `None` while the client has yet to show that it answers.
    pub(crate) permits: Option<Permits>,
    client: Option<ClientPermit>,
    /// The payer of what the client makes this node hold.
    pub(crate) payer: Payer,
    pub(crate) subscriptions: Subscriptions,
    /// Counts them for its network, once the app's quota was asked for one.
    share: Option<Box<SubscriptionShare>>,
    /// The charge for the subscriptions.
    subscription_bytes: Charge,
    /// The signed-in user.
    pub(crate) user: Option<Box<SignedIn>>,
    /// When the client last sent anything, as coarse as the sweep.
    pub(crate) last_activity: Instant,
    /// When it connected.
    pub(crate) connected: Instant,
    /// Whether it has signed in or subscribed to a private or presence channel with a valid
    /// signature.
    pub(crate) authorized: bool,
    /// Whether a PING was sent since `last_activity`.
    pub(crate) pinged: bool,
    /// Whether the message being handled doesn't count against the connection's message rate.
    pub(crate) is_exempt: bool,
    /// Whether a subscription count was announced while its socket took nothing. The client gets
    /// the newest ones once it has read what waits.
    pub(crate) owes_counts: bool,
    /// Created with the first client event.
    pub(crate) client_events: Option<Box<ClientEventRate>>,
    /// Whether it is in the shard's list of outboxes to flush.
    pub(crate) dirty: bool,
    /// When the socket took bytes last, as coarse as the sweep; the time of the sweep while nothing
    /// waits.
    progressed: Instant,
    /// How far its messages are ahead of their rate.
    messages: MessageRate,
    state: State,
    blocked: bool,
    /// Whether it is blocked only to let others have their turn: nothing waits for its client then.
    is_turn_over: bool,
    /// Whether bytes were dropped that the socket did not take in time.
    left_unread: bool,
    /// How many bytes of its outbox [`Buffers`] has noted.
    noted: usize,
    outbox: Outbox,
    pub(crate) traffic: ConnectionTraffic,
    pub(crate) round_trip: RoundTrip,
    /// What happened to it that the rest doesn't show, if anything did.
    pub(crate) lifecycle: Option<Box<Lifecycle>>,
    framing: Framing,
    sink: Box<dyn Sink>,
    waker: Option<Waker>,
}

/// The user of a connection.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) member: Member,
    /// When it signed in, since the connection began.
    pub(crate) since: Duration,
    /// The users it watches.
    pub(crate) watchlist: Vec<UserId>,
    /// The position of the watchlist state that the client got last: it has changes up to there.
    pub(crate) watchlist_position: Position,
    /// The user's own channel, while the connection gets its events through the sign-in alone
    /// because the client has not subscribed yet.
    pub(crate) implicit_channel: Option<ChannelName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// It may have missed events, so nothing more is written until it is closed with 4101.
    Fenced,
    /// The close frame is in the outbox; the connection ends at this time, whatever the client
    /// does.
    Closing(Instant),
    Gone,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("socket_id", &self.socket_id)
            .field("state", &self.state)
            .field("payer", &self.payer)
            .finish()
    }
}

/// Returns the bytes that a subscription takes if its channel has no other subscriber: the entries
/// of the connection, of the shard and of the node, and the channel's name. docs/deployment.md says
/// how this was measured.
fn subscription_bytes(channel: &ChannelName) -> usize {
    SUBSCRIPTION_BYTES + channel.as_str().len()
}

impl Connection {
    pub(crate) fn new(
        admitted: Admitted,
        sink: Box<dyn Sink>,
        now: Instant,
        stats: &mut ShardStats,
    ) -> Self {
        Self {
            socket_id: SocketId::random(),
            app_slot: stats.open(&admitted.app, sink.framing()),
            closed_with: None,
            app: admitted.app,
            key: admitted.key,
            address: admitted.address,
            permits: admitted.permits,
            client: admitted.client,
            subscription_bytes: admitted.payer.empty_charge(Resource::SubscriptionBytes),
            payer: admitted.payer,
            connected: now,
            authorized: false,
            subscriptions: Subscriptions::default(),
            share: None,
            user: None,
            last_activity: now,
            pinged: false,
            is_exempt: false,
            owes_counts: false,
            client_events: None,
            dirty: false,
            progressed: now,
            messages: MessageRate::default(),
            state: State::Open,
            blocked: false,
            is_turn_over: false,
            left_unread: false,
            noted: 0,
            outbox: Outbox::default(),
            traffic: ConnectionTraffic::default(),
            round_trip: RoundTrip::default(),
            lifecycle: None,
            framing: sink.framing(),
            sink,
            waker: None,
        }
    }

    /// Returns whether it gets this channel's events only because its user has signed in.
    pub(crate) fn is_implicit(&self, channel: &str) -> bool {
        let implicit_channel = self
            .user
            .as_ref()
            .and_then(|user| user.implicit_channel.as_ref());
        implicit_channel.is_some_and(|implicit_channel| implicit_channel.as_str() == channel)
    }

    /// Returns how many channels the client has subscribed to.
    pub(crate) fn subscribed(&self) -> usize {
        let implicit_channel = self
            .user
            .as_ref()
            .and_then(|user| user.implicit_channel.as_ref());
        self.subscriptions.len() - usize::from(implicit_channel.is_some())
    }

    /// Checks whether the client's network, its app and the node have room for another
    /// subscription.
    pub(crate) fn check_subscription(&self, channel: &ChannelName) -> Result<(), BudgetExceeded> {
        let more = subscription_bytes(channel);
        self.payer.check(Resource::SubscriptionBytes, more)
    }

    /// Returns its share of its network's subscriptions, which is counted from the first call on, or
    /// `None` if no network is charged.
    pub(crate) fn subscription_share(&mut self) -> Option<&SubscriptionShare> {
        if self.share.is_none() {
            let mut share = self
                .app
                .network_subscriptions
                .share_of(self.payer.network()?);
            share.add(self.subscriptions.len());
            self.share = Some(Box::new(share));
        }
        self.share.as_deref()
    }

    /// Adds a subscription, and charges its bytes.
    pub(crate) fn add_subscription(
        &mut self,
        channel: ChannelName,
        mut subscription: Subscription,
    ) {
        let since = self.connected.elapsed().as_millis();
        subscription.since = u32::try_from(since).unwrap_or(u32::MAX);
        let charged = self.subscription_bytes.amount() + subscription_bytes(&channel);
        // The bound was checked before the connection joined; others may have subscribed in
        // between.
        let _ = self.subscription_bytes.set(charged);
        self.app.subscriptions.fetch_add(1, Ordering::Relaxed);
        if let Some(share) = &mut self.share {
            share.add(1);
        }
        self.subscriptions.insert(channel, subscription);
    }

    /// Removes a subscription, and gives its bytes back.
    pub(crate) fn remove_subscription(
        &mut self,
        channel: &str,
    ) -> Option<(ChannelName, Subscription)> {
        let removed = self.subscriptions.remove(channel)?;
        self.app.subscriptions.fetch_sub(1, Ordering::Relaxed);
        if let Some(share) = &mut self.share {
            share.remove_one();
        }
        self.subscription_bytes
            .shrink(subscription_bytes(&removed.0));
        Some(removed)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Returns whether the server has closed it, or its socket is gone.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing(_) | State::Gone)
    }

    /// Fences the connection if it could have missed events: nothing more is written to it.
    pub(crate) fn fence(&mut self) {
        let watches = self.user.as_ref().is_some_and(|u| !u.watchlist.is_empty());
        if self.is_open() && (watches || !self.subscriptions.is_empty()) {
            self.state = State::Fenced;
        }
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.state == State::Fenced
    }

    /// Returns whether it is over: nothing more is read or written.
    pub(crate) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Returns whether events of a history are left only because other connections get their turn.
    #[cfg(feature = "testing")]
    pub(crate) fn is_turn_over(&self) -> bool {
        self.is_turn_over
    }

    /// Returns whether bytes wait for a socket that took no more.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Returns the bytes of frames that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.outbox.bytes()
    }

    /// Returns whether more than `max` live bytes wait behind the frame whose turn it is.
    pub(crate) fn lags(&self, max: usize) -> bool {
        self.outbox.bytes() > max && self.outbox.lag() > max
    }

    /// Returns whether bytes were dropped that the socket did not take in time.
    pub(crate) fn left_unread(&self) -> bool {
        self.left_unread
    }

    /// Returns the bytes of memory that its outbox answers for. Walks over all frames.
    pub(crate) fn share(&self) -> usize {
        self.outbox.share()
    }

    /// Returns whether so many answers wait that they should be written before the next message is
    /// handled.
    pub(crate) fn has_many_answers(&self) -> bool {
        self.is_open() && self.outbox.answer_bytes() > MAX_UNWRITTEN_ANSWERS
    }

    /// Returns when the reader may hand over the next message.
    pub(crate) fn reading(&self) -> Reading {
        if !self.is_open() {
            return Reading::Now;
        }
        if self.blocked && self.outbox.answer_bytes() > MAX_UNWRITTEN_ANSWERS {
            return Reading::OnceWritten;
        }
        let later = self.messages.allowed_after(self.last_activity);
        later.map_or(Reading::Now, Reading::At)
    }

    /// Counts a message against the rate of the connection.
    pub(crate) fn count_message(&mut self, per_second: u32, burst: u32) {
        self.messages.count(self.last_activity, per_second, burst);
    }

    /// Returns for how long the socket has taken nothing of what waits. A client whose reader is
    /// paused counts as active while its socket takes bytes.
    pub(crate) fn stalled_for(&mut self, now: Instant) -> Duration {
        if self.outbox.take_progress() || !self.blocked || self.sink.has_write_timeout() {
            self.progressed = now;
            if self.reading() == Reading::OnceWritten {
                self.last_activity = now;
                self.pinged = false;
            }
        }
        now.saturating_duration_since(self.progressed)
    }

    /// Remembers the task to wake when the connection's reader has something to do.
    pub(crate) fn watch(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Returns whether nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Gives the socket up: what waits is dropped, and nothing is written any more.
    pub(crate) fn abandon(&mut self, buffers: &mut Buffers) {
        self.state = State::Gone;
        self.left_unread |= self.blocked;
        self.outbox = Outbox::default();
        self.blocked = false;
        self.note_held(buffers);
    }

    /// Queues a frame, unless the connection is fenced or closed.
    // Inlined, because it is called for every delivery.
    #[inline]
    pub(crate) fn push(&mut self, frame: &SharedFrame<'_>, origin: Origin, buffers: &mut Buffers) {
        if self.is_open() {
            self.traffic.messages_out += 1;
            self.outbox.push(frame, self.framing, origin, buffers);
        }
    }

    /// Queues events of a history, unless the connection is fenced or closed.
    pub(crate) fn replay(&mut self, replay: Replay) {
        if self.is_open() {
            self.outbox.replay(replay);
        }
    }

    /// Returns how frames are encoded for this client.
    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Queues bytes of the transport's own, unless the connection is fenced or closed.
    pub(crate) fn push_raw(&mut self, bytes: &[u8], buffers: &mut Buffers) {
        if self.is_open() {
            self.outbox.copy(bytes, Origin::Answer, buffers);
        }
    }

    /// Sends a PING, or what stands for one on its transport.
    pub(crate) fn ping(&mut self, buffers: &mut Buffers) {
        let ping = Frame::ping();
        self.push(&SharedFrame::new(&ping), Origin::Answer, buffers);
        // A blocked one is flushed when its socket takes more.
        if self.blocked {
            self.note_held(buffers);
        } else {
            self.flush(buffers);
        }
    }

    /// Notes in the shard's [`Buffers`] how much a blocked outbox holds.
    pub(crate) fn note_held(&mut self, buffers: &mut Buffers) {
        let waits = self.blocked && !self.is_turn_over;
        let held = if waits { self.outbox.own() } else { 0 };
        if waits {
            let waiting = u32::try_from(self.outbox.bytes()).unwrap_or(u32::MAX);
            self.traffic.waiting_bytes_peak = self.traffic.waiting_bytes_peak.max(waiting);
        }
        if held != self.noted {
            buffers.note(self.noted, held);
            self.noted = held;
        }
    }

    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self, buffers: &mut Buffers) {
        if self.is_gone() {
            return;
        }
        let was_blocked = self.blocked;
        let before = buffers.written();
        let flushed = self.outbox.flush(&*self.sink, buffers);
        self.traffic.bytes_out += buffers.written() - before;
        self.is_turn_over = flushed == Flushed::TurnOver;
        match flushed {
            Flushed::All => self.blocked = false,
            // The reader goes on when the socket takes more, which it may do at once.
            Flushed::Blocked | Flushed::TurnOver => self.blocked = true,
            Flushed::Gone => self.abandon(buffers),
        }
        if self.blocked || was_blocked {
            self.note_held(buffers);
        }
        // The write time-out runs from now, and not from earlier progress.
        if self.blocked && !was_blocked {
            self.outbox.note_progress();
        }
        if self.is_gone() || (self.blocked && !was_blocked) {
            self.wake();
        }
    }

    /// Sends the reason, and closes the connection. What was queued before is still sent if
    /// `keep_queue`; a client that was too slow for it gets the reason alone.
    pub(crate) fn close(
        &mut self,
        refusal: &Refusal,
        keep_queue: bool,
        now: Instant,
        buffers: &mut Buffers,
    ) {
        if self.is_closing() {
            return;
        }
        // A fenced connection may be told why it is closed.
        self.state = State::Open;
        if !keep_queue {
            self.outbox.truncate();
        }
        if refusal.code.is_in_pusher_table() {
            let error = ServerMessage::Error {
                code: Some(refusal.code.number()),
                message: &refusal.message,
                reference: None,
            };
            let error = error.to_frame();
            self.push(&SharedFrame::new(&error), Origin::Answer, buffers);
        }
        let close = Frame::close(refusal.code, &refusal.message);
        self.push(&SharedFrame::new(&close), Origin::Answer, buffers);
        // Set after the pushes, which a closing connection would refuse.
        self.state = State::Closing(now + CLOSE_GRACE);
        self.closed_with = Some(refusal.code);
        self.note_closed(Some(refusal.code.number()), &refusal.message);
        self.flush(buffers);
        self.wake();
    }

    /// Closes it because too much memory waits for it, and frees that memory at once.
    pub(crate) fn evict(&mut self, refusal: &Refusal, now: Instant, buffers: &mut Buffers) {
        let was_closing = self.is_closing();
        self.close(refusal, false, now, buffers);
        if was_closing || self.outbox.bytes() > MAX_PARTIAL_FRAME {
            self.abandon(buffers);
            self.wake();
        }
    }

    /// Gives back what an idle connection doesn't need. One that is not idle needs it again soon, so that belongs in the
    /// sweep.
    pub(crate) fn rest(&mut self) {
        self.outbox.rest();
    }

    /// Gives up on a closed connection whose time has run out.
    pub(crate) fn expire(&mut self, now: Instant, buffers: &mut Buffers) {
        if matches!(self.state, State::Closing(until) if until <= now) {
            self.abandon(buffers);
            self.wake();
        }
    }

    /// Notes the end of the connection for operators. Its client may have left by itself.
    pub(crate) fn note_closed(&self, code: Option<u16>, reason: &str) {
        let (socket_id, user) = (self.socket_id, self.user_id());
        let now = self.connected.elapsed();
        let active = self.subscriptions.iter();
        let active = active.filter(|(channel, _)| !self.is_implicit(channel.as_str()));
        let active = active.map(|(channel, subscription)| EndedSubscription {
            channel: channel.as_str().into(),
            since: subscription.since(),
            until: now,
        });
        let ending = EndedConnection {
            socket_id,
            user_id: user,
            connected: self.connected,
            signed_in: self.user.as_ref().map(|user| user.since),
            has_all_ended: self.has_all_ended_subscriptions(),
            code,
            reason,
        };
        // Those that still were there count most.
        let subscriptions = active.chain(self.ended_subscriptions());
        self.app.closed.note(&ending, subscriptions);
    }

    /// Notes something for operators who look at the connection.
    pub(crate) fn note_lifecycle(&mut self, note: &Note<'_>) {
        let age = self.connected.elapsed();
        let payer = &self.payer;
        let lifecycle = self
            .lifecycle
            .get_or_insert_with(|| Box::new(Lifecycle::new(payer)));
        lifecycle.note(note, age);
    }

    /// Returns whether all subscriptions that the client has ended are noted.
    pub(crate) fn has_all_ended_subscriptions(&self) -> bool {
        let lifecycle = self.lifecycle.as_ref();
        lifecycle.is_none_or(|lifecycle| lifecycle.is_complete())
    }

    /// Returns the subscriptions that the client has ended, as far as they were noted, oldest first.
    pub(crate) fn ended_subscriptions(&self) -> impl Iterator<Item = EndedSubscription> {
        let lifecycle = self.lifecycle.iter();
        lifecycle.flat_map(|lifecycle| lifecycle.ended_subscriptions())
    }

    /// Returns its user: signed in, or else a member of a presence channel.
    fn user_id(&self) -> Option<&UserId> {
        let signed_in = self.user.as_ref().map(|user| &user.member.user_id);
        signed_in.or_else(|| {
            let mut members = self
                .subscriptions
                .values()
                .filter_map(|s| s.member.as_ref());
            members.next().map(|(user, _)| user)
        })
    }

    /// Returns whether it belongs to a user: signed in, or a member of a presence channel.
    pub(crate) fn is_of(&self, user: &UserId) -> bool {
        let signed_in = self.user.as_ref().map(|user| &user.member.user_id);
        let mut members = self
            .subscriptions
            .values()
            .filter_map(|s| s.member.as_ref());
        signed_in == Some(user) || members.any(|(member, _)| member == user)
    }

    /// Returns the name and version of its client library, as far as it gave them.
    pub(crate) fn client(&self) -> (String, String) {
        let client = self.client.as_ref();
        client
            .map(|client| client.name().clone())
            .unwrap_or_default()
    }

    /// Counts a message of its client.
    pub(crate) fn count_received(&mut self, bytes: usize) {
        let traffic = &mut self.traffic;
        traffic.bytes_in += bytes as u64;
        traffic.messages_in = traffic.messages_in.saturating_add(1);
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_see_of_a_connection_takes_few_bytes() {
        // There may be a million connections with several subscriptions each.
        assert!(
            size_of::<Connection>() <= 448,
            "{}",
            size_of::<Connection>()
        );
        assert!(
            size_of::<Subscription>() <= 56,
            "{}",
            size_of::<Subscription>()
        );
    }
}
