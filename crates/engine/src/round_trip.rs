//! The round trip of a connection's PINGs, in four bytes: there may be a million connections.

use std::time::Duration;

/// The unit, in microseconds.
const UNIT: u128 = 100;
/// Set while a PING waits for its PONG. The other bits are then the time of the PING.
const WAITS: u32 = 1 << 31;

/// How long the last PONG took, or when the PING was sent that has none yet. Times count from the
/// begin of the connection and repeat after 59 hours, which is much longer than a client may be
/// silent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoundTrip(u32);

impl RoundTrip {
    /// Notes that a PING is sent, unless an earlier one still waits for its PONG.
    pub(crate) fn note_ping(&mut self, age: Duration) {
        if self.0 & WAITS == 0 {
            self.0 = WAITS | units(age);
        }
    }

    /// Notes that a PONG came.
    pub(crate) fn note_pong(&mut self, age: Duration) {
        // A PONG that nobody asked for says nothing.
        if self.0 & WAITS != 0 {
            let took = units(age).wrapping_sub(self.0) & !WAITS;
            // 0 is for those that are not known.
            self.0 = took.max(1);
        }
    }

    /// Returns how long the last PONG took, or `None` until there is one.
    pub(crate) fn get(self) -> Option<Duration> {
        let known = self.0 != 0 && self.0 & WAITS == 0;
        known.then(|| Duration::from_micros(u64::from(self.0) * UNIT as u64))
    }
}

fn units(age: Duration) -> u32 {
    // Cut to the bits that are there.
    (age.as_micros() / UNIT) as u32 & !WAITS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_round_trip_is_known_between_a_pong_and_the_next_ping() {
        let mut trip = RoundTrip::default();
        assert_eq!(trip.get(), None);
        trip.note_pong(ms(5));
        assert_eq!(trip.get(), None, "nobody asked for this PONG");
        trip.note_ping(ms(1000));
        assert_eq!(trip.get(), None);
        // The second PING doesn't make the first look faster.
        trip.note_ping(ms(1200));
        trip.note_pong(ms(1250));
        assert_eq!(trip.get(), Some(ms(250)));
        trip.note_ping(ms(2000));
        trip.note_pong(ms(2000));
        assert_eq!(trip.get(), Some(Duration::from_micros(100)));
    }

    #[test]
    fn times_repeat_and_differences_stay_right() {
        let mut trip = RoundTrip::default();
        let repeats = Duration::from_micros(u64::from(WAITS) * 100);
        trip.note_ping(repeats - ms(3));
        trip.note_pong(repeats + ms(4));
        assert_eq!(trip.get(), Some(ms(7)));
    }
}
