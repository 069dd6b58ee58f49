//! Quotas: how much of each was handed out in its current day or month. Nodes take shares, so they don't ask for every
//! message. What is handed out is measured and not administered: it is not in the audit log.

use fanfare_protocol::{QuotaKind, QuotaValues};

use crate::database::Store;
use crate::dialect::{Tx, execute, execute_alone, fetch_optional, on_db};
use crate::error::StoreError;
use crate::row::from_row;

/// Locks the row of a period, and makes it if there is none.
const LOCK: &str = "INSERT INTO quota_periods (app_id, quota, at, taken, told) VALUES ($1, $2, $3, 0, 0) \
                    ON CONFLICT (app_id, quota, at) DO UPDATE SET taken = quota_periods.taken \
                    RETURNING taken, told";
const TAKE: &str = "UPDATE quota_periods SET taken = $4, told = $5, used_up_at = $6 \
                    WHERE app_id = $1 AND quota = $2 AND at = $3";
const GIVE_BACK: &str = "UPDATE quota_periods SET taken = taken - $4 \
                         WHERE app_id = $1 AND quota = $2 AND at = $3";
const USED_UP: &str = "SELECT app_id, quota, at FROM quota_periods WHERE used_up_at >= $1";
const TAKEN: &str = "SELECT taken FROM quota_periods WHERE app_id = $1 AND quota = $2 AND at = $3";
const DELETE: &str = "DELETE FROM quota_periods WHERE at < $1";

/// The smallest share, as long as the quota has more than a few of it left.
const MIN_SHARE: i64 = 10;
/// A share is this part of what is left at most, so that shares shrink and little is left over on other nodes.
const SHARES_LEFT: i64 = 8;
/// A share is this part of the quota at most.
const SHARES: i64 = 100;

/// A quota of an app, or of all apps together, in one of its periods.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaPeriod {
    /// The app, or `None` for all apps together.
    pub app: Option<String>,
    /// What it counts.
    pub kind: QuotaKind,
    /// The beginning of its day or month, Unix time in milliseconds.
    pub at: i64,
}

/// A request for a share.
#[derive(Debug, Clone)]
pub struct ShareRequest {
    /// The quota.
    pub period: QuotaPeriod,
    /// Its values.
    pub values: QuotaValues,
    /// What the node used beyond its shares. It is counted, even if the quota has no more. Negative if the node gives
    /// back a part of its shares.
    pub debt: i64,
    /// What publishes wait for.
    pub awaited: i64,
}

/// How far a quota is used, of which operators are told once in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaLevel {
    /// As far as its soft value, or four fifths of it.
    Soft,
    /// All of it.
    UsedUp,
}

/// A share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The debt and what the node may use now.
    pub amount: i64,
    /// What was handed out in this period, this share included.
    pub taken: i64,
    /// Whether nothing is left in the store.
    pub is_used_up: bool,
    /// The level that was reached with this share, if no node was told of it before.
    pub reached: Option<QuotaLevel>,
}

struct Row {
    taken: i64,
    told: i64,
}

from_row!(row => Row { taken, told });

struct UsedUpRow {
    app_id: String,
    quota: String,
    at: i64,
}

from_row!(row => UsedUpRow { app_id, quota, at });

