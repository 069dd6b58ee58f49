//! `fanfare usage`.

use std::cmp::Reverse;
use std::io::{IsTerminal, Write, stdout};

use anyhow::Context;
use bytesize::ByteSize;
use clap::Args;

use super::api::{Api, Call, ServerFlags};
use super::{duration, output};
use crate::admin::page::Page;
use crate::usage::{AppUsageTotal, Step, UsagePoint, UsageSeries};

/// Columns of a chart.
const CHART_WIDTH: usize = 60;
/// Heights of a bar.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Apps that are listed under a chart.
const BUSIEST: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct Usage {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// One app [default: all apps together]
    #[arg(long, value_name = "ID", conflicts_with = "by_app")]
    app: Option<String>,
    /// Its beginning: a date, a time such as 2026-11-21T09:34:10Z, Unix time in milliseconds, or a while ago such as 24h
    /// [default: a day before its end]
    #[arg(long, value_name = "TIME", value_parser = duration::time_or_ago)]
    from: Option<i64>,
    /// Its end, written likewise [default: now]
    #[arg(long, value_name = "TIME", value_parser = duration::time_or_ago)]
    to: Option<i64>,
    /// The length of a period [default: minute for up to 6 hours, hour for up to 7 days, day for more]
    #[arg(long)]
    step: Option<Step>,
    /// List what each app did
    #[arg(long)]
    by_app: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Usage {
    fn call(&self) -> Call {
        let path = match &self.app {
            Some(app) => &["apps", app, "usage"][..],
            None if self.by_app => &["usage", "apps"],
            None => &["usage"],
        };
        self.within_range(Call::get(path))
    }

    fn within_range(&self, call: Call) -> Call {
        call.query("from", self.from)
            .query("to", self.to)
            .query("step", self.step.map(Step::as_str))
    }
}

pub(crate) async fn run(usage: &Usage, api: &Api) -> anyhow::Result<()> {
    if usage.csv {
        return print_csv(usage, api).await;
    }
    if usage.by_app {
        let answer = api.list(|| usage.call(), None).await?;
        return match usage.json {
            true => output::json(&answer),
            false => print_apps(serde_json::from_value(answer)?, usize::MAX),
        };
    }
    let answer = api.send(usage.call()).await?;
    if usage.json {
        return output::json(&answer);
    }
    let series: UsageSeries = serde_json::from_value(answer).context("reading the answer")?;
    if !stdout().is_terminal() {
        return print_table(&series);
    }
    output::text(&chart(&series))?;
    if usage.app.is_some() {
        return Ok(());
    }
    let apps = || usage.within_range(Call::get(&["usage", "apps"]));
    let apps: Page<AppUsageTotal> = serde_json::from_value(api.list(apps, None).await?)?;
    if apps.items.is_empty() {
        return Ok(());
    }
    output::text("")?;
    print_apps(apps, BUSIEST)
}

async fn print_csv(usage: &Usage, api: &Api) -> anyhow::Result<()> {
    let mut answer = api
        .stream(usage.call().query("format", Some("csv")))
        .await?;
    let mut out = stdout();
    while let Some(lines) = answer.chunk().await? {
        out.write_all(&lines)
            .context("writing to standard output")?;
    }
    out.flush().context("writing to standard output")
}

const HEADINGS: [&str; 8] = [
    "PEAK",
    "AVERAGE",
    "MESSAGES",
    "DELIVERIES",
    "IN",
    "OUT",
    "REFUSED",
    "USERS",
];

fn cells(point: &UsagePoint) -> Vec<String> {
    vec![
        point.connections_peak.to_string(),
        point.connections_average.to_string(),
        point.messages.to_string(),
        point.deliveries.to_string(),
        bytes(point.bytes_in),
        bytes(point.bytes_out),
        refused(point).to_string(),
        point.unique_users.to_string(),
    ]
}

fn bytes(count: i64) -> String {
    ByteSize(count.unsigned_abs()).to_string()
}

fn refused(point: &UsagePoint) -> i64 {
    point.refused.values().sum()
}

/// Prints the apps that did most, at most `limit`.
fn print_apps(mut apps: Page<AppUsageTotal>, limit: usize) -> anyhow::Result<()> {
    apps.items
        .sort_by_key(|app| Reverse(app.usage.messages + app.usage.deliveries));
    let headings: Vec<&str> = ["APP", "NAME"].into_iter().chain(HEADINGS).collect();
    let rows = apps.items.into_iter().take(limit).map(|app| {
        let cells = cells(&app.usage);
        let name = app.name.unwrap_or_else(|| "(deleted)".into());
        [app.app_id, name].into_iter().chain(cells).collect()
    });
    output::table(&headings, &rows.collect::<Vec<_>>())
}

/// Prints a line for each point.
fn print_table(series: &UsageSeries) -> anyhow::Result<()> {
    let headings: Vec<&str> = ["TIME"].into_iter().chain(HEADINGS).collect();
    let rows = series.points.iter().map(|point| {
        let time = output::time(point.at);
        std::iter::once(time).chain(cells(point)).collect()
    });
    output::table(&headings, &rows.collect::<Vec<_>>())
}

/// Returns a chart with a line for each kind of number.
fn chart(series: &UsageSeries) -> String {
    type Read = fn(&UsagePoint) -> i64;
    let numbers: [(&str, Read); 6] = [
        ("connections", |point| point.connections_peak),
        ("messages", |point| point.messages),
        ("deliveries", |point| point.deliveries),
        ("bytes in", |point| point.bytes_in),
        ("bytes out", |point| point.bytes_out),
        ("refused", refused),
    ];
    let step = series.step.as_str();
    let mut text = format!(
        "{} to {}, by {step}\n\n",
        output::time(series.from),
        output::time(series.to)
    );
    for (name, read) in numbers {
        let values: Vec<i64> = series.points.iter().map(read).collect();
        let shown = |number: i64| match name.starts_with("bytes") {
            true => bytes(number),
            false => number.to_string(),
        };
        let most = values.iter().copied().max().unwrap_or_default();
        let all = match name {
            "connections" => format!("average {}", series.total.connections_average),
            _ => format!("total {}", shown(read(&series.total))),
        };
        text.push_str(&format!(
            "{name:11}  {}  at most {} a {step}, {all}\n",
            bars(&values, CHART_WIDTH),
            shown(most)
        ));
    }
    text.push_str(&format!("\nabout {} users", series.total.unique_users));
    text
}

/// Returns a bar for each value, or for each few neighbours if there are more than `width`: their highest. Nothing is a
/// blank.
fn bars(values: &[i64], width: usize) -> String {
    let most = values.iter().copied().max().unwrap_or_default().max(1);
    let of_bar = values.len().div_ceil(width).max(1);
    let highest = values.chunks(of_bar).map(|values| values.iter().max());
    let bar = |value: i64| match value {
        ..=0 => ' ',
        // The highest value is the highest block, and any other at least the lowest.
        value => {
            let height = (value as i128 * BLOCKS.len() as i128 - 1) / most as i128;
            BLOCKS[usize::try_from(height).unwrap_or_default().min(7)]
        }
    };
    highest
        .map(|value| bar(value.copied().unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_the_highest_of_their_neighbours_and_nothing_as_a_blank() {
        assert_eq!(bars(&[0, 1, 50, 100], 60), " ▁▄█");
        assert_eq!(bars(&[0, 0, 0], 60), "   ");
        assert_eq!(bars(&[8], 60), "█");
        let long: Vec<i64> = (0..1440).collect();
        let shown = bars(&long, 60);
        assert_eq!(shown.chars().count(), 60);
        assert!(shown.ends_with('█') && shown.starts_with('▁'), "{shown}");
        assert_eq!(bars(&[i64::MAX, 1], 60), "█▁");
    }
}
