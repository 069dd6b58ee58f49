//! What comes to a shard from other threads.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use fanfare_protocol::{ChannelName, Frame, SocketId};
use tokio::sync::oneshot;

use crate::route::ChannelId;
use crate::sequence::{Offset, Position};
use crate::shard::Shard;

/// What runs on a shard's thread.
pub(crate) type Task = Box<dyn FnOnce(&Rc<Shard>) + Send>;

/// What comes to a shard from other threads.
pub(crate) enum Command {
    /// Run this on the shard's thread: take a connection over, or answer a question.
    Run(Task),
    /// An event for the subscribers of a channel.
    Deliver {
        channel: ChannelId,
        frame: Frame,
        /// With its position in the channel's history, if somebody is told that.
        positioned: Option<Frame>,
        except: Option<SocketId>,
        offset: Offset,
    },
    /// A presence edge for those whose view is older.
    Announce {
        channel: ChannelId,
        name: ChannelName,
        frame: Frame,
        position: Position,
    },
    /// A message of our own for the subscribers of a channel.
    Tell { channel: ChannelId, frame: Frame },
    /// A message of our own for one connection, if it is still there.
    TellOne {
        slot: usize,
        socket_id: SocketId,
        position: Position,
        frame: Frame,
    },
    /// Apps have changed: close what may not stay.
    Review,
    /// Close a connection, if it is still there, because the app has closed its user's connections.
    Terminate { slot: usize, socket_id: SocketId },
    /// Write nothing more to connections that may have missed something.
    Fence,
    /// Close those, so many a second.
    CloseFenced { per_second: usize },
    /// Close everything, spread over a period, and say when all are gone.
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
            Self::Tell { .. } => "Tell",
            Self::TellOne { .. } => "TellOne",
            Self::Review => "Review",
            Self::Terminate { .. } => "Terminate",
            Self::Fence => "Fence",
            Self::CloseFenced { .. } => "CloseFenced",
            Self::Drain { .. } => "Drain",
        })
    }
}
