//! The statements of usage: built from lists of columns, because the three tables have nearly the same.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use super::{
    APPS_PER_TRANSACTION, INSTALLATION, Piece, SAMPLES, UsageCounts, UsageMinute, UsageStep,
    UsageTotal,
};
use crate::database::AnyRow;
use crate::dialect::{Db, Tx, on_db, on_tx, value_rows};
use crate::error::StoreError;
use crate::row::from_row;

/// Sums of a statement. Peaks are those of each sixth of a minute; the highest is the peak.
struct Sums {
    app_id: String,
    at: i64,
    peaks: [i64; SAMPLES],
    connections_sum: i64,
    counts: UsageCounts,
}

from_row!(row => Sums {
    app_id,
    at,
    peaks: [
        sqlx::Row::try_get(row, "peak_0")?,
        sqlx::Row::try_get(row, "peak_1")?,
        sqlx::Row::try_get(row, "peak_2")?,
        sqlx::Row::try_get(row, "peak_3")?,
        sqlx::Row::try_get(row, "peak_4")?,
        sqlx::Row::try_get(row, "peak_5")?,
    ],
    connections_sum,
    counts: UsageCounts::from_row(row)?,
});

impl From<Sums> for UsageTotal {
    fn from(sums: Sums) -> Self {
        Self {
            app: (!sums.app_id.is_empty()).then_some(sums.app_id),
            at: sums.at,
            connections_peak: sums.peaks.into_iter().max().unwrap_or_default(),
            connections_sum: sums.connections_sum,
            counts: sums.counts,
            ..Self::default()
        }
    }
}

/// What a row holds that SQL can't add up.
struct Details {
    app_id: String,
    at: i64,
    users: Option<Vec<u8>>,
    refused: BTreeMap<String, i64>,
}

from_row!(row => Details {
    app_id,
    at,
    users,
    refused: parsed_map(sqlx::Row::try_get(row, "refused")?)?,
});

/// Parses numbers of refusals.
fn parsed_map(text: Option<String>) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let map = text.map(|text| serde_json::from_str(&text)).transpose();
    let map = map.map_err(|error| sqlx::Error::ColumnDecode {
        index: "refused".into(),
        source: error.into(),
    })?;
    Ok(map.unwrap_or_default())
}

impl UsageTotal {
    fn add_details(&mut self, details: Details) {
        if let Some(Err(error)) = details.users.map(|users| self.users.merge_bytes(&users)) {
            tracing::warn!(app = details.app_id, at = details.at, %error, "users are left out of usage");
        }
        for (kind, count) in details.refused {
            *self.refused.entry(kind).or_default() += count;
        }
    }
}

