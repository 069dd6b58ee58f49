//! [`Bus`] and [`Roster`] of an installation with one node: it hears of everything anyway, so events go straight on.

use std::collections::{HashMap, HashSet};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, ChannelName, UserId};
use parking_lot::Mutex;

use crate::app::App;
use crate::bus::{BoxFuture, Bus, BusError, Envelope, Generation, Once, Taken, Topic};
use crate::cache::CachedEvent;
use crate::connect::ConnectionPlace;
use crate::deliver::Edge;
use crate::history::{HistoryAnswer, HistoryQuery};
use crate::node::Node;
use crate::notice::Notice;
use crate::roster::{Online, Place, Position, Roster, RosterError, View};

/// Hands events straight on and keeps the rosters in this process.
#[derive(Debug)]
pub struct Memory {
    node: Arc<Node>,
    rooms: Mutex<HashMap<(AppId, ChannelName), Room>>,
    online: Mutex<HashSet<(AppId, UserId)>>,
    /// One count for all channels: it never starts again, not even for a channel that was vacated in between.
    position: AtomicU64,
}

#[derive(Debug, Default)]
struct Room {
    position: Position,
    members: HashMap<UserId, Option<Arc<str>>>,
}

impl Memory {
    /// The bus and roster of `node` alone.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            rooms: Mutex::default(),
            online: Mutex::default(),
            position: AtomicU64::new(0),
        }
    }

    fn next_position(&self) -> Position {
        self.position.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records and announces under one lock, so that edges leave in the order of their positions.
    fn seat(&self, place: &Place, member: &Member, max: usize) -> Result<View, RosterError> {
        let mut rooms = self.rooms.lock();
        let room = rooms.entry(key(place)).or_default();
        if let Some(user_info) = room.members.get_mut(&member.user_id) {
            user_info.clone_from(&member.user_info);
            return Ok(room.view());
        }
        if room.members.len() >= max {
            if room.members.is_empty() {
                rooms.remove(&key(place));
            }
            return Err(RosterError::Full { max });
        }
        room.position = self.next_position();
        let edge = Edge::Added(member);
        self.node.announce(place, &edge, room.position);
        self.notice(place, Notice::MemberAdded(&member.user_id));
        room.members
            .insert(member.user_id.clone(), member.user_info.clone());
        Ok(room.view())
    }

    fn notice(&self, place: &Place, notice: Notice<'_>) {
        self.node.notice(place.app.id(), &place.channel, notice);
    }

    /// Under the lock, as for members.
    fn set_online(&self, app: &Arc<App>, user: &UserId, is_online: bool) {
        let mut online = self.online.lock();
        let entry = (app.id().clone(), user.clone());
        let changed = if is_online {
            online.insert(entry)
        } else {
            online.remove(&entry)
        };
        if changed {
            let position = self.next_position();
            self.node.tell_online(app, user, is_online, position);
        }
    }
}

impl Room {
    fn view(&self) -> View {
        let member = |(user_id, user_info): (&UserId, &Option<Arc<str>>)| Member {
            user_id: user_id.clone(),
            user_info: user_info.clone(),
        };
        View {
            position: self.position,
            members: self.members.iter().map(member).collect(),
        }
    }
}

fn key(place: &Place) -> (AppId, ChannelName) {
    (place.app.id().clone(), place.channel.clone())
}

