-- Conditions that need an operator. A row for each condition, with its latest occurrence; the audit log has all of them.
-- Times are Unix milliseconds.
CREATE TABLE alerts (
    kind           TEXT NOT NULL, -- such as store_away
    subject        TEXT NOT NULL, -- the node or the app that it is about
    id             TEXT NOT NULL UNIQUE, -- of this occurrence
    app_id         TEXT, -- NULL if it isn't about an app
    summary        TEXT NOT NULL,
    opened_at      INTEGER NOT NULL,
    seen_at        INTEGER NOT NULL, -- when a node last saw the condition
    resolved_at    INTEGER, -- NULL while it is open
    silenced_until INTEGER, -- NULL if nobody has silenced it; stays over occurrences
    PRIMARY KEY (kind, subject)
) STRICT;
