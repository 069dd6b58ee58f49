//! Traces a run on standard error, with `FANFARE_MODEL_TRACE` set, to find the cause of a failure.

use std::fmt::Debug;
use std::sync::LazyLock;

static IS_ON: LazyLock<bool> = LazyLock::new(is_wanted);

#[expect(
    clippy::disallowed_methods,
    reason = "this is no setting of the server"
)]
fn is_wanted() -> bool {
    std::env::var_os("FANFARE_MODEL_TRACE").is_some()
}

/// Returns whether lines are written.
pub fn is_on() -> bool {
    *IS_ON
}

/// Writes a line, if that is on.
pub fn line(line: impl FnOnce() -> String) {
    if is_on() {
        eprintln!("{}", line());
    }
}

/// Returns a value for a line, empty if no lines are written.
pub(super) fn in_words(value: &dyn Debug) -> String {
    if is_on() {
        format!("{value:?}")
    } else {
        String::new()
    }
}
