//! Quotas of apps and of the installation: this node's shares, which the store hands out.
//!
//! | file | content |
//! |---|---|
//! | `keeper` | fetches shares, begins new days and months, learns what other nodes used up |
//! | `period` | days and months of UTC |
//! | `status` | how far each quota is used, for the admin API |

mod keeper;
mod period;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfare_protocol::QuotaKind;
use parking_lot::Mutex;

pub(crate) use keeper::Keeper;
pub(crate) use status::{QuotaUse, status};

/// How far quotas are used, as this node learned with its last share. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct QuotaRatios(Arc<Mutex<Ratios>>);

/// The used part of each quota: of an app, or of all apps together.
pub(crate) type Ratios = BTreeMap<(Option<String>, QuotaKind), f64>;

impl QuotaRatios {
    /// Returns the used part of each quota.
    pub(crate) fn read(&self) -> Ratios {
        self.0.lock().clone()
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio is not needed to more than a few digits"
    )]
    fn set(&self, app: Option<&str>, kind: QuotaKind, taken: i64, quota: u64) {
        let ratio = taken as f64 / quota.max(1) as f64;
        self.0.lock().insert((app.map(str::to_owned), kind), ratio);
    }

    /// Forgets the quotas for which `keep` is false.
    fn retain(&self, keep: impl Fn(&Option<String>, QuotaKind) -> bool) {
        self.0.lock().retain(|(app, kind), _| keep(app, *kind));
    }
}
