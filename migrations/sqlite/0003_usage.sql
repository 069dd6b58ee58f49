-- What apps did, by minute, hour and day of UTC. Times are Unix milliseconds of a period's beginning. No foreign keys to
-- apps: what a deleted app did still counts.

-- What each node counted: whole values of the minute, so that a repeated write changes nothing.
CREATE TABLE usage_minutes (
    app_id          TEXT NOT NULL, -- '' is all apps together
    at              INTEGER NOT NULL,
    run             TEXT NOT NULL, -- one process of a node
    flush           INTEGER NOT NULL, -- later writes of a run have higher ones
    connections_0   INTEGER NOT NULL, -- at second 0 of the minute
    connections_1   INTEGER NOT NULL, -- at second 10 of the minute
    connections_2   INTEGER NOT NULL, -- at second 20 of the minute
    connections_3   INTEGER NOT NULL, -- at second 30 of the minute
    connections_4   INTEGER NOT NULL, -- at second 40 of the minute
    connections_5   INTEGER NOT NULL, -- at second 50 of the minute
    opened          INTEGER NOT NULL, -- connections that were opened
    events          INTEGER NOT NULL, -- events of backends, one for each channel
    client_events   INTEGER NOT NULL,
    deliveries      INTEGER NOT NULL, -- one for each subscriber
    published_bytes INTEGER NOT NULL, -- data of events of backends
    received_bytes  INTEGER NOT NULL, -- messages of clients
    delivered_bytes INTEGER NOT NULL, -- frames of deliveries
    users           BLOB, -- a sketch of the users; NULL is none
    refused         TEXT, -- JSON, refusals by kind; NULL is none
    PRIMARY KEY (app_id, at, run)
) STRICT;

CREATE INDEX usage_minutes_at ON usage_minutes (at);

-- Sums over nodes, made of the minutes.
CREATE TABLE usage_hours (
    app_id           TEXT NOT NULL, -- '' is all apps together
    at               INTEGER NOT NULL,
    connections_peak INTEGER NOT NULL,
    connections_sum  INTEGER NOT NULL, -- of the numbers at every ten seconds
    opened           INTEGER NOT NULL, -- connections that were opened
    events           INTEGER NOT NULL, -- events of backends, one for each channel
    client_events    INTEGER NOT NULL,
    deliveries       INTEGER NOT NULL, -- one for each subscriber
    published_bytes  INTEGER NOT NULL, -- data of events of backends
    received_bytes   INTEGER NOT NULL, -- messages of clients
    delivered_bytes  INTEGER NOT NULL, -- frames of deliveries
    users            BLOB, -- a sketch of the users; NULL is none
    refused          TEXT, -- JSON, refusals by kind; NULL is none
    PRIMARY KEY (app_id, at)
) STRICT;

CREATE INDEX usage_hours_at ON usage_hours (at);

-- Sums over nodes, made of the hours.
CREATE TABLE usage_days (
    app_id           TEXT NOT NULL, -- '' is all apps together
    at               INTEGER NOT NULL,
    connections_peak INTEGER NOT NULL,
    connections_sum  INTEGER NOT NULL, -- of the numbers at every ten seconds
    opened           INTEGER NOT NULL, -- connections that were opened
    events           INTEGER NOT NULL, -- events of backends, one for each channel
    client_events    INTEGER NOT NULL,
    deliveries       INTEGER NOT NULL, -- one for each subscriber
    published_bytes  INTEGER NOT NULL, -- data of events of backends
    received_bytes   INTEGER NOT NULL, -- messages of clients
    delivered_bytes  INTEGER NOT NULL, -- frames of deliveries
    users            BLOB, -- a sketch of the users; NULL is none
    refused          TEXT, -- JSON, refusals by kind; NULL is none
    PRIMARY KEY (app_id, at)
) STRICT;

CREATE INDEX usage_days_at ON usage_days (at);

-- The hours and days that were written to since they were last made of minutes and hours.
CREATE TABLE usage_unrolled (
    step    TEXT NOT NULL, -- hour or day
    at      INTEGER NOT NULL,
    touched INTEGER NOT NULL, -- changes with every write
    PRIMARY KEY (step, at)
) STRICT;
