//! How long messages take. It depends on the moment alone, not on what else was asked, so that a run can be repeated.

use std::time::Duration;

/// For how long a way stays as fast as it is.
const SPELL: Duration = Duration::from_millis(50);

/// How slow the ways are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// A few milliseconds.
    Calm,
    /// Some tens of milliseconds, now and then some hundreds.
    Windy,
    /// Hundreds of milliseconds, now and then seconds.
    Stormy,
}

impl Weather {
    /// How long a message takes that sets out at a time after the beginning.
    pub fn delay(self, seed: u64, way: u64, at: Duration) -> Duration {
        let spell = u64::try_from(at.as_millis() / SPELL.as_millis()).unwrap();
        let random = mix(mix(seed ^ way.rotate_left(32)) ^ spell);
        let (odds, random) = (random % 1000, random / 1000);
        let most = match (self, odds) {
            (Self::Calm, _) => 4,
            (Self::Windy, 0..700) => 40,
            (Self::Windy, 700..985) => 120,
            (Self::Windy, _) => 900,
            (Self::Stormy, 0..600) => 100,
            (Self::Stormy, 600..985) => 500,
            (Self::Stormy, _) => 4000,
        };
        Duration::from_millis(random % most)
    }
}

/// Well mixed bits of a number.
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
