//! The page: a table for each axis, what grows, and the plan.

use std::fmt::Write as _;

use super::axis::Judged;
use super::growth::{BOUND, Point, Sweep};
use super::need::{Figures, Need, grouped};
use super::plot;
use crate::report::Figure;

/// Returns the page as Markdown.
pub(crate) fn page(sweeps: &[Sweep], need: &Need, with_plots: bool) -> String {
    let mut out = String::new();
    for sweep in sweeps {
        out.push_str(&section(sweep, with_plots));
        out.push('\n');
    }
    match Figures::of(sweeps) {
        Some(figures) => out.push_str(&need.page(&figures)),
        None => out.push_str("A plan needs all sweeps.\n"),
    }
    out
}

fn section(sweep: &Sweep, with_plots: bool) -> String {
    let unit = sweep.axis.unit();
    let mut out = format!("## {}\n\n{}\n\n", capitalized(unit), sweep.axis.method());
    if with_plots {
        let _ = writeln!(
            out,
            "![Cost per unit over {unit}]({})\n",
            plot::file_name(sweep)
        );
    }
    let names: Vec<&Figure> = sweep
        .points
        .first()
        .into_iter()
        .flat_map(Point::figures)
        .filter(|figure| !figure.name().starts_with("generator"))
        .collect();
    let _ = write!(out, "| {unit} |");
    for figure in &names {
        let _ = write!(out, " {} |", figure.name().replace(", us", ", µs"));
    }
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(names.len()));
    for point in &sweep.points {
        let _ = write!(out, "| {} |", grouped(point.size as u64));
        for figure in &names {
            let _ = write!(out, " {} |", cell(point, figure));
        }
        out.push('\n');
    }
    out.push('\n');
    for judged in sweep.axis.judged() {
        let _ = writeln!(out, "- {}", verdict(sweep, judged));
    }
    out
}

/// Returns a figure's median, and its lowest and highest value.
fn cell(point: &Point, figure: &Figure) -> String {
    let Some(spread) = point.spread(figure.name()) else {
        return "-".into();
    };
    let shown = |value: f64| format!("{value:.*}", figure.decimals());
    let median = shown(spread.median);
    if point.rounds.len() < 2 {
        return median;
    }
    format!("{median} ({}..{})", shown(spread.min), shown(spread.max))
}

fn verdict(sweep: &Sweep, judged: &Judged) -> String {
    let name = judged.name.replace(", us", "");
    match sweep.growth(judged) {
        None => format!("{name}: too few sizes to tell."),
        Some((times, size)) if times > BOUND => format!(
            "**{name} grows**: at {} it is {times:.2} times the smallest before it, over {BOUND}.",
            grouped(size as u64)
        ),
        Some((times, size)) if times > 1.0 => format!(
            "{name}: at most {times:.2} times the smallest before it, at {}.",
            grouped(size as u64)
        ),
        Some(_) => format!("{name}: falls."),
    }
}

/// Returns the text with its first letter in upper case.
pub(crate) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::axis::Axis;
    use super::super::sweep::DELIVERY;
    use super::*;

    #[test]
    fn a_table_has_medians_with_their_spread_and_says_what_grows() {
        let point = |size: usize, values: [f64; 3]| Point {
            size,
            rounds: values
                .map(|value| {
                    vec![
                        Figure::new(DELIVERY, value, 1),
                        Figure::new("n", f64::NAN, 1),
                    ]
                })
                .into(),
        };
        let sweep = Sweep {
            axis: Axis::Subscribers,
            points: vec![point(10, [2.0, 1.0, 4.0]), point(1000, [5.0, 3.0, 3.0])],
        };
        let text = section(&sweep, true);
        assert!(text.contains("| 10 | 2.0 (1.0..4.0) | - |"), "{text}");
        assert!(text.contains("| 1,000 | 3.0 (3.0..5.0) | - |"), "{text}");
        assert!(
            text.contains("delivery grows**: at 1,000 it is 1.50 times"),
            "{text}"
        );
        assert!(text.contains("](capacity-subscribers.svg)"), "{text}");
    }
}
