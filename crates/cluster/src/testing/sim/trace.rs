//! What happens in a run, for who looks for the cause of a failure: with `FANFARE_MODEL_TRACE` set, on standard error.

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
pub fn line(line: &str) {
    if is_on() {
        eprintln!("{line}");
    }
}