/// Where a statement runs.
pub(super) enum Source<'a> {
    Pool(&'a Db),
    Tx(&'a mut Tx),
}

/// An argument of a statement.
#[derive(Debug, Clone, Copy)]
enum Argument<'a> {
    Number(i64),
    Text(&'a str),
}

impl Source<'_> {
    /// Returns the rows of a statement, which must hold no text from outside.
    async fn fetch<T: AnyRow>(
        &mut self,
        sql: String,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<T>, sqlx::Error> {
        macro_rules! query {
            () => {{
                let mut query = sqlx::query_as::<_, T>(AssertSqlSafe(sql)).persistent(false);
                for argument in arguments {
                    query = match *argument {
                        Argument::Number(number) => query.bind(number),
                        Argument::Text(text) => query.bind(text.to_owned()),
                    };
                }
                query
            }};
        }
        match self {
            Self::Pool(db) => on_db!(db, pool => query!().fetch_all(pool).await),
            Self::Tx(tx) => on_tx!(tx, connection => query!().fetch_all(connection).await),
        }
    }
}

/// Returns the id in the tables.
fn id_of(app: Option<&str>) -> &str {
    app.unwrap_or(INSTALLATION)
}

/// Returns the ids in a piece, the one of all apps included, in order: those after `after`, at most `limit`.
pub(super) async fn ids(
    source: &mut Source<'_>,
    piece: Piece,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let after_it = after.map_or("", |_| "AND app_id > $4");
    let sql = format!(
        "SELECT DISTINCT app_id FROM {} WHERE at >= $1 AND at < $2 {after_it} ORDER BY app_id LIMIT $3",
        piece.table.table()
    );
    let mut arguments = vec![
        Argument::Number(piece.from),
        Argument::Number(piece.until),
        Argument::Number(limit),
    ];
    arguments.extend(after.map(Argument::Text));
    let found: Vec<(String,)> = source.fetch(sql, &arguments).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

/// Returns the total of each of some ids in a piece, in order.
pub(super) async fn totals_by_app(
    source: &mut Source<'_>,
    piece: Piece,
    ids: &[String],
) -> Result<Vec<UsageTotal>, StoreError> {
    let mut totals = Vec::new();
    for ids in ids.chunks(APPS_PER_TRANSACTION) {
        let among: Vec<String> = (0..ids.len()).map(|n| format!("${}", n + 3)).collect();
        let among = format!("app_id IN ({})", among.join(", "));
        let sql = sums(piece.table, &among, "app_id");
        let mut arguments = vec![Argument::Number(piece.from), Argument::Number(piece.until)];
        arguments.extend(ids.iter().map(|id| Argument::Text(id)));
        let found: Vec<Sums> = source.fetch(sql, &arguments).await?;
        let mut found: Vec<UsageTotal> = found.into_iter().map(UsageTotal::from).collect();
        let details: Vec<Details> = source
            .fetch(details(piece.table, &among), &arguments)
            .await?;
        for details in details {
            let total = found
                .iter_mut()
                .find(|total| id_of(total.app.as_deref()) == details.app_id);
            if let Some(total) = total {
                total.add_details(details);
            }
        }
        totals.append(&mut found);
    }
    Ok(totals)
}

/// Returns the totals of one id in a piece, for each period of its table, in order.
pub(super) async fn totals_by_time(
    source: &mut Source<'_>,
    piece: Piece,
    app: Option<&str>,
) -> Result<Vec<UsageTotal>, StoreError> {
    let it = "app_id = $3";
    let arguments = [
        Argument::Number(piece.from),
        Argument::Number(piece.until),
        Argument::Text(id_of(app)),
    ];
    let sql = sums(piece.table, it, "app_id, at");
    let found: Vec<Sums> = source.fetch(sql, &arguments).await?;
    let mut totals: BTreeMap<i64, UsageTotal> = found
        .into_iter()
        .map(|sums| (sums.at, sums.into()))
        .collect();
    let details: Vec<Details> = source.fetch(details(piece.table, it), &arguments).await?;
    for details in details {
        if let Some(total) = totals.get_mut(&details.at) {
            total.add_details(details);
        }
    }
    Ok(totals.into_values().collect())
}

/// Returns the statement for the sums of a table's rows from `$1` until `$2` among `which`, grouped by `group`. Sums are
/// cast because those of Postgres are of another type.
fn sums(table: UsageStep, which: &str, group: &str) -> String {
    let range = format!("at >= $1 AND at < $2 AND {which}");
    let list = |column: &dyn Fn(&str) -> String| {
        let columns = UsageCounts::COLUMNS.iter().map(|name| column(name));
        columns.collect::<Vec<_>>().join(", ")
    };
    let counts = list(&|name| format!("CAST(SUM({name}) AS BIGINT) AS {name}"));
    let each = |column: &dyn Fn(usize) -> String| (0..SAMPLES).map(column).collect::<Vec<_>>();
    if table != UsageStep::Minute {
        let peaks = each(&|n| match n {
            0 => "MAX(connections_peak) AS peak_0".into(),
            n => format!("CAST(0 AS BIGINT) AS peak_{n}"),
        });
        let (table, peaks) = (table.table(), peaks.join(", "));
        return format!(
            "SELECT app_id, MIN(at) AS at, {peaks}, CAST(SUM(connections_sum) AS BIGINT) AS connections_sum, {counts} \
             FROM {table} WHERE {range} GROUP BY {group} ORDER BY {group}"
        );
    }
    // The nodes' numbers of one moment are added up first, so that the highest is one that there was.
    let samples = each(&|n| format!("SUM(connections_{n}) AS sample_{n}")).join(", ");
    let peaks = each(&|n| format!("CAST(MAX(sample_{n}) AS BIGINT) AS peak_{n}")).join(", ");
    let all = each(&|n| format!("sample_{n}")).join(" + ");
    let of_nodes = list(&|name| format!("SUM({name}) AS {name}"));
    format!(
        "SELECT app_id, MIN(at) AS at, {peaks}, CAST(SUM({all}) AS BIGINT) AS connections_sum, {counts} \
         FROM (SELECT app_id, at, {samples}, {of_nodes} FROM usage_minutes WHERE {range} GROUP BY app_id, at) AS minutes \
         GROUP BY {group} ORDER BY {group}"
    )
}

/// Returns the statement for what SQL can't add up of the same rows.
fn details(table: UsageStep, which: &str) -> String {
    format!(
        "SELECT app_id, at, users, refused FROM {} WHERE at >= $1 AND at < $2 AND {which} \
         AND (users IS NOT NULL OR refused IS NOT NULL)",
        table.table()
    )
}

/// Returns a statement that writes `rows` rows, whatever was there under their key. `unless` may keep what is there.
fn upsert(table: UsageStep, key: &[&str], values: &[String], rows: usize, unless: &str) -> String {
    let table = table.table();
    let columns: Vec<&str> = key
        .iter()
        .copied()
        .chain(values.iter().map(String::as_str))
        .collect();
    let rows = value_rows(rows, columns.len(), 1);
    let updates = values
        .iter()
        .map(|name| format!("{name} = excluded.{name}"));
    format!(
        "INSERT INTO {table} ({}) VALUES {rows} ON CONFLICT ({}) DO UPDATE SET {} {unless}",
        columns.join(", "),
        key.join(", "),
        updates.collect::<Vec<_>>().join(", ")
    )
}

fn columns(first: impl Iterator<Item = String>) -> Vec<String> {
    let counts = UsageCounts::COLUMNS.iter().map(ToString::to_string);
    let details = ["users", "refused"].map(str::to_owned);
    first.chain(counts).chain(details).collect()
}

fn refused_json(refused: &BTreeMap<String, i64>) -> Option<String> {
    (!refused.is_empty()).then(|| serde_json::to_string(refused).expect("a map is JSON"))
}

/// Writes the minutes of a run, except those that a later write of the run has written.
pub(super) async fn write_minutes(
    tx: &mut Tx,
    run: &str,
    flush: i64,
    rows: &[&UsageMinute],
) -> Result<(), StoreError> {
    let samples = (0..SAMPLES).map(|n| format!("connections_{n}"));
    let values = columns(std::iter::once("flush".to_owned()).chain(samples));
    let sql = upsert(
        UsageStep::Minute,
        &["app_id", "at", "run"],
        &values,
        rows.len(),
        "WHERE usage_minutes.flush <= excluded.flush",
    );
    let sql = tx.in_order(sql);
    on_tx!(tx, connection => {
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        for row in rows {
            query = query.bind(id_of(row.app.as_deref())).bind(row.at).bind(run).bind(flush);
            for number in row.connections.into_iter().chain(row.counts.values()) {
                query = query.bind(number);
            }
            query = query.bind(row.users.as_deref()).bind(refused_json(&row.refused));
        }
        query.execute(connection).await.map(drop)
    })?;
    Ok(())
}

/// Writes totals of the period of a table that begins at `at`.
pub(super) async fn write_totals(
    tx: &mut Tx,
    table: UsageStep,
    at: i64,
    totals: &[UsageTotal],
) -> Result<(), StoreError> {
    let values = columns(
        ["connections_peak", "connections_sum"]
            .map(str::to_owned)
            .into_iter(),
    );
    let sql = upsert(table, &["app_id", "at"], &values, totals.len(), "");
    let sql = tx.in_order(sql);
    on_tx!(tx, connection => {
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        for total in totals {
            query = query.bind(id_of(total.app.as_deref())).bind(at);
            query = query.bind(total.connections_peak).bind(total.connections_sum);
            for number in total.counts.values() {
                query = query.bind(number);
            }
            let users = (!total.users.is_empty()).then(|| total.users.to_bytes());
            query = query.bind(users).bind(refused_json(&total.refused));
        }
        query.execute(connection).await.map(drop)
    })?;
    Ok(())
}
