//! The text that is shown: nodes, what stands out, apps.

use std::collections::BTreeMap;
use std::io::stdout;
use std::time::Duration;

use bytesize::ByteSize;

use super::node::Node;
use super::rates::{AppRates, Quantiles, Rates};
use crate::cli::output::{printable, table_text};
use crate::failure::Failure;

/// Seconds from an event's arrival to its write above which a node lags.
const LAGGING: f64 = 0.25;
/// Share of a bounded resource above which it is worth a word.
const NEARLY_FULL: f64 = 0.8;
/// Rows that are left for apps at least, however many nodes there are.
const MIN_APPS: usize = 5;

/// Why publishes are refused, by result, and what to do.
const REFUSALS: [(&str, &str); 5] = [
    (
        "over_rate",
        "an app is over limits.backend_events_per_second: see REFUSED/s below",
    ),
    (
        "overloaded",
        "a queue is full, because shards or subscribers can't keep up: add cores or nodes",
    ),
    (
        "over_quota",
        "a quota of a day or a month is used up: fanfare quotas --app ID says when it begins again",
    ),
    (
        "unavailable",
        "the cluster's back end does not answer: fanfare doctor looks at it",
    ),
    (
        "conflict",
        "an idempotency key was used again for another request: an error of the backend",
    ),
];

/// The room for the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    columns: usize,
    rows: usize,
}

impl Size {
    pub(super) const UNBOUNDED: Self = Self {
        columns: usize::MAX,
        rows: usize::MAX,
    };

    /// Returns the size of the terminal, or a usual one if it doesn't tell.
    pub(super) fn of_terminal() -> Self {
        match rustix::termios::tcgetwinsize(stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Self {
                columns: size.ws_col.into(),
                rows: size.ws_row.into(),
            },
            _ => Self {
                columns: 120,
                rows: 40,
            },
        }
    }
}

/// Returns the lines of one look.
pub(super) fn draw(nodes: &[Node], size: Size) -> String {
    let looked: Vec<(&str, &Result<Option<Rates>, Failure>)> =
        nodes.iter().map(|node| (&*node.url, &node.state)).collect();
    draw_rates(&looked, size)
}

fn draw_rates(nodes: &[(&str, &Result<Option<Rates>, Failure>)], size: Size) -> String {
    let mut lines: Vec<String> = vec![table_of_nodes(nodes)];
    let rates: Vec<(&str, &Rates)> = nodes
        .iter()
        .filter_map(|(url, state)| Some((*url, state.as_ref().ok()?.as_ref()?)))
        .collect();
    let remarks = remarks(nodes, &rates);
    if !remarks.is_empty() {
        lines.push(String::new());
        lines.extend(remarks);
    }
    let used: usize = lines.iter().map(|text| text.lines().count().max(1)).sum();
    // A blank line, the headings, and the last line, in which the terminal would scroll.
    let room = size.rows.saturating_sub(used + 3).max(MIN_APPS);
    let apps = busiest(&rates, room);
    if !apps.is_empty() {
        lines.extend([String::new(), table_of_apps(&apps)]);
    }
    let text = lines.join("\n");
    let fits = |line: &str| line.chars().take(size.columns).collect::<String>();
    text.lines().map(fits).collect::<Vec<_>>().join("\n")
}

fn table_of_nodes(nodes: &[(&str, &Result<Option<Rates>, Failure>)]) -> String {
    let headings = [
        "NODE", "STATE", "UP", "CONN", "CHANNELS", "EVENTS/s", "DELIV/s", "OUT/s", "P50", "P99",
        "BUS P99", "INBOX", "OUTBOX", "CPU", "MEM",
    ];
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|(url, state)| match state {
            Err(_) => vec![(*url).into(), "DOWN".into()],
            Ok(None) => vec![(*url).into(), "...".into()],
            Ok(Some(rates)) => row_of_node(url, rates),
        })
        .map(|mut row| {
            row.resize(headings.len(), String::new());
            row
        })
        .collect();
    table_text(&headings, &rows)
}

fn row_of_node(url: &str, rates: &Rates) -> Vec<String> {
    vec![
        url.into(),
        state(rates).into(),
        age(rates.up),
        count(rates.connections),
        count(rates.channels),
        count(rates.events),
        count(rates.deliveries),
        bytes(rates.written_bytes),
        time(rates.delay.median),
        time(rates.delay.p99),
        time(rates.bus.p99),
        bytes(rates.inbox_bytes),
        bytes(rates.outbox_bytes),
        format!("{:.0}%", rates.cpu * 100.0),
        bytes(rates.memory),
    ]
}

fn state(rates: &Rates) -> &'static str {
    match rates {
        Rates {
            connected: Some(false),
            ..
        } => "CUT OFF",
        Rates { ready: false, .. } => "NOT READY",
        Rates {
            delay: Quantiles { p99: Some(p99), .. },
            ..
        } if *p99 > LAGGING => "LAGS",
        _ => "ready",
    }
}

