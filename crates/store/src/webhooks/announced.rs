//! What receivers were last told of each channel and member, so that each change is told once.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use crate::database::Store;
use crate::dialect::{Tx, on_db, on_tx, value_rows};
use crate::error::StoreError;
use crate::row::from_row;

/// Rows of one statement, which both databases limit by its values.
const ROWS_PER_STATEMENT: usize = 500;
/// A cache miss of a channel is told again after so many microseconds.
const CACHE_MISS_AGAIN: i64 = 10_000_000;

const NEWEST: &str =
    "SELECT MAX(at) FROM webhook_announced WHERE app_id = $1 AND kind <> 'cache_miss'";
const PRESENT: &str = "SELECT channel, user_id, kind FROM webhook_announced \
                       WHERE app_id = $1 AND kind <> 'cache_miss' AND is_present \
                         AND (kind, channel, user_id) > ($2, $3, $4) \
                       ORDER BY kind, channel, user_id LIMIT $5";

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The channel itself: whether it is occupied.
    Channel,
    /// A member of the channel, by the user's id.
    Member(String),
    /// The channel's cache: a subscriber found it empty.
    CacheMiss,
}

impl Subject {
    fn kind(&self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Member(_) => "member",
            Self::CacheMiss => "cache_miss",
        }
    }

    fn user_id(&self) -> &str {
        match self {
            Self::Member(user) => user,
            Self::Channel | Self::CacheMiss => "",
        }
    }
}

/// A change that receivers may have to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The channel.
    pub channel: String,
    /// What of it has changed.
    pub subject: Subject,
    /// Whether the channel is occupied or the member present now.
    pub is_present: bool,
    /// When the transition was due by the log of transitions, in milliseconds. With it, a transition that is recorded
    /// again is recognised.
    pub due: i64,
}

/// A channel or a member that is present as far as receivers were told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The channel.
    pub channel: String,
    /// The member's user id, or `None` for the channel itself.
    pub user: Option<String>,
}

from_row!(row => Announced {
    channel,
    user: match sqlx::Row::try_get::<String, _>(row, "kind")?.as_str() {
        "member" => Some(sqlx::Row::try_get(row, "user_id")?),
        _ => None,
    },
});

type Key = (&'static str, String, String);

struct StoredRow {
    kind: String,
    channel: String,
    user_id: String,
    state: Told,
}

from_row!(row => StoredRow {
    kind,
    channel,
    user_id,
    state: Told {
        is_present: sqlx::Row::try_get(row, "is_present")?,
        at: sqlx::Row::try_get(row, "at")?,
        present_due: sqlx::Row::try_get(row, "present_due")?,
        absent_due: sqlx::Row::try_get(row, "absent_due")?,
    },
});

/// What receivers were told of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    is_present: bool,
    at: i64,
    present_due: Option<i64>,
    absent_due: Option<i64>,
}

/// What becomes of changes.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// For each change, whether receivers have to be told.
    pub(super) is_news: Vec<bool>,
    /// Indexes of the changes that a newer read of the log has overtaken.
    pub(super) stale: Vec<usize>,
    rows: Vec<(Key, Told)>,
}

/// Finds out what of `changes`, read at `stamp`, receivers have to be told. The app's row must be locked.
pub(super) async fn judge(
    tx: &mut Tx,
    app_id: &str,
    stamp: i64,
    changes: &[StateChange],
) -> Result<Judgement, StoreError> {
    let mut by_key: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (index, change) in changes.iter().enumerate() {
        // Postgres takes no U+0000. One user must not keep what happened to all others from being recorded.
        let user_id = change.subject.user_id().replace('\0', "\u{fffd}");
        let key = (change.subject.kind(), change.channel.clone(), user_id);
        by_key.entry(key).or_default().push(index);
    }
    let keys: Vec<&Key> = by_key.keys().collect();
    let mut told = BTreeMap::new();
    for keys in keys.chunks(ROWS_PER_STATEMENT) {
        for row in told_of(tx, app_id, keys).await? {
            told.insert((row.kind, row.channel, row.user_id), row.state);
        }
    }
    let mut judgement = Judgement {
        is_news: vec![false; changes.len()],
        ..Judgement::default()
    };
    for (key, indexes) in by_key {
        let known = told
            .get(&(key.0.to_owned(), key.1.clone(), key.2.clone()))
            .copied();
        let changes = indexes.iter().map(|index| (*index, &changes[*index]));
        let after = match key.0 {
            "cache_miss" => judgement.judge_cache_miss(known, stamp, changes),
            _ => judgement.judge_key(known, stamp, changes),
        };
        judgement.rows.extend(after.map(|after| (key, after)));
    }
    judgement.stale.sort_unstable();
    Ok(judgement)
}

