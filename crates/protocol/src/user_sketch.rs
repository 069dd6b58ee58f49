//! How many different users an app had: a sketch that nodes, hours and days can merge, and that holds no user id.

use std::fmt;
use std::hash::Hasher;

use datasketches::hll::{HllSketch, HllType, HllUnion};
use siphasher::sip::SipHasher13;

use crate::ids::AppId;

/// Base-2 logarithm of the number of registers. With 2048 of them, two of three estimates are within 2.3 %, and a few
/// hundred users are counted exactly.
const LG_REGISTERS: u8 = 11;

/// The key under which user ids are hashed. The nodes of an installation have the same, and without it nobody can tell
/// whether a sketch holds a user whom they know.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct UserHashKey(pub [u8; 16]);

impl fmt::Debug for UserHashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserHashKey")
    }
}

/// A HyperLogLog sketch of users. Merged sketches count a user once, wherever the user was.
pub struct UserSketch(HllUnion);

/// Bytes that are not a sketch of users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a sketch of users: {0}")]
pub struct InvalidUserSketch(String);

impl Default for UserSketch {
    fn default() -> Self {
        Self(HllUnion::new(LG_REGISTERS).expect("the number of registers is allowed"))
    }
}

impl fmt::Debug for UserSketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UserSketch").field(&self.estimate()).finish()
    }
}

impl UserSketch {
    /// Counts a user of an app. The same id is another user in another app.
    pub fn insert(&mut self, key: UserHashKey, app: &AppId, user_id: &str) {
        let mut hasher = SipHasher13::new_with_key(&key.0);
        hasher.write(app.as_str().as_bytes());
        // No id of an app holds this byte.
        hasher.write(&[0]);
        hasher.write(user_id.as_bytes());
        self.0.update_value(hasher.finish());
    }

    /// Returns whether it holds no user.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the users of another sketch.
    pub fn merge(&mut self, other: &Self) {
        if !other.is_empty() {
            self.0.update(&other.0.to_sketch(HllType::Hll8));
        }
    }

    /// Returns about how many users were counted.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate is positive and far below 2^53"
    )]
    pub fn estimate(&self) -> u64 {
        self.0.estimate().round() as u64
    }

    /// Returns the sketch as bytes: at most about a kilobyte, and less for a few users.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_sketch(HllType::Hll4).serialize()
    }

    /// Adds the users of a sketch that was made into bytes.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidUserSketch`] if the bytes are something else; nothing is added then.
    pub fn merge_bytes(&mut self, bytes: &[u8]) -> Result<(), InvalidUserSketch> {
        let other =
            HllSketch::deserialize(bytes).map_err(|error| InvalidUserSketch(error.to_string()))?;
        self.0.update(&other);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: UserHashKey = UserHashKey([7; 16]);

    fn app() -> AppId {
        AppId::parse("1").expect("an id")
    }

    fn sketch(users: std::ops::Range<u32>) -> UserSketch {
        let mut sketch = UserSketch::default();
        users.for_each(|user| sketch.insert(KEY, &app(), &format!("user-{user}")));
        sketch
    }

    #[test]
    fn a_user_counts_once_over_all_sketches() {
        let mut all = sketch(0..60);
        all.merge(&sketch(40..100));
        all.merge_bytes(&sketch(0..100).to_bytes())
            .expect("our own bytes");
        assert_eq!(all.estimate(), 100);
        all.insert(KEY, &app(), "user-7");
        assert_eq!(all.estimate(), 100);
        all.insert(KEY, &AppId::parse("2").expect("an id"), "user-7");
        assert_eq!(all.estimate(), 101, "another app's");
        assert_eq!(UserSketch::default().estimate(), 0);
    }

    #[test]
    fn many_users_are_estimated_within_a_few_percent_and_a_kilobyte() {
        let mut all = UserSketch::default();
        for node in 0..3 {
            all.merge_bytes(&sketch(node * 30_000..(node + 1) * 30_000 + 10_000).to_bytes())
                .expect("our own bytes");
        }
        let estimate = all.estimate();
        assert!((92_000..108_000).contains(&estimate), "{estimate}");
        assert!(all.to_bytes().len() < 1_500, "{}", all.to_bytes().len());
    }

    #[test]
    fn neither_ids_nor_the_same_hashes_are_in_a_sketch_under_another_key() {
        let mut other = UserSketch::default();
        other.insert(UserHashKey([8; 16]), &app(), "alice");
        let mut one = UserSketch::default();
        one.insert(KEY, &app(), "alice");
        assert_ne!(one.to_bytes(), other.to_bytes());
        assert!(!one.to_bytes().windows(5).any(|bytes| bytes == b"alice"));
        assert!(one.merge_bytes(b"alice").is_err());
        assert_eq!(one.estimate(), 1);
    }
}
