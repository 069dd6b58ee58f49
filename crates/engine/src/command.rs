//! Commands that other threads send to a shard.

use std::fmt;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, Frame, SocketId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::route::ChannelId;
use crate::sequence::{Offset, Position};
use crate::shard::Shard;
use crate::trace::TraceContext;

/// A closure that runs on a shard's thread.
pub(crate) type Task = Box<dyn FnOnce(&Rc<Shard>) + Send>;

/// A command from another thread to a shard.
pub(crate) enum Command {
    /// Run a closure on the shard's thread, to adopt a connection or to answer a query.
    Run(Task),
    /// Deliver an event to the subscribers of a channel.
    Deliver {
        channel: ChannelId,
        frame: Frame,
        /// The frame with its position in the channel's history, if a subscriber gets that.
        positioned: Option<Frame>,
        except: Option<SocketId>,
        /// The offset of an event that is cached or recorded.
        offset: Option<Offset>,
        /// When this node got the event.
        at: Instant,
        /// The span that the write belongs to, on one shard of a sampled event.
        trace: Option<Box<TraceContext>>,
    },
    /// Announce a presence change to the subscribers whose snapshot is older.
    Announce {
        channel: ChannelId,
        name: ChannelName,
        frame: Frame,
        position: Position,
    },
    /// Send a channel's subscription count to the subscribers that have another one.
    Count {
        channel: ChannelId,
        name: ChannelName,
        count: NonZeroU32,
        frame: Frame,
    },
    /// Send a change of a watched user to one connection, if it is still there.
    NotifyWatcher {
        slot: usize,
        socket_id: SocketId,
        position: Position,
        frame: Frame,
    },
    /// Close the connections that may not stay after a change of apps.
    Review,
    /// Close a connection, if it is still there, because the app has closed its user's connections.
    Terminate { slot: usize, socket_id: SocketId },
    /// Fence the connections that may have missed events.
    Fence,
    /// Close the fenced connections, this many a second.
    CloseFenced { per_second: usize },
    /// Close all connections, spread over a period, and report when they are gone.
    Drain {
        period: Duration,
        done: oneshot::Sender<()>,
    },
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run(_) => "Run",
            Self::Deliver { .. } => "Deliver",
            Self::Announce { .. } => "Announce",
            Self::Count { .. } => "Count",
            Self::NotifyWatcher { .. } => "NotifyWatcher",
            Self::Review => "Review",
            Self::Terminate { .. } => "Terminate",
            Self::Fence => "Fence",
            Self::CloseFenced { .. } => "CloseFenced",
            Self::Drain { .. } => "Drain",
        })
    }
}
