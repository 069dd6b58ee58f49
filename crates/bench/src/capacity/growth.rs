//! The figures of all sizes, their spread, and which of them grow.

use super::axis::{Axis, Judged};
use crate::report::{Figure, median};

/// A cost that has grown by more than this counts as growing.
pub(crate) const BOUND: f64 = 1.3;

/// All sizes of an axis.
pub(crate) struct Sweep {
    /// What is swept over.
    pub(crate) axis: Axis,
    /// The sizes, in ascending order.
    pub(crate) points: Vec<Point>,
}

/// One size.
pub(crate) struct Point {
    /// The size.
    pub(crate) size: usize,
    /// Figures of each round, in the same order.
    pub(crate) rounds: Vec<Vec<Figure>>,
}

/// A figure over all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// The lowest value.
    pub(crate) min: f64,
    /// The median.
    pub(crate) median: f64,
    /// The highest value.
    pub(crate) max: f64,
}

impl Point {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            rounds: Vec::new(),
        }
    }

    /// Returns the names and decimals of the figures.
    pub(crate) fn figures(&self) -> &[Figure] {
        self.rounds.first().map_or(&[], Vec::as_slice)
    }

    /// Returns a figure over all rounds, unless it was not measured at this size.
    pub(crate) fn spread(&self, name: &str) -> Option<Spread> {
        let values = self.rounds.iter().flatten();
        let values: Vec<f64> = values
            .filter(|figure| figure.name() == name && figure.value().is_finite())
            .map(Figure::value)
            .collect();
        (!values.is_empty()).then(|| Spread {
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            median: median(values),
        })
    }
}

impl Sweep {
    /// Returns a judged figure's sizes and spreads.
    pub(crate) fn judged(&self, judged: &Judged) -> Vec<(usize, Spread)> {
        let sizes = self.points.iter().filter(|point| point.size >= judged.from);
        sizes
            .filter_map(|point| Some((point.size, point.spread(judged.name)?)))
            .collect()
    }

    /// Returns how often the cost of a unit is that of the smallest before it, at most, and at which size.
    pub(crate) fn growth(&self, judged: &Judged) -> Option<(f64, usize)> {
        let mut smallest = f64::INFINITY;
        let mut most: Option<(f64, usize)> = None;
        for (size, spread) in self.judged(judged) {
            if smallest.is_finite() && smallest > 0.0 {
                let times = spread.median / smallest;
                if most.is_none_or(|(most, _)| times > most) {
                    most = Some((times, size));
                }
            }
            smallest = smallest.min(spread.median);
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::super::sweep;
    use super::*;

    fn sweep_of(values: &[(usize, f64)]) -> Sweep {
        let point = |(size, value): &(usize, f64)| Point {
            size: *size,
            rounds: [0.9, 1.0, 1.4]
                .map(|times| vec![Figure::new(sweep::DELIVERY, value * times, 2)])
                .into(),
        };
        Sweep {
            axis: Axis::Subscribers,
            points: values.iter().map(point).collect(),
        }
    }

    #[test]
    fn a_cost_that_falls_with_the_size_does_not_grow() {
        let judged = &Axis::Subscribers.judged()[0];
        let (times, _) = sweep_of(&[(1, 20.0), (10, 8.0), (100, 6.0)])
            .growth(judged)
            .expect("two sizes");
        assert!(times < 1.0, "{times}");
    }

    #[test]
    fn growth_is_that_over_the_smallest_before_it() {
        let judged = &Axis::Subscribers.judged()[0];
        let (times, size) = sweep_of(&[(1, 20.0), (10, 6.0), (100, 9.0), (1000, 8.0)])
            .growth(judged)
            .expect("four sizes");
        assert_eq!((format!("{times:.2}").as_str(), size), ("1.50", 100));
    }

    #[test]
    fn a_spread_is_that_of_the_rounds() {
        let sweep = sweep_of(&[(1, 10.0)]);
        let spread = sweep.points[0]
            .spread(sweep::DELIVERY)
            .expect("three rounds");
        assert_eq!(
            format!("{spread:?}"),
            "Spread { min: 9.0, median: 10.0, max: 14.0 }"
        );
        assert_eq!(sweep.points[0].spread("another"), None);
    }
}