impl Bus for Memory {
    /// The same request, sent again, is known to who took it.
    fn publish(
        &self,
        envelopes: Vec<Envelope>,
        _: Option<Once>,
    ) -> BoxFuture<'_, Result<Taken, BusError>> {
        let delivered = self.node.deliverer.deliver(&envelopes);
        Box::pin(ready(delivered.map(|()| Taken::Now)))
    }

    fn listen(&self, _: &Topic) -> BoxFuture<'_, Generation> {
        Box::pin(ready(0))
    }

    fn unlisten(&self, _: &Topic) {}

    fn cached<'a>(
        &'a self,
        place: &'a Place,
    ) -> BoxFuture<'a, Result<Option<CachedEvent>, BusError>> {
        let (event, _) = place.app.cache.recall(place.channel.as_str());
        Box::pin(ready(Ok(event)))
    }

    fn history<'a>(
        &'a self,
        place: &'a Place,
        query: HistoryQuery,
        _: usize,
    ) -> BoxFuture<'a, Result<HistoryAnswer, BusError>> {
        let max = place.app.settings().limits.history_bytes;
        let answer = place.app.histories.read(&place.channel, &query, max);
        Box::pin(ready(Ok(answer)))
    }

    fn terminate(&self, app: &Arc<App>, user: &UserId) -> BoxFuture<'_, Result<(), BusError>> {
        self.node.terminate(app, user);
        Box::pin(ready(Ok(())))
    }

    fn unready(&self) -> Option<String> {
        None
    }
}

impl Roster for Memory {
    fn join(
        &self,
        place: &Place,
        member: &Member,
        max: usize,
    ) -> BoxFuture<'static, Result<View, RosterError>> {
        Box::pin(ready(self.seat(place, member, max)))
    }

    fn leave(&self, place: &Place, user: &UserId) {
        let mut rooms = self.rooms.lock();
        let Some(room) = rooms.get_mut(&key(place)) else {
            return;
        };
        if room.members.remove(user).is_none() {
            return;
        }
        room.position = self.next_position();
        self.node
            .announce(place, &Edge::Removed(user), room.position);
        self.notice(place, Notice::MemberRemoved(user));
        if room.members.is_empty() {
            rooms.remove(&key(place));
        }
    }

    fn view<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<View, RosterError>> {
        let view = self.rooms.lock().get(&key(place)).map(Room::view);
        let nobody = || View {
            position: self.position.load(Ordering::Relaxed),
            members: Vec::new(),
        };
        Box::pin(ready(Ok(view.unwrap_or_else(nobody))))
    }

    fn user_counts<'a>(
        &'a self,
        app: &'a Arc<App>,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<usize>, RosterError>> {
        let rooms = self.rooms.lock();
        let count = |channel: &ChannelName| {
            rooms
                .get(&(app.id().clone(), channel.clone()))
                .map_or(0, |room| room.members.len())
        };
        Box::pin(ready(Ok(channels.iter().map(count).collect())))
    }

    fn elsewhere<'a>(&'a self, _: &'a Place) -> BoxFuture<'a, Result<usize, RosterError>> {
        Box::pin(ready(Ok(0)))
    }

    fn connections_elsewhere<'a>(
        &'a self,
        _: &'a Arc<App>,
    ) -> BoxFuture<'a, Result<usize, RosterError>> {
        Box::pin(ready(Ok(0)))
    }

    fn all_elsewhere<'a>(
        &'a self,
        _: &'a Arc<App>,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(ChannelName, usize)>, RosterError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn enter(&self, app: &Arc<App>, user: &UserId) {
        self.set_online(app, user, true);
    }

    fn exit(&self, app: &Arc<App>, user: &UserId) {
        self.set_online(app, user, false);
    }

    fn online<'a>(
        &'a self,
        app: &'a Arc<App>,
        users: &'a [UserId],
    ) -> BoxFuture<'a, Result<Online, RosterError>> {
        let online = self.online.lock();
        let is_online = |user: &UserId| online.contains(&(app.id().clone(), user.clone()));
        Box::pin(ready(Ok(Online {
            position: self.position.load(Ordering::Relaxed),
            online: users.iter().map(is_online).collect(),
        })))
    }

    /// What this node knows has decided already.
    fn admit(
        &self,
        app: &Arc<App>,
        _: usize,
    ) -> BoxFuture<'static, Result<Option<ConnectionPlace>, RosterError>> {
        Box::pin(ready(Ok(Some(app.count_connection()))))
    }
}