/// Returns what stands out, one line for each thing.
fn remarks(
    nodes: &[(&str, &Result<Option<Rates>, Failure>)],
    rates: &[(&str, &Rates)],
) -> Vec<String> {
    let down = nodes.iter().filter_map(|(url, state)| {
        let reason = state.as_ref().err()?;
        Some(format!("! {url}: {}", printable(&reason.to_string())))
    });
    let mut remarks: Vec<String> = down.collect();
    for (url, node) in rates {
        remarks.extend(remarks_on_node(url, node));
    }
    for (result, rate) in sum(rates, |rates| &rates.refused_publishes) {
        let known = REFUSALS.iter().find(|(name, _)| *name == result);
        let why = known.map_or("docs/metrics.md has its meaning", |(_, why)| why);
        remarks.push(format!(
            "! publishes refused, {result}: {}/s; {why}",
            count(rate)
        ));
    }
    let refused = sum(rates, |rates| &rates.refused);
    if !refused.is_empty() {
        let kinds = refused
            .iter()
            .map(|(kind, rate)| format!("{kind} {}/s", count(*rate)));
        let kinds: Vec<String> = kinds.collect();
        remarks.push(format!(
            "! clients and requests refused: {}; the log has reasons and addresses",
            kinds.join(", ")
        ));
    }
    remarks
}

fn remarks_on_node(url: &str, rates: &Rates) -> Vec<String> {
    let mut remarks = Vec::new();
    match state(rates) {
        "ready" => {}
        "LAGS" => remarks.push(format!(
            "! {url} lags: 1 event of 100 takes {} or more until its write; look at its CPU and OUTBOX",
            time(rates.delay.p99)
        )),
        "CUT OFF" => remarks.push(format!(
            "! {url} is not connected to the other nodes; fanfare doctor there looks at what they share"
        )),
        _ => remarks.push(format!("! {url} is not ready; {url}/readyz says why")),
    }
    if rates.slow_consumers > 0.0 {
        remarks.push(format!(
            "! {url} closes {}/s slow consumers: clients that read more slowly than events come",
            count(rates.slow_consumers)
        ));
    }
    for (resource, share) in &rates.budgets {
        if *share >= NEARLY_FULL {
            remarks.push(format!(
                "! {url}: {:.0}% of {resource} are in use",
                share * 100.0
            ));
        }
    }
    remarks
}

/// Adds up rates of all nodes by their name.
fn sum(
    rates: &[(&str, &Rates)],
    field: fn(&Rates) -> &BTreeMap<String, f64>,
) -> BTreeMap<String, f64> {
    let mut sum = BTreeMap::new();
    for (_, rates) in rates {
        for (name, rate) in field(rates) {
            *sum.entry(name.clone()).or_default() += rate;
        }
    }
    sum
}

/// Returns the apps that do most now, over all nodes.
fn busiest(rates: &[(&str, &Rates)], room: usize) -> Vec<AppRates> {
    let mut apps: BTreeMap<&str, AppRates> = BTreeMap::new();
    for (_, rates) in rates {
        for app in &rates.apps {
            let sum = apps.entry(&app.id).or_default();
            sum.id.clone_from(&app.id);
            sum.connections += app.connections;
            sum.events += app.events;
            sum.refused += app.refused;
            sum.deliveries += app.deliveries;
            sum.delivered_bytes += app.delivered_bytes;
            sum.messages += app.messages;
        }
    }
    let mut apps: Vec<AppRates> = apps.into_values().collect();
    let work = |app: &AppRates| app.events + app.refused + app.deliveries + app.messages;
    apps.sort_by(|a, b| {
        let by_work = work(b).total_cmp(&work(a));
        by_work.then(b.connections.total_cmp(&a.connections))
    });
    apps.truncate(room);
    apps
}

fn table_of_apps(apps: &[AppRates]) -> String {
    let headings = [
        "APP",
        "CONN",
        "EVENTS/s",
        "REFUSED/s",
        "DELIV/s",
        "OUT/s",
        "MESSAGES/s",
    ];
    let rows: Vec<Vec<String>> = apps
        .iter()
        .map(|app| {
            vec![
                app.id.clone(),
                count(app.connections),
                count(app.events),
                count(app.refused),
                count(app.deliveries),
                bytes(app.delivered_bytes),
                count(app.messages),
            ]
        })
        .collect();
    table_text(&headings, &rows)
}

/// Writes a number of things with three digits: `0`, `0.4`, `123`, `4.5k`, `67.8M`.
fn count(value: f64) -> String {
    match value {
        _ if value == 0.0 => "0".into(),
        _ if value < 9.95 && value.fract() > 0.0 => format!("{value:.1}"),
        _ if value < 9999.5 => format!("{value:.0}"),
        _ if value < 999_950.0 => format!("{:.1}k", value / 1e3),
        _ => format!("{:.1}M", value / 1e6),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "amounts are never negative, and far below 2^64"
)]
fn bytes(value: f64) -> String {
    ByteSize(value as u64).display().iec_short().to_string()
}

fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".into(),
        Some(seconds) if seconds < 0.001 => format!("{:.0}us", seconds * 1e6),
        Some(seconds) if seconds < 1.0 => format!("{:.1}ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1}s"),
    }
}

/// Writes how long a node runs, with its two largest units.
fn age(up: Duration) -> String {
    let seconds = up.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;
    use crate::metrics::Document;

    fn rates() -> Rates {
        let empty = Document {
            metrics: Vec::new(),
        };
        Rates {
            ready: true,
            ..Rates::between(&empty, &empty, Duration::from_secs(1))
        }
    }

    fn screen(state: &Result<Option<Rates>, Failure>) -> String {
        draw_rates(&[("http://a", state)], Size::UNBOUNDED)
    }

    #[test]
    fn a_node_that_is_well_gets_a_line_and_no_remark() {
        let text = screen(&Ok(Some(rates())));
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("ready"), "{text}");
    }

    #[test]
    fn what_stands_out_is_said_with_what_to_do() {
        let p99 = |seconds| Quantiles {
            median: None,
            p99: Some(seconds),
        };
        let cases = [
            (
                Rates {
                    delay: p99(0.8),
                    ..rates()
                },
                "LAGS",
                "takes 800.0ms or more",
            ),
            (
                Rates {
                    ready: false,
                    ..rates()
                },
                "NOT READY",
                "/readyz says why",
            ),
            (
                Rates {
                    connected: Some(false),
                    ..rates()
                },
                "CUT OFF",
                "looks at what they share",
            ),
            (
                Rates {
                    slow_consumers: 2.0,
                    ..rates()
                },
                "ready",
                "closes 2/s slow consumers",
            ),
            (
                Rates {
                    refused_publishes: [("over_rate".into(), 40.0)].into(),
                    ..rates()
                },
                "ready",
                "over_rate: 40/s; an app is over limits",
            ),
            (
                Rates {
                    refused: [("bad_signature".into(), 3.0)].into(),
                    ..rates()
                },
                "ready",
                "bad_signature 3/s",
            ),
            (
                Rates {
                    budgets: [("connections".into(), 0.93)].into(),
                    ..rates()
                },
                "ready",
                "93% of connections",
            ),
        ];
        for (rates, state, remark) in cases {
            let text = screen(&Ok(Some(rates)));
            assert!(text.contains(state) && text.contains(remark), "{text}");
        }
        let text = screen(&Err(Failure::new(Code::Unavailable, "connection refused")));
        assert!(
            text.contains("DOWN") && text.contains("connection refused"),
            "{text}"
        );
    }

    #[test]
    fn every_result_of_a_refused_publish_has_its_explanation() {
        for result in fanfare_engine::PublishResult::ALL {
            let name = result.as_str();
            let known = REFUSALS.iter().any(|(refused, _)| *refused == name);
            assert!(known || ["accepted", "duplicate"].contains(&name), "{name}");
        }
    }

    #[test]
    fn the_app_that_floods_comes_first_over_all_nodes() {
        let app = |id: &str, events: f64| AppRates {
            id: id.into(),
            events,
            ..AppRates::default()
        };
        let with = |apps: Vec<AppRates>| Rates { apps, ..rates() };
        let one = Ok(Some(with(vec![app("calm", 5.0), app("floods", 4.0)])));
        let two = Ok(Some(with(vec![app("floods", 9.0)])));
        let text = draw_rates(&[("http://a", &one), ("http://b", &two)], Size::UNBOUNDED);
        let at = |id: &str| text.find(id).unwrap_or_else(|| panic!("{text}"));
        assert!(at("floods") < at("calm"), "{text}");
        assert!(text.contains(" 13 "), "{text}");
    }

    #[test]
    fn the_text_fits_on_the_terminal() {
        let apps = (0..100).map(|id| AppRates {
            id: id.to_string(),
            ..AppRates::default()
        });
        let state = Ok(Some(Rates {
            apps: apps.collect(),
            ..rates()
        }));
        let text = draw_rates(
            &[("http://a", &state)],
            Size {
                columns: 30,
                rows: 20,
            },
        );
        assert!(text.lines().count() < 20, "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 30),
            "{text}"
        );
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.44, "0.4"),
            (5.0, "5"),
            (1234.0, "1234"),
            (45_670.0, "45.7k"),
            (2.5e6, "2.5M"),
        ] {
            assert_eq!(count(value), text);
        }
        for (seconds, text) in [
            (Some(0.000_2), "200us"),
            (Some(0.25), "250.0ms"),
            (Some(2.0), "2.0s"),
            (None, "-"),
        ] {
            assert_eq!(time(seconds), text);
        }
        for (seconds, text) in [
            (59, "59s"),
            (61, "1m 1s"),
            (7500, "2h 5m"),
            (200_000, "2d 7h"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
