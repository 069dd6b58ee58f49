//! The log of deliveries and of the attempts to send them.

use super::definition::words;

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// It waits to be sent, for the first time or again.
    Waiting,
    /// The receiver has it.
    Delivered,
    /// It was given up.
    Failed,
    /// It is kept until the receiver asks for it.
    Kept,
}

words!(DeliveryState {
    Waiting = "waiting",
    Delivered = "delivered",
    Failed = "failed",
    Kept = "kept",
});