fn id_of(period: &QuotaPeriod) -> &str {
    period.app.as_deref().unwrap_or_default()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Returns the size of a share of a quota of which so much is left: a hundredth of the quota, and less towards its end.
#[must_use]
pub fn share_size(quota: i64, left: i64) -> i64 {
    (quota / SHARES)
        .max(MIN_SHARE)
        .min(left / SHARES_LEFT)
        .max(1)
}

/// Returns what a node gets, and what is then handed out.
fn divide(request: &ShareRequest, taken: i64) -> (i64, i64) {
    let taken = taken.saturating_add(request.debt);
    let share = match (request.values.hard, request.values.soft) {
        (Some(hard), _) => {
            let left = (signed(hard) - taken).max(0);
            share_size(signed(hard), left)
                .max(request.awaited)
                .min(left)
        }
        (None, soft) => (signed(soft.unwrap_or_default()) / SHARES)
            .max(MIN_SHARE)
            .max(request.awaited),
    };
    (
        request.debt.saturating_add(share),
        taken.saturating_add(share),
    )
}

impl Store {
    /// Hands out a share of each of some quotas, in one transaction.
    ///
    /// # Errors
    ///
    /// Returns the database's error; nothing was handed out then, except perhaps after [`StoreError::Uncertain`].
    pub async fn take_shares(
        &self,
        requests: &[ShareRequest],
        now: i64,
    ) -> Result<Vec<Share>, StoreError> {
        // In one order on all nodes, so that two transactions don't wait for each other.
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by(|a, b| requests[*a].period.cmp(&requests[*b].period));
        let mut shares = vec![None; requests.len()];
        let mut tx = self.db.begin().await?;
        for index in order {
            shares[index] = Some(take_share(&mut tx, &requests[index], now).await?);
        }
        tx.commit().await?;
        Ok(shares.into_iter().flatten().collect())
    }

    /// Gives back what is left of shares.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn give_back_shares(&self, left: &[(QuotaPeriod, i64)]) -> Result<(), StoreError> {
        let mut left: Vec<_> = left.iter().collect();
        left.sort();
        let mut tx = self.db.begin().await?;
        for (period, amount) in left {
            let quota = period.kind.setting();
            execute!(&mut tx, GIVE_BACK, id_of(period), quota, period.at, *amount)?;
        }
        tx.commit().await
    }

    /// Returns the quotas that were used up since a Unix time in milliseconds, by the clocks of the nodes that found it.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn used_up_quotas(&self, since: i64) -> Result<Vec<QuotaPeriod>, StoreError> {
        let rows: Vec<UsedUpRow> = on_db!(&self.db, pool =>
            sqlx::query_as(USED_UP).bind(since).fetch_all(pool).await)?;
        let period = |row: UsedUpRow| {
            let kind = QuotaKind::ALL
                .into_iter()
                .find(|kind| kind.setting() == row.quota)?;
            Some(QuotaPeriod {
                app: (!row.app_id.is_empty()).then_some(row.app_id),
                kind,
                at: row.at,
            })
        };
        Ok(rows.into_iter().filter_map(period).collect())
    }

    /// Returns what was handed out of a quota in a period.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn quota_taken(&self, period: &QuotaPeriod) -> Result<i64, StoreError> {
        let taken: Option<i64> = on_db!(&self.db, pool => sqlx::query_scalar(TAKEN)
            .bind(id_of(period))
            .bind(period.kind.setting())
            .bind(period.at)
            .fetch_optional(pool)
            .await)?;
        Ok(taken.unwrap_or_default())
    }

    /// Deletes the periods that began before a Unix time in milliseconds.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn delete_old_quotas(&self, before: i64) -> Result<(), StoreError> {
        execute_alone!(&self.db, DELETE, before)?;
        Ok(())
    }
}

async fn take_share(tx: &mut Tx, request: &ShareRequest, now: i64) -> Result<Share, StoreError> {
    let period = &request.period;
    let (app, quota) = (id_of(period), period.kind.setting());
    let row = fetch_optional!(Row, tx, LOCK, app, quota, period.at)?;
    let Row { taken, told } = row.ok_or(sqlx::Error::RowNotFound)?;
    let (amount, taken) = divide(request, taken);
    let is_used_up = request
        .values
        .hard
        .is_some_and(|hard| taken >= signed(hard));
    let told_from = request.values.told_from();
    let level = match told_from {
        _ if is_used_up => Some(QuotaLevel::UsedUp),
        Some(value) if taken >= signed(value) => Some(QuotaLevel::Soft),
        _ => None,
    };
    let number = level.map_or(0, |level| level as i64 + 1);
    let used_up_at = is_used_up.then_some(now);
    let told_now = told.max(number);
    execute!(tx, TAKE, app, quota, period.at, taken, told_now, used_up_at)?;
    Ok(Share {
        amount,
        taken,
        is_used_up,
        reached: level.filter(|_| number > told),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_a_hundredth_and_shrink_towards_the_end() {
        assert_eq!(share_size(100_000, 100_000), 1000);
        assert_eq!(share_size(100_000, 800), 100);
        assert_eq!(share_size(100_000, 3), 1);
        assert_eq!(share_size(100, 100), 10);
        let (mut left, mut shares) = (1_000_000, 0);
        while left > 0 {
            left -= share_size(1_000_000, left);
            shares += 1;
        }
        assert!(shares < 250, "{shares} questions for a million");
    }
}
