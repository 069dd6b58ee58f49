-- Webhooks: where they lead, what was recorded for them and what receivers were last told. Times are Unix milliseconds if
-- nothing else is said. What was recorded, and each attempt to send it, is in two tables of its day (UTC), such as
-- webhook_deliveries_20261128, which are made when they are first needed and dropped whole.

CREATE TABLE webhooks (
    id           TEXT PRIMARY KEY,
    app_id       TEXT NOT NULL REFERENCES apps (id),
    name         TEXT NOT NULL,
    url          TEXT, -- NULL: nothing is sent, the receiver asks
    events       TEXT, -- JSON list of names; NULL is all
    channels     TEXT NOT NULL, -- JSON list of patterns; empty is all
    format       TEXT NOT NULL, -- pusher or standard
    is_batched   INTEGER NOT NULL,
    headers      BLOB, -- sealed JSON; NULL is none
    secrets      BLOB NOT NULL, -- sealed JSON
    state        TEXT NOT NULL, -- active, paused or disabled
    state_reason TEXT,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL
) STRICT;

CREATE INDEX webhooks_app_id ON webhooks (app_id);

-- A row for each app that has webhooks. It is locked while events of the app are recorded.
CREATE TABLE webhook_apps (
    app_id TEXT PRIMARY KEY
) STRICT;

-- How far each webhook is. No foreign keys here and below: these rows are written all the time.
CREATE TABLE webhook_health (
    webhook_id      TEXT PRIMARY KEY,
    last_sequence   INTEGER NOT NULL, -- 0: nothing was recorded yet
    last_created_at INTEGER NOT NULL, -- of the delivery with that sequence number
    segment         INTEGER NOT NULL, -- see webhook_segments; 0: none yet
    next_due        INTEGER, -- the earliest in webhook_queue; NULL: nothing waits
    held_until      INTEGER, -- nothing is sent before
    failures        INTEGER NOT NULL, -- since the last success
    failing_since   INTEGER,
    last_success_at INTEGER,
    last_failure_at INTEGER,
    leased_by       TEXT, -- the node that sends
    leased_until    INTEGER
) STRICT;

-- What waits to be sent.
CREATE TABLE webhook_queue (
    webhook_id TEXT NOT NULL,
    sequence   INTEGER NOT NULL,
    day        INTEGER NOT NULL, -- beginning of the day whose table holds the delivery
    lane       INTEGER NOT NULL,
    size       INTEGER NOT NULL, -- bytes of its events
    queued_at  INTEGER NOT NULL, -- when it was recorded, or replayed
    is_replay  INTEGER NOT NULL,
    attempts   INTEGER NOT NULL, -- since it was queued
    due        INTEGER NOT NULL,
    PRIMARY KEY (webhook_id, sequence)
) STRICT, WITHOUT ROWID;

CREATE INDEX webhook_queue_due ON webhook_queue (webhook_id, due);

-- What receivers were last told of each channel and member. A cache miss is never present.
CREATE TABLE webhook_announced (
    app_id      TEXT NOT NULL,
    kind        TEXT NOT NULL, -- channel, member or cache_miss
    channel     TEXT NOT NULL,
    user_id     TEXT NOT NULL, -- '' unless it is a member
    is_present  INTEGER NOT NULL,
    at          INTEGER NOT NULL, -- microseconds, by the clock of the log of transitions
    present_due INTEGER, -- of the last transition of each sort, by which a repeated one is recognised
    absent_due  INTEGER,
    PRIMARY KEY (app_id, kind, channel, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX webhook_announced_absent ON webhook_announced (app_id, at) WHERE NOT is_present;

-- The days that have tables.
CREATE TABLE webhook_days (
    day INTEGER PRIMARY KEY -- its beginning
) STRICT;

-- Which day's tables hold a webhook's deliveries, from a sequence number on.
CREATE TABLE webhook_segments (
    webhook_id     TEXT NOT NULL,
    first_sequence INTEGER NOT NULL,
    day            INTEGER NOT NULL,
    deliveries     INTEGER NOT NULL,
    bytes          INTEGER NOT NULL, -- of deliveries and attempts
    PRIMARY KEY (webhook_id, first_sequence)
) STRICT, WITHOUT ROWID;
