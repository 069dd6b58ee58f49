//! Plots as SVG, written by hand because a plotting library would outweigh the program: a panel for each judged figure.

use std::fmt::Write as _;

use clap::ValueEnum;

use super::axis::Judged;
use super::growth::{BOUND, Spread, Sweep};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 240.0;
/// How many panels are beside each other: with more of them a page shrinks their text.
const PANELS_IN_ROW: usize = 2;
/// What the ground has to the right of and below the panels, whose last labels end at their edge.
const BORDER: f64 = 8.0;
/// Space around the lines: left, right, above, below.
const MARGIN: [f64; 4] = [52.0, 16.0, 40.0, 44.0];
/// Colours of the dashboard, in both schemes. A picture in a page follows the reader's system, and has a ground of its own for pages
/// that don't.
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1c2127}.title{font-weight:600}\
     .ground{fill:#f6f7f8;stroke:#dce0e4}.grid{stroke:#dce0e4}.line{stroke:#0a5fb4;fill:none;stroke-width:2}.dot{fill:#0a5fb4}\
     .spread{stroke:#0a5fb4;stroke-opacity:.5}.bound{stroke:#b8341d;stroke-dasharray:5 4}.note{fill:#b8341d}\
     @media(prefers-color-scheme:dark){text{fill:#e4e8ed}.ground{fill:#14171c;stroke:#2f3640}.grid{stroke:#2f3640}\
     .line,.spread{stroke:#6cb6ff}.dot{fill:#6cb6ff}.bound{stroke:#ff8a70}.note{fill:#ff8a70}}";

/// Returns the name of a sweep's file.
pub(crate) fn file_name(sweep: &Sweep) -> String {
    let value = sweep.axis.to_possible_value();
    format!(
        "capacity-{}.svg",
        value.as_ref().map_or("", |value| value.get_name())
    )
}

/// Returns a sweep's plot.
pub(crate) fn svg(sweep: &Sweep) -> String {
    let panels: Vec<(&Judged, Vec<(usize, Spread)>)> = sweep
        .axis
        .judged()
        .iter()
        .map(|judged| (judged, sweep.judged(judged)))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    let times = |length: f64, count: usize| length * crate::measure::as_f64(count as u64);
    let width = times(WIDTH, panels.len().clamp(1, PANELS_IN_ROW)) + BORDER;
    let height = times(HEIGHT, panels.len().div_ceil(PANELS_IN_ROW).max(1)) + BORDER;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\"><title>Cost per unit over {}</title><style>{STYLE}</style>\n\
         <rect class=\"ground\" x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"10\"/>\n",
        sweep.axis.unit(),
        width - 1.0,
        height - 1.0
    );
    for (at, (judged, points)) in panels.into_iter().enumerate() {
        let left = times(WIDTH, at % PANELS_IN_ROW);
        let top = times(HEIGHT, at / PANELS_IN_ROW);
        let _ = writeln!(out, "<g transform=\"translate({left} {top})\">");
        panel(&mut out, judged, &points, sweep.axis.unit());
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// Where values are drawn.
struct Scale {
    first: f64,
    last: f64,
    top: f64,
}

impl Scale {
    /// Returns the place of a size, on a logarithmic scale.
    fn x(&self, size: usize) -> f64 {
        let size = crate::measure::as_f64(size as u64).log10();
        let width = WIDTH - MARGIN[0] - MARGIN[1];
        let share = if self.last > self.first {
            (size - self.first) / (self.last - self.first)
        } else {
            0.5
        };
        MARGIN[0] + share * width
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - MARGIN[3] - value / self.top * (HEIGHT - MARGIN[2] - MARGIN[3])
    }
}

fn panel(out: &mut String, judged: &Judged, points: &[(usize, Spread)], unit: &str) {
    let log = |size: usize| crate::measure::as_f64(size as u64).log10();
    let bound = BOUND
        * points
            .iter()
            .map(|(_, spread)| spread.median)
            .fold(f64::INFINITY, f64::min);
    let highest = points
        .iter()
        .map(|(_, spread)| spread.max)
        .fold(bound, f64::max);
    let step = step_of(highest);
    let scale = Scale {
        first: log(points[0].0),
        last: log(points[points.len() - 1].0),
        top: (highest / step).ceil() * step,
    };
    let (left, right) = (MARGIN[0], WIDTH - MARGIN[1]);
    let title = judged.name.replace(", us", ", µs");
    let _ = writeln!(
        out,
        "<text class=\"title\" x=\"{left}\" y=\"20\">{title}</text>"
    );
    let mut tick = 0.0;
    while tick <= scale.top * 1.001 {
        let y = scale.y(tick);
        let decimals = if step < 1.0 { 1 } else { 0 };
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{tick:.decimals$}</text>",
            left - 6.0,
            y + 4.0
        );
        tick += step;
    }
    let y = scale.y(bound);
    let _ = writeln!(
        out,
        "<line class=\"bound\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
         <text class=\"note\" text-anchor=\"end\" x=\"{right}\" y=\"{:.1}\">{BOUND} × smallest</text>",
        y - 4.0
    );
    let mut line = String::new();
    for (size, spread) in points {
        let (x, y) = (scale.x(*size), scale.y(spread.median));
        let _ = write!(line, "{x:.1},{y:.1} ");
        let _ = writeln!(
            out,
            "<line class=\"spread\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>\
             <text text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            scale.y(spread.min),
            scale.y(spread.max),
            HEIGHT - MARGIN[3] + 17.0,
            short(*size)
        );
    }
    let _ = writeln!(
        out,
        "<polyline class=\"line\" points=\"{}\"/>",
        line.trim_end()
    );
    let _ = writeln!(
        out,
        "<text text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{unit}</text>",
        f64::midpoint(left, right),
        HEIGHT - 8.0
    );
}

/// Returns a round distance between lines of the grid, so that there are four to eight.
fn step_of(highest: f64) -> f64 {
    let power = 10_f64.powf((highest.max(f64::MIN_POSITIVE) / 4.0).log10().floor());
    let times = highest / 4.0 / power;
    let round = [5.0, 2.0, 1.0].into_iter().find(|round| *round <= times);
    power * round.unwrap_or(1.0)
}

/// Returns a size that fits below its place.
fn short(size: usize) -> String {
    match size {
        1_000_000.. => format!("{}M", size / 1_000_000),
        1000.. => format!("{}k", size / 1000),
        small => small.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::axis::Axis;
    use super::super::growth::Point;
    use super::super::sweep::DELIVERY;
    use super::*;
    use crate::report::Figure;

    #[test]
    fn a_plot_is_a_picture_with_every_size() {
        let point = |size: usize| Point {
            size,
            rounds: vec![vec![Figure::new(DELIVERY, 5.5, 1)]],
        };
        let sweep = Sweep {
            axis: Axis::Subscribers,
            points: [1, 100, 19_000].map(point).into(),
        };
        let text = svg(&sweep);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert_eq!(text.matches("<circle").count(), 3);
        assert!(text.contains(">19k</text>") && text.contains("prefers-color-scheme:dark"));
        assert!(!text.contains("NaN"), "{text}");
    }

    #[test]
    fn lines_of_the_grid_are_at_round_values() {
        let steps =
            [0.5, 1.0, 7.0, 19.0, 130.0, 2500.0].map(|highest| format!("{}", step_of(highest)));
        assert_eq!(steps, ["0.1", "0.2", "1", "2", "20", "500"]);
    }
}
