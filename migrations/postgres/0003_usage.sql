-- What apps did, by minute, hour and day of UTC. Times are Unix milliseconds of a period's beginning. No foreign keys to
-- apps: what a deleted app did still counts.

-- What each node counted: whole values of the minute, so that a repeated write changes nothing.
CREATE TABLE usage_minutes (
    app_id          TEXT COLLATE "C" NOT NULL, -- '' is all apps together
    at              BIGINT NOT NULL,
    run             TEXT NOT NULL, -- one process of a node
    flush           BIGINT NOT NULL, -- later writes of a run have higher ones
    connections_0   BIGINT NOT NULL, -- at second 0 of the minute
    connections_1   BIGINT NOT NULL, -- at second 10 of the minute
    connections_2   BIGINT NOT NULL, -- at second 20 of the minute
    connections_3   BIGINT NOT NULL, -- at second 30 of the minute
    connections_4   BIGINT NOT NULL, -- at second 40 of the minute
    connections_5   BIGINT NOT NULL, -- at second 50 of the minute
    opened          BIGINT NOT NULL, -- connections that were opened
    events          BIGINT NOT NULL, -- events of backends, one for each channel
    client_events   BIGINT NOT NULL,
    deliveries      BIGINT NOT NULL, -- one for each subscriber
    published_bytes BIGINT NOT NULL, -- data of events of backends
    received_bytes  BIGINT NOT NULL, -- messages of clients
    delivered_bytes BIGINT NOT NULL, -- frames of deliveries
    users           BYTEA, -- a sketch of the users; NULL is none
    refused         TEXT, -- JSON, refusals by kind; NULL is none
    PRIMARY KEY (app_id, at, run)
);

CREATE INDEX usage_minutes_at ON usage_minutes (at);

-- Sums over nodes, made of the minutes.
CREATE TABLE usage_hours (
    app_id           TEXT COLLATE "C" NOT NULL, -- '' is all apps together
    at               BIGINT NOT NULL,
    connections_peak BIGINT NOT NULL,
    connections_sum  BIGINT NOT NULL, -- of the numbers at every ten seconds
    opened           BIGINT NOT NULL, -- connections that were opened
    events           BIGINT NOT NULL, -- events of backends, one for each channel
    client_events    BIGINT NOT NULL,
    deliveries       BIGINT NOT NULL, -- one for each subscriber
    published_bytes  BIGINT NOT NULL, -- data of events of backends
    received_bytes   BIGINT NOT NULL, -- messages of clients
    delivered_bytes  BIGINT NOT NULL, -- frames of deliveries
    users            BYTEA, -- a sketch of the users; NULL is none
    refused          TEXT, -- JSON, refusals by kind; NULL is none
    PRIMARY KEY (app_id, at)
);

CREATE INDEX usage_hours_at ON usage_hours (at);

-- Sums over nodes, made of the hours.
CREATE TABLE usage_days (
    app_id           TEXT COLLATE "C" NOT NULL, -- '' is all apps together
    at               BIGINT NOT NULL,
    connections_peak BIGINT NOT NULL,
    connections_sum  BIGINT NOT NULL, -- of the numbers at every ten seconds
    opened           BIGINT NOT NULL, -- connections that were opened
    events           BIGINT NOT NULL, -- events of backends, one for each channel
    client_events    BIGINT NOT NULL,
    deliveries       BIGINT NOT NULL, -- one for each subscriber
    published_bytes  BIGINT NOT NULL, -- data of events of backends
    received_bytes   BIGINT NOT NULL, -- messages of clients
    delivered_bytes  BIGINT NOT NULL, -- frames of deliveries
    users            BYTEA, -- a sketch of the users; NULL is none
    refused          TEXT, -- JSON, refusals by kind; NULL is none
    PRIMARY KEY (app_id, at)
);

CREATE INDEX usage_days_at ON usage_days (at);

-- The hours and days that were written to since they were last made of minutes and hours.
CREATE TABLE usage_unrolled (
    step    TEXT NOT NULL, -- hour or day
    at      BIGINT NOT NULL,
    touched BIGINT NOT NULL, -- changes with every write
    PRIMARY KEY (step, at)
);
