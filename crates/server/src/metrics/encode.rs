//! The formats of metrics: Prometheus' text, OpenMetrics, Prometheus' protobuf, which carries native histograms, and
//! JSON for programs that aren't scrapers.

use std::fmt::Error;

use fanfare_engine::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, MetricEncoder, NativeHistogram, NativeHistogramBuckets, NoLabelSet,
    prometheus_protobuf, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::catalog::{CATALOG, Kind, Series, Value};
use super::document::Document;
use super::snapshot::Snapshot;

/// A format that a scraper may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text, version 0.0.4.
    Text,
    /// OpenMetrics' text, version 1.0.0.
    OpenMetrics,
    /// Prometheus' protobuf, length-delimited.
    Protobuf,
    /// One JSON object: [`Document`].
    Json,
}

impl Format {
    const ALL: [Self; 4] = [Self::Protobuf, Self::OpenMetrics, Self::Text, Self::Json];

    /// Returns the format that the lines of `Accept` like best, and the text if they name none of them.
    pub(super) fn negotiate<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let mut best = (0.0, Self::Text);
        for range in accept.flat_map(|line| line.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let parameters: Vec<&str> = parts.collect();
            let quality = parameters
                .iter()
                .find_map(|parameter| parameter.strip_prefix("q=")?.parse().ok())
                .unwrap_or(1.0);
            let format = Self::ALL
                .into_iter()
                .find(|format| format.is_meant_by(media_type, &parameters));
            if let Some(format) = format
                && quality > best.0
            {
                best = (quality, format);
            }
        }
        best.1
    }

    fn is_meant_by(self, media_type: &str, parameters: &[&str]) -> bool {
        match self {
            Self::Text => media_type == "text/plain",
            Self::OpenMetrics => media_type == "application/openmetrics-text",
            Self::Json => media_type == "application/json",
            Self::Protobuf => {
                media_type == "application/vnd.google.protobuf"
                    && parameters.contains(&"proto=io.prometheus.client.MetricFamily")
                    && parameters.contains(&"encoding=delimited")
            }
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Json => "application/json",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Encodes a snapshot.
pub(super) fn encode(snapshot: Snapshot, format: Format) -> Vec<u8> {
    if format == Format::Json {
        return serde_json::to_vec(&Document::from(&snapshot)).expect("a document is JSON");
    }
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut written = String::new();
    let written = match format {
        Format::Text => {
            prometheus_text::encode(&mut written, &registry).map(|()| written.into_bytes())
        }
        Format::OpenMetrics => text::encode(&mut written, &registry).map(|()| written.into_bytes()),
        Format::Protobuf | Format::Json => {
            return prometheus_protobuf::encode_to_vec(&registry).expect("a vector takes all");
        }
    };
    written.expect("a string takes all")
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        for family in CATALOG {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let name = family.name.strip_suffix("_total").unwrap_or(family.name);
            let mut metric = encoder.encode_descriptor(name, family.help, None, kind)?;
            for Series { labels, value } in (family.read)(self) {
                let names = family.labels.iter().copied();
                let labels: Vec<(&str, String)> = names.zip(labels).collect();
                encode_value(&value, metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn encode_value(value: &Value, mut metric: MetricEncoder<'_>) -> Result<(), Error> {
    match value {
        Value::Counter(value) => metric.encode_counter::<NoLabelSet, _, u64>(value, None),
        Value::Seconds(value) => metric.encode_counter::<NoLabelSet, _, f64>(value, None),
        Value::Gauge(value) => metric.encode_gauge(value),
        Value::Histogram(histogram) => encode_histogram(histogram, metric),
    }
}

fn encode_histogram(histogram: &Histogram, mut metric: MetricEncoder<'_>) -> Result<(), Error> {
    let count = histogram.count();
    let mut before = 0;
    // The encoder wants each bucket's own count, and adds them up itself.
    let mut buckets: Vec<(f64, u64)> = histogram
        .doublings()
        .map(|(bound, up_to)| (bound, up_to - std::mem::replace(&mut before, up_to)))
        .collect();
    buckets.push((f64::INFINITY, count - before));
    let (spans, deltas) = spans_and_deltas(histogram);
    let none = NativeHistogramBuckets {
        spans: &[],
        deltas: &[],
    };
    let native = NativeHistogram {
        schema: Histogram::SCHEMA,
        // Zeros and the shortest durations count in the first bucket.
        zero_threshold: 0.0,
        zero_count: 0,
        negative: none,
        positive: NativeHistogramBuckets {
            spans: &spans,
            deltas: &deltas,
        },
        created: None,
    };
    metric.encode_histogram_with_native::<NoLabelSet>(
        histogram.sum(),
        count,
        &buckets,
        None,
        native,
    )
}

/// Returns the buckets of a native histogram as Prometheus writes them: runs of neighbours, each with its distance from
/// the run before, and the differences of their counts.
fn spans_and_deltas(histogram: &Histogram) -> (Vec<(i32, u32)>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<(i32, u32)>, _) = (Vec::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    for (index, count) in histogram.native() {
        match spans.last_mut() {
            Some((_, length)) if index == next => *length += 1,
            _ => spans.push((index - next, 1)),
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        (next, before) = (index + 1, count);
    }
    if spans.is_empty() {
        // Tells an empty native histogram from a classic one.
        spans.push((0, 0));
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_format_is_the_one_that_the_scraper_likes_best() {
        let negotiate = |line: &str| Format::negotiate(std::iter::once(line));
        // As Prometheus 3 sends it with and without native histograms.
        let with = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                    application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                    application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(negotiate(with), Format::Protobuf);
        let without = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                       text/plain;version=0.0.4;q=0.4,*/*;q=0.2";
        assert_eq!(negotiate(without), Format::OpenMetrics);
        assert_eq!(negotiate("*/*"), Format::Text, "curl");
        assert_eq!(negotiate("text/html, text/plain;q=0.5"), Format::Text);
        assert_eq!(Format::negotiate(std::iter::empty()), Format::Text);
        assert_eq!(
            negotiate("application/vnd.google.protobuf"),
            Format::Text,
            "another message"
        );
    }

    #[test]
    fn native_buckets_are_runs_with_differences() {
        let mut histogram = Histogram::default();
        for (times, seconds) in [(3, 0.5), (1, 0.54), (2, 2.0)] {
            (0..times).for_each(|_| histogram.observe(Duration::from_secs_f64(seconds)));
        }
        let (spans, deltas) = spans_and_deltas(&histogram);
        assert_eq!(spans, [(-8, 2), (14, 1)]);
        assert_eq!(deltas, [3, -2, 1]);
        let empty = spans_and_deltas(&Histogram::default());
        assert_eq!(empty, (vec![(0, 0)], vec![]));
    }
}
