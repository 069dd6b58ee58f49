//! Every command with its flags, out of the command line itself.

use clap::{Arg, Command};

use super::released::since;
use crate::cli::command_line;

/// Returns a section for each command that can be called.
pub(super) fn all() -> String {
    let mut root = command_line();
    root.build();
    let mut text = section(&root, "fanfare");
    walk(&root, "fanfare", &mut |command, path| {
        text += &section(command, path);
    });
    text
}

/// Returns the names of all commands and flags.
pub(super) fn names() -> Vec<String> {
    let mut root = command_line();
    root.build();
    let mut names = Vec::new();
    walk(&root, "fanfare", &mut |command, path| {
        names.push(path.to_owned());
        names.extend(shown(command).map(|flag| format!("{path} {}", flag_name(flag))));
    });
    names
}

/// Calls `visit` with each command that can be called, and how it is called.
fn walk(command: &Command, path: &str, visit: &mut impl FnMut(&Command, &str)) {
    let inner = command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help" && !inner.is_hide_set());
    for inner in inner {
        let path = format!("{path} {}", inner.get_name());
        if inner.has_subcommands() {
            walk(inner, &path, visit);
        } else {
            visit(inner, &path);
        }
    }
}

fn section(command: &Command, path: &str) -> String {
    let about = command.get_long_about().or_else(|| command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let usage = usage.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows: String = shown(command).map(row).collect();
    let table = match rows.is_empty() {
        true => String::new(),
        false => format!("| argument | meaning |\n|---|---|\n{rows}\n"),
    };
    let elsewhere = command
        .get_arguments()
        .any(|argument| argument.get_id() == "server");
    let elsewhere = match elsewhere {
        true => " It takes [`--server`](cli.md#another-server).",
        false => "",
    };
    format!(
        "## {path}\n\n{about}.{elsewhere} Since {}.\n\n```text\n{usage}\n```\n\n{table}",
        since(path)
    )
}

/// Returns the arguments that a command's help shows, without those that all commands of its kind have.
fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    let is_root = command.get_name() == "fanfare";
    command.get_arguments().filter(move |argument| {
        let id = argument.get_id().as_str();
        let is_common = [
            "config",
            "data_dir",
            "listen",
            "store_url",
            "set",
            "server",
            "token",
            "token_file",
        ]
        .contains(&id);
        !argument.is_hide_set() && !["help", "version"].contains(&id) && (is_root || !is_common)
    })
}

fn flag_name(argument: &Arg) -> String {
    let value = argument.get_value_names().unwrap_or_default();
    let takes = argument.get_action().takes_values();
    let value = value
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    match argument.get_long() {
        Some(long) if takes => format!("--{long} {value}"),
        Some(long) => format!("--{long}"),
        None => value,
    }
}

fn row(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set() && argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !values.is_empty() {
        help += &format!(": {}", values.join(", "));
    }
    let defaults: Vec<String> = argument
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    if !defaults.is_empty() && argument.get_action().takes_values() {
        help += &format!(" [default: {}]", defaults.join(", "));
    }
    if let Some(variable) = argument.get_env() {
        help += &format!(" [variable: {}]", variable.to_string_lossy());
    }
    if argument.is_required_set() {
        help += " [required]";
    }
    // Text in angle brackets would be HTML, and a bar would end the cell.
    let help = help.replace('|', "\\|").replace('<', "\\<");
    format!("| `{}` | {help} |\n", flag_name(argument))
}
