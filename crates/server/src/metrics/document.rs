//! All metrics as one JSON object, for `fanfare top` and other programs that aren't scrapers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::catalog::{CATALOG, Value};
use super::snapshot::Snapshot;

/// Buckets of a histogram: the upper bound of each in seconds, and how many values are in it alone.
pub(crate) type Buckets = Vec<(f64, u64)>;

/// All metrics of a node at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) metrics: Vec<Metric>,
}

/// A metric: series that differ only in their labels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) series: Vec<Sample>,
}

/// A value and its labels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(crate) value: Number,
}

/// A number, or a histogram.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Number {
    Plain {
        value: f64,
    },
    Histogram {
        sum: f64,
        count: u64,
        buckets: Buckets,
    },
}

impl From<&Snapshot> for Document {
    fn from(snapshot: &Snapshot) -> Self {
        let metrics = CATALOG.iter().map(|family| Metric {
            name: family.name.into(),
            series: (family.read)(snapshot)
                .into_iter()
                .map(|series| {
                    let names = family.labels.iter().map(ToString::to_string);
                    Sample {
                        labels: names.zip(series.labels).collect(),
                        value: Number::from(series.value),
                    }
                })
                .collect(),
        });
        Self {
            metrics: metrics.collect(),
        }
    }
}

impl From<Value> for Number {
    fn from(value: Value) -> Self {
        match value {
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
            Value::Counter(value) => Self::Plain {
                value: value as f64,
            },
            Value::Seconds(value) | Value::Gauge(value) => Self::Plain { value },
            Value::Histogram(histogram) => Self::Histogram {
                sum: histogram.sum(),
                count: histogram.count(),
                buckets: histogram
                    .native()
                    .map(|(index, count)| ((f64::from(index) / 8.0).exp2(), count))
                    .collect(),
            },
        }
    }
}

impl Document {
    /// Returns the value of a metric's series whose labels all match, or their sum if there are several.
    pub(crate) fn number(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matching = self.samples(name).filter(|sample| {
            labels
                .iter()
                .all(|(label, value)| sample.labels.get(*label).is_some_and(|is| is == value))
        });
        matching
            .map(|sample| match sample.value {
                Number::Plain { value } => value,
                Number::Histogram { .. } => 0.0,
            })
            .sum()
    }

    /// Returns whether a metric has any value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.samples(name).next().is_some()
    }

    /// Returns the values of a metric by one of its labels.
    pub(crate) fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        self.samples(name)
            .filter_map(|sample| match sample.value {
                Number::Plain { value } => Some((sample.labels.get(label)?.clone(), value)),
                Number::Histogram { .. } => None,
            })
            .collect()
    }

    /// Returns the buckets of a histogram without labels.
    pub(crate) fn buckets(&self, name: &str) -> Buckets {
        self.samples(name)
            .find_map(|sample| match &sample.value {
                Number::Histogram { buckets, .. } => Some(buckets.clone()),
                Number::Plain { .. } => None,
            })
            .unwrap_or_default()
    }

    fn samples(&self, name: &str) -> impl Iterator<Item = &Sample> {
        let named = self
            .metrics
            .iter()
            .filter(move |metric| metric.name == name);
        named.flat_map(|metric| &metric.series)
    }
}
