//! Figures, their medians over the rounds, and the table that compares servers.
#![allow(clippy::print_stdout, reason = "the table is this program's output")]

use std::fmt::Write as _;

/// Rows that show how busy the generator was.
const GENERATOR: [&str; 2] = ["generator CPU, cores", "generator waiting for a core"];
/// Share of the time above which a generator that ran, or waited for a core, counts as the limit.
const LIMIT: f64 = 0.9;

/// One measured number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    name: &'static str,
    value: f64,
    decimals: usize,
}

impl Figure {
    /// Returns a number that is shown with `decimals` decimals.
    pub(crate) fn new(name: &'static str, value: f64, decimals: usize) -> Self {
        Self {
            name,
            value,
            decimals,
        }
    }

    /// Returns its name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the number.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// Returns how many decimals it is shown with.
    pub(crate) fn decimals(&self) -> usize {
        self.decimals
    }

    /// Returns the rows for how much of the time the generator ran, and waited for a core that another process had.
    pub(crate) fn generator(ran: f64, waited: f64) -> [Self; 2] {
        let [first, second] = GENERATOR;
        [Self::new(first, ran, 2), Self::new(second, waited, 2)]
    }
}

/// Figures of one server in all rounds.
pub(crate) struct Column {
    /// The server's name.
    pub(crate) name: String,
    /// The figures of each round, in the same order.
    pub(crate) rounds: Vec<Vec<Figure>>,
}

impl Column {
    fn medians(&self) -> Vec<Figure> {
        let first = self.rounds.first().map_or(&[][..], Vec::as_slice);
        let median_at = |(row, figure): (usize, &Figure)| {
            let values = self.rounds.iter().map(|round| round[row].value).collect();
            Figure {
                value: median(values),
                ..figure.clone()
            }
        };
        first.iter().enumerate().map(median_at).collect()
    }

    /// Returns whether the generator was the limit in any round, not only in the median one.
    fn generator_was_the_limit(&self) -> bool {
        let busy = |round: &Vec<Figure>| -> f64 {
            let rows = round.iter().filter(|row| GENERATOR.contains(&row.name));
            rows.map(|row| row.value).sum()
        };
        self.rounds.iter().map(busy).any(|busy| busy > LIMIT)
    }
}

/// Returns the median. Of an even number of values that is the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

/// Returns one round's figures as a line, which shows how far rounds differ.
pub(crate) fn line(figures: &[Figure]) -> String {
    let parts: Vec<String> = figures
        .iter()
        .map(|figure| format!("{} {}", figure.name, shown(figure)))
        .collect();
    parts.join("; ")
}

/// Prints a page.
pub(crate) fn print_page(page: &str) {
    println!("{page}");
}

/// Prints the medians of all servers side by side.
pub(crate) fn print(title: &str, columns: &[Column]) {
    println!("\n{}", table(title, columns));
    for column in columns {
        if column.generator_was_the_limit() {
            println!(
                "The generator was the limit with {}: it ran, or waited for a core, more than 90 % of the time, so rates are a lower bound.",
                column.name
            );
        }
    }
}

fn table(title: &str, columns: &[Column]) -> String {
    let medians: Vec<Vec<Figure>> = columns.iter().map(Column::medians).collect();
    let rounds = columns.first().map_or(0, |column| column.rounds.len());
    let mut out = format!("{title}; median of {rounds}\n");
    let _ = write!(out, "{:<32}", "");
    for column in columns {
        let _ = write!(out, "{:>12}", column.name);
    }
    if let [first, second] = columns {
        let _ = write!(out, "{:>16}", format!("{}/{}", second.name, first.name));
    }
    for row in 0..medians.first().map_or(0, Vec::len) {
        let _ = write!(out, "\n{:<32}", medians[0][row].name);
        for column in &medians {
            let _ = write!(out, "{:>12}", shown(&column[row]));
        }
        if let [first, second] = medians.as_slice() {
            let _ = write!(out, "{:>16}", ratio(first[row].value, second[row].value));
        }
    }
    out
}

fn shown(figure: &Figure) -> String {
    if figure.value.is_nan() {
        "-".into()
    } else {
        format!("{:.*}", figure.decimals, figure.value)
    }
}

fn ratio(floor: f64, other: f64) -> String {
    let ratio = other / floor;
    if ratio.is_finite() {
        format!("{ratio:.2}")
    } else {
        "-".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_string(), "2");
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]).to_string(), "2.5");
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_ratio_to_nothing_is_not_shown() {
        assert_eq!(ratio(2.0, 3.0), "1.50");
        assert_eq!(ratio(0.0, 3.0), "-");
        assert_eq!(ratio(0.0, 0.0), "-");
    }

    #[test]
    fn a_table_has_a_ratio_when_two_are_compared() {
        let column = |name, values: [f64; 3]| Column {
            name: str::to_owned(name),
            rounds: values
                .map(|value| vec![Figure::new("things/s", value, 1)])
                .into(),
        };
        let both = [
            column("floor", [1.0, 2.0, 9.0]),
            column("fanfare", [4.0, 3.0, 5.0]),
        ];
        let text = table("title", &both);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[0], ["title;", "median", "of", "3"]);
        assert_eq!(rows[1], ["floor", "fanfare", "fanfare/floor"]);
        assert_eq!(rows[2], ["things/s", "2.0", "4.0", "2.00"]);
        assert!(!table("title", &both[..1]).contains("fanfare"));
    }

    #[test]
    fn one_busy_round_is_enough_to_call_the_generator_the_limit() {
        let column = |shares: &[(f64, f64)]| Column {
            name: "floor".into(),
            rounds: shares
                .iter()
                .map(|(ran, waited)| Figure::generator(*ran, *waited).into())
                .collect(),
        };
        assert!(column(&[(0.5, 0.0), (0.95, 0.0)]).generator_was_the_limit());
        assert!(column(&[(0.5, 0.45)]).generator_was_the_limit());
        assert!(!column(&[(0.5, 0.1), (0.2, 0.6)]).generator_was_the_limit());
    }
}
