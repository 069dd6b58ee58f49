//! Where the documentation explains what the program says. Each message of `docs/errors.md` has a row there, which has an
//! address below `/docs`.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::{LazyLock, OnceLock};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::assets::book;

/// The page of the catalogue, as a path of the repository.
const CATALOGUE: &str = "docs/errors.md";
/// The section of problems that no row has: docs/errors.md#problems-of-the-admin-api.
const PROBLEMS: &str = "problems-of-the-admin-api";

/// What precedes `/docs` at this server, unless that is switched off.
static BASE: OnceLock<String> = OnceLock::new();
/// The messages without values, with the anchors of their rows.
static WHOLE: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| book::whole_messages().collect());

/// Says that this process serves the documentation. Called once, before anything is logged or answered.
pub(crate) fn is_at(base_path: &str) {
    // A second server of one process, as in tests, is at the same place.
    let _ = BASE.set(base_path.to_owned());
}

/// Returns the address of the row that explains a problem, or of the section of problems.
pub(crate) fn of_problem(detail: &str) -> Option<String> {
    let base = BASE.get()?;
    Some(address(base, book::anchor_of(detail).unwrap_or(PROBLEMS)))
}

/// Returns the address, below any server's, of the row that explains why a command failed.
pub(crate) fn of_failure(message: &str) -> Option<String> {
    book::anchor_of(message).map(|anchor| address("", anchor))
}

fn of_line(message: &str) -> Option<String> {
    Some(address(BASE.get()?, WHOLE.get(message)?))
}

/// Returns the address of an anchor of the catalogue, below a base path.
fn address(base: &str, anchor: &str) -> String {
    format!("{base}/{}#{anchor}", CATALOGUE.replace(".md", ""))
}

/// The message of a log line.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

/// Fields of log lines as text, and after them the address of what explains the line.
#[derive(Debug, Default)]
pub(crate) struct Text(DefaultFields);

impl<'writer> FormatFields<'writer> for Text {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut message = Message::default();
        fields.record(&mut message);
        self.0.format_fields(writer.by_ref(), fields)?;
        match of_line(&message.0) {
            Some(help) => write!(writer, " help={help}"),
            None => Ok(()),
        }
    }
}

/// Log lines as JSON, with the address of what explains the line.
#[derive(Debug)]
pub(crate) struct Lines(pub(crate) Format<Json>);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = Message::default();
        event.record(&mut message);
        let Some(help) = of_line(&message.0) else {
            return self.0.format_event(ctx, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        let line = line.strip_suffix('}').unwrap_or(line);
        // The address has nothing that JSON would escape.
        writeln!(writer, "{line},\"help\":\"{help}\"}}")
    }
}
