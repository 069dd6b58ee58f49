-- Webhooks: where they lead, what was recorded for them and what receivers were last told. Times are Unix milliseconds if
-- nothing else is said. What was recorded, and each attempt to send it, is in two tables of its day (UTC), such as
-- webhook_deliveries_20261128, which are made when they are first needed and dropped whole.

CREATE TABLE webhooks (
    id           TEXT COLLATE "C" PRIMARY KEY,
    app_id       TEXT NOT NULL REFERENCES apps (id),
    name         TEXT NOT NULL,
    url          TEXT, -- NULL: nothing is sent, the receiver asks
    events       TEXT, -- JSON list of names; NULL is all
    channels     TEXT NOT NULL, -- JSON list of patterns; empty is all
    format       TEXT NOT NULL, -- pusher or standard
    is_batched   BOOLEAN NOT NULL,
    headers      BYTEA, -- sealed JSON; NULL is none
    secrets      BYTEA NOT NULL, -- sealed JSON
    state        TEXT NOT NULL, -- active, paused or disabled
    state_reason TEXT,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL
);

CREATE INDEX webhooks_app_id ON webhooks (app_id);

-- A row for each app that has webhooks. It is locked while events of the app are recorded.
CREATE TABLE webhook_apps (
    app_id TEXT COLLATE "C" PRIMARY KEY
);

-- How far each webhook is. No foreign keys here and below: these rows are written all the time.
CREATE TABLE webhook_health (
    webhook_id      TEXT COLLATE "C" PRIMARY KEY,
    last_sequence   BIGINT NOT NULL, -- 0: nothing was recorded yet
    last_created_at BIGINT NOT NULL, -- of the delivery with that sequence number
    segment         BIGINT NOT NULL, -- see webhook_segments; 0: none yet
    next_due        BIGINT, -- the earliest in webhook_queue; NULL: nothing waits
    held_until      BIGINT, -- nothing is sent before
    failures        BIGINT NOT NULL, -- since the last success
    failing_since   BIGINT,
    last_success_at BIGINT,
    last_failure_at BIGINT,
    leased_by       TEXT, -- the node that sends
    leased_until    BIGINT
);

-- What waits to be sent.
CREATE TABLE webhook_queue (
    webhook_id TEXT COLLATE "C" NOT NULL,
    sequence   BIGINT NOT NULL,
    day        BIGINT NOT NULL, -- beginning of the day whose table holds the delivery
    lane       BIGINT NOT NULL,
    size       BIGINT NOT NULL, -- bytes of its events
    queued_at  BIGINT NOT NULL, -- when it was recorded, or replayed
    is_replay  BOOLEAN NOT NULL,
    attempts   BIGINT NOT NULL, -- since it was queued
    due        BIGINT NOT NULL,
    PRIMARY KEY (webhook_id, sequence)
) WITH (autovacuum_vacuum_scale_factor = 0.01); -- its rows come and go

CREATE INDEX webhook_queue_due ON webhook_queue (webhook_id, due);

-- What receivers were last told of each channel and member. A cache miss is never present.
CREATE TABLE webhook_announced (
    app_id      TEXT COLLATE "C" NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL, -- channel, member or cache_miss
    channel     TEXT COLLATE "C" NOT NULL,
    user_id     TEXT COLLATE "C" NOT NULL, -- '' unless it is a member
    is_present  BOOLEAN NOT NULL,
    at          BIGINT NOT NULL, -- microseconds, by the clock of the log of transitions
    present_due BIGINT, -- of the last transition of each sort, by which a repeated one is recognised
    absent_due  BIGINT,
    PRIMARY KEY (app_id, kind, channel, user_id)
);

CREATE INDEX webhook_announced_absent ON webhook_announced (app_id, at) WHERE NOT is_present;

-- The days that have tables.
CREATE TABLE webhook_days (
    day BIGINT PRIMARY KEY -- its beginning
);

-- Which day's tables hold a webhook's deliveries, from a sequence number on.
CREATE TABLE webhook_segments (
    webhook_id     TEXT COLLATE "C" NOT NULL,
    first_sequence BIGINT NOT NULL,
    day            BIGINT NOT NULL,
    deliveries     BIGINT NOT NULL,
    bytes          BIGINT NOT NULL, -- of deliveries and attempts
    PRIMARY KEY (webhook_id, first_sequence)
);
