//! [`Bus`] and [`Roster`] of an installation with one node.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_protocol::presence::Member;
use fanfare_protocol::{AppId, ChannelName, UserId};
use parking_lot::Mutex;

use crate::app::App;
use crate::bus::{BoxFuture, Bus, BusError, Envelope};
use crate::deliver::{Deliverer, Edge};
use crate::roster::{Place, Roster, RosterError, View};

/// Hands events straight on and keeps the rosters in this process.
#[derive(Debug)]
pub struct Memory {
    deliverer: Arc<Deliverer>,
    rooms: Mutex<HashMap<(AppId, ChannelName), Room>>,
    /// One count for all channels: it never starts again, not even for a channel that was vacated in between.
    position: AtomicU64,
}

#[derive(Debug, Default)]
struct Room {
    position: u64,
    seats: HashMap<UserId, Seat>,
}

#[derive(Debug)]
struct Seat {
    user_info: Option<Arc<str>>,
    connections: usize,
}

impl Memory {
    /// Delivers through `deliverer`.
    #[must_use]
    pub fn new(deliverer: Arc<Deliverer>) -> Self {
        Self {
            deliverer,
            rooms: Mutex::default(),
            position: AtomicU64::new(0),
        }
    }

    fn next_position(&self) -> u64 {
        self.position.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records and announces under one lock, so that edges leave in the order of their positions.
    fn seat(&self, place: &Place, member: Member, max: usize) -> Result<View, RosterError> {
        let mut rooms = self.rooms.lock();
        let room = rooms.entry(key(place)).or_default();
        if let Some(seat) = room.seats.get_mut(&member.user_id) {
            seat.connections += 1;
            seat.user_info = member.user_info;
            return Ok(room.view());
        }
        if room.seats.len() >= max {
            if room.seats.is_empty() {
                rooms.remove(&key(place));
            }
            return Err(RosterError::Full { max });
        }
        room.position = self.next_position();
        self.deliverer
            .announce(place, &Edge::Added(&member), room.position);
        room.seats.insert(
            member.user_id,
            Seat {
                user_info: member.user_info,
                connections: 1,
            },
        );
        Ok(room.view())
    }

    fn unseat(&self, place: &Place, user: &UserId) {
        let mut rooms = self.rooms.lock();
        let Some(room) = rooms.get_mut(&key(place)) else {
            return;
        };
        let Some(seat) = room.seats.get_mut(user) else {
            return;
        };
        seat.connections -= 1;
        if seat.connections > 0 {
            return;
        }
        room.seats.remove(user);
        room.position = self.next_position();
        self.deliverer
            .announce(place, &Edge::Removed(user), room.position);
        if room.seats.is_empty() {
            rooms.remove(&key(place));
        }
    }
}

impl Room {
    fn view(&self) -> View {
        let member = |(user_id, seat): (&UserId, &Seat)| Member {
            user_id: user_id.clone(),
            user_info: seat.user_info.clone(),
        };
        View {
            position: self.position,
            members: self.seats.iter().map(member).collect(),
        }
    }
}

fn key(place: &Place) -> (AppId, ChannelName) {
    (place.app.id().clone(), place.channel.clone())
}

impl Bus for Memory {
    fn publish(&self, envelopes: Vec<Envelope>) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(ready(self.deliverer.deliver(&envelopes)))
    }
}

impl Roster for Memory {
    fn join(
        &self,
        place: &Place,
        member: Member,
        max: usize,
    ) -> BoxFuture<'_, Result<View, RosterError>> {
        Box::pin(ready(self.seat(place, member, max)))
    }

    fn leave(&self, place: &Place, user: &UserId) -> BoxFuture<'_, ()> {
        self.unseat(place, user);
        Box::pin(ready(()))
    }

    fn view(&self, place: &Place) -> BoxFuture<'_, View> {
        let view = self.rooms.lock().get(&key(place)).map(Room::view);
        let nobody = || View {
            position: self.position.load(Ordering::Relaxed),
            members: Vec::new(),
        };
        Box::pin(ready(view.unwrap_or_else(nobody)))
    }

    fn user_counts(&self, app: &Arc<App>, channels: &[ChannelName]) -> BoxFuture<'_, Vec<usize>> {
        let rooms = self.rooms.lock();
        let count = |channel: &ChannelName| {
            rooms
                .get(&(app.id().clone(), channel.clone()))
                .map_or(0, |r| r.seats.len())
        };
        Box::pin(ready(channels.iter().map(count).collect()))
    }
}