impl Judgement {
    /// Judges the changes of one channel or member, and returns what is told of it afterwards.
    fn judge_key<'a>(
        &mut self,
        known: Option<Told>,
        stamp: i64,
        changes: impl Iterator<Item = (usize, &'a StateChange)>,
    ) -> Option<Told> {
        let mut told = known;
        let is_overtaken = known.is_some_and(|known| known.at >= stamp);
        for (index, change) in changes {
            let last_due = told.and_then(|told| match change.is_present {
                true => told.present_due,
                false => told.absent_due,
            });
            if last_due == Some(change.due) {
                // Recorded before: the process ended before it could be settled, or another node was faster.
                continue;
            }
            if is_overtaken {
                self.stale.push(index);
                continue;
            }
            self.is_news[index] = told.is_none_or(|told| told.is_present != change.is_present);
            let due = |is_present: bool, before: Option<i64>| match change.is_present == is_present
            {
                true => Some(change.due),
                false => before,
            };
            told = Some(Told {
                is_present: change.is_present,
                at: stamp,
                present_due: due(true, told.and_then(|told| told.present_due)),
                absent_due: due(false, told.and_then(|told| told.absent_due)),
            });
        }
        // A read in which nothing was new still overtakes older ones.
        told.filter(|_| !is_overtaken)
            .map(|told| Told { at: stamp, ..told })
    }

    /// Judges cache misses of one channel. `at` is when one was last told.
    fn judge_cache_miss<'a>(
        &mut self,
        known: Option<Told>,
        stamp: i64,
        mut changes: impl Iterator<Item = (usize, &'a StateChange)>,
    ) -> Option<Told> {
        let (index, _) = changes.next()?;
        if known.is_some_and(|known| known.at.saturating_add(CACHE_MISS_AGAIN) >= stamp) {
            return None;
        }
        self.is_news[index] = true;
        Some(Told {
            is_present: false,
            at: stamp,
            present_due: None,
            absent_due: None,
        })
    }

    /// Returns whether there is anything to write.
    pub(super) fn changes_nothing(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes what is told afterwards.
    pub(super) async fn write(self, tx: &mut Tx, app_id: &str) -> Result<(), StoreError> {
        for rows in self.rows.chunks(ROWS_PER_STATEMENT) {
            let sql = format!(
                "INSERT INTO webhook_announced (app_id, kind, channel, user_id, is_present, at, present_due, absent_due) \
                 VALUES {} ON CONFLICT (app_id, kind, channel, user_id) DO UPDATE SET is_present = excluded.is_present, \
                 at = excluded.at, present_due = excluded.present_due, absent_due = excluded.absent_due",
                value_rows(rows.len(), 8, 1)
            );
            let sql = tx.in_order(sql);
            on_tx!(tx, connection => {
                let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
                for ((kind, channel, user_id), told) in rows {
                    query = query.bind(app_id).bind(*kind).bind(channel).bind(user_id);
                    query = query.bind(told.is_present).bind(told.at);
                    query = query.bind(told.present_due).bind(told.absent_due);
                }
                query.execute(connection).await.map(drop)
            })?;
        }
        Ok(())
    }
}

async fn told_of(tx: &mut Tx, app_id: &str, keys: &[&Key]) -> Result<Vec<StoredRow>, StoreError> {
    let sql = format!(
        "SELECT a.kind, a.channel, a.user_id, a.is_present, a.at, a.present_due, a.absent_due \
         FROM (VALUES {}) AS k JOIN webhook_announced a ON a.app_id = ${} AND a.kind = k.column1 \
         AND a.channel = k.column2 AND a.user_id = k.column3",
        value_rows(keys.len(), 3, 1),
        3 * keys.len() + 1
    );
    let sql = tx.in_order(sql);
    let rows = on_tx!(tx, connection => {
        let mut query = sqlx::query_as(AssertSqlSafe(sql)).persistent(false);
        for (kind, channel, user_id) in keys {
            query = query.bind(*kind).bind(channel).bind(user_id);
        }
        query.bind(app_id).fetch_all(connection).await
    })?;
    Ok(rows)
}

impl Store {
    /// Returns at most `limit` channels and members of an app that are present as far as receivers were told: channels
    /// first, those after the one called `after`.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn announced_present(
        &self,
        app_id: &str,
        after: Option<&Announced>,
        limit: i64,
    ) -> Result<Vec<Announced>, StoreError> {
        let (kind, channel, user) = match after {
            None => ("", "", ""),
            Some(Announced { channel, user }) => match user {
                None => ("channel", channel.as_str(), ""),
                Some(user) => ("member", channel.as_str(), user.as_str()),
            },
        };
        Ok(on_db!(&self.db, pool => sqlx::query_as(PRESENT)
            .bind(app_id)
            .bind(kind)
            .bind(channel)
            .bind(user)
            .bind(limit)
            .fetch_all(pool)
            .await)?)
    }

