//! The parts of the documentation that are made out of the program: `fanfare reference` reads a page and prints it with these
//! parts renewed. A test compares the pages with what it prints.
//!
//! A part stands between two lines, `[//]: # (fanfare reference NAME)` and `[//]: # (end)`, which no reader sees. In lists of
//! settings, facts follow the heading of each; in tables of settings, they are the columns between name and meaning.

mod commands;
mod released;
mod routes;
mod settings;

use anyhow::bail;

const BEGIN: &str = "[//]: # (fanfare reference ";
const END: &str = "[//]: # (end)";
/// How the facts of a setting begin, which are one list.
const FACTS: &str = "- Default: ";

/// Returns a page with its made parts renewed.
///
/// # Errors
///
/// Returns an error if a part has no end, or no such name.
pub(crate) fn renew(page: &str) -> anyhow::Result<String> {
    let of_server = settings::of_server();
    let of_apps = settings::of_apps();
    let mut renewed = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(row) = settings::row(line, &of_apps) {
            renewed += &row;
            continue;
        }
        renewed += line;
        renewed.push('\n');
        if let Some(name) = line.strip_prefix(BEGIN) {
            let name = name.trim_end_matches(')');
            // The line after a table without an empty one would be a row of it.
            renewed += &format!("\n{}\n\n{END}\n", part(name)?.trim_end());
            if !lines.any(|line| line == END) {
                bail!("the part {name} has no end: the line {END} must follow it");
            }
        } else if let Some(facts) = settings::of_heading(line, &of_server) {
            while lines.next_if(|line| line.is_empty()).is_some() {}
            if lines.next_if(|line| line.starts_with(FACTS)).is_some() {
                while lines.next_if(|line| !line.is_empty()).is_some() {}
            } else {
                // There was nothing between the heading and the prose.
                renewed += &format!("\n{facts}\n");
                continue;
            }
            renewed += &format!("\n{facts}");
        }
    }
    Ok(renewed)
}

fn part(name: &str) -> anyhow::Result<String> {
    Ok(match name {
        "ceilings" => settings::ceilings(),
        "commands" => commands::all(),
        "metrics" => crate::metrics::table(),
        "admin requests" => routes::of_admin_api(),
        "requests" => routes::of_others(),
        _ => bail!(
            "there is no part {name:?}: there are ceilings, commands, metrics, requests and admin requests"
        ),
    })
}

/// Returns the names of everything that users write or read: settings, commands with their flags, metrics and routes.
/// `released` keeps those of each release.
pub(crate) fn names() -> String {
    let settings = settings::names();
    let all = settings
        .into_iter()
        .chain(commands::names())
        .chain(crate::metrics::names().map(str::to_owned))
        .chain(routes::names());
    let mut all: Vec<String> = all.collect();
    all.sort_unstable();
    all.dedup();
    all.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_what_the_program_prints() {
        for (name, page) in [
            ("admin-api", include_str!("../../../docs/admin-api.md")),
            ("http-api", include_str!("../../../docs/http-api.md")),
            ("commands", include_str!("../../../docs/commands.md")),
            (
                "configuration",
                include_str!("../../../docs/configuration.md"),
            ),
            ("metrics", include_str!("../../../docs/metrics.md")),
        ] {
            let renewed = renew(page).unwrap();
            let stale = page
                .lines()
                .zip(renewed.lines())
                .find(|(is, was)| is != was);
            assert!(
                renewed == page,
                "docs/{name}.md isn't what the program prints: run scripts/reference; first difference: {stale:?}"
            );
        }
    }

    #[test]
    fn a_part_without_an_end_is_refused() {
        let page = format!("{BEGIN}metrics)\n\ntext\n");
        assert!(renew(&page).unwrap_err().to_string().contains("no end"));
        let unknown = format!("{BEGIN}nothing)\n{END}\n");
        assert!(renew(&unknown).is_err());
    }
}
