//! What went over one connection.

/// What went over a connection. The count of messages that its client sent stops at its highest number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionTraffic {
    /// Bytes of the messages that its client sent.
    pub bytes_in: u64,
    /// Bytes that its socket took.
    pub bytes_out: u64,
    /// Messages that its client sent.
    pub messages_in: u32,
    /// Messages that were queued for it.
    pub messages_out: u64,
    /// The most bytes that waited for it while its socket took nothing.
    pub waiting_bytes_peak: u32,
}