    /// Returns the members of an app's channels who are present as far as receivers were told.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn announced_members(
        &self,
        app_id: &str,
        channels: &[&str],
    ) -> Result<Vec<Announced>, StoreError> {
        let mut members = Vec::new();
        for channels in channels.chunks(ROWS_PER_STATEMENT) {
            let sql = format!(
                "SELECT channel, user_id, kind FROM webhook_announced \
                 WHERE app_id = $1 AND kind = 'member' AND is_present AND channel IN {} ORDER BY channel, user_id",
                value_rows(1, channels.len(), 2)
            );
            let found: Vec<Announced> = on_db!(&self.db, pool => {
                let mut query = sqlx::query_as(AssertSqlSafe(sql)).persistent(false).bind(app_id);
                for channel in channels {
                    query = query.bind(*channel);
                }
                query.fetch_all(pool).await
            })?;
            members.extend(found);
        }
        Ok(members)
    }

    /// Returns the newest stamp under which transitions of an app were recorded, in microseconds of the log's clock, or 0.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn newest_announcement(&self, app_id: &str) -> Result<i64, StoreError> {
        let newest: Option<i64> = on_db!(&self.db, pool => sqlx::query_scalar(NEWEST).bind(app_id).fetch_one(pool).await)?;
        Ok(newest.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(is_present: bool, due: i64) -> StateChange {
        StateChange {
            channel: "c".into(),
            subject: Subject::Channel,
            is_present,
            due,
        }
    }

    /// Judges changes of one key, and returns which are news, which are stale, and what is told afterwards.
    fn judge(
        known: Option<Told>,
        stamp: i64,
        changes: &[StateChange],
    ) -> (Vec<bool>, Vec<usize>, Option<Told>) {
        let mut judgement = Judgement {
            is_news: vec![false; changes.len()],
            ..Judgement::default()
        };
        let told = judgement.judge_key(known, stamp, changes.iter().enumerate());
        (judgement.is_news, judgement.stale, told)
    }

    #[test]
    fn a_short_visit_is_told_as_both_once() {
        let visit = [change(true, 1), change(false, 4)];
        let (news, stale, told) = judge(None, 10, &visit);
        assert_eq!((news, stale), (vec![true, true], vec![]));
        // The process ended before it settled them, so they are read again.
        let (news, stale, again) = judge(told, 11, &visit);
        assert_eq!((news, stale), (vec![false, false], vec![]));
        assert_eq!(again, told.map(|told| Told { at: 11, ..told }));
        // Another visit.
        let (news, ..) = judge(again, 20, &[change(true, 12), change(false, 15)]);
        assert_eq!(news, [true, true]);
    }

    #[test]
    fn an_older_read_changes_nothing_and_says_so() {
        let (_, _, told) = judge(None, 10, &[change(true, 1)]);
        let (news, stale, after) = judge(told, 9, &[change(true, 1), change(false, 4)]);
        assert_eq!((news, stale, after), (vec![false, false], vec![1], None));
    }
}
