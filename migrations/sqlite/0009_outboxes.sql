-- Outboxes: where events of an app wait that its backends wrote in their own database. Times are Unix milliseconds.

CREATE TABLE outboxes (
    app_id        TEXT    PRIMARY KEY REFERENCES apps (id),
    url           BLOB    NOT NULL, -- sealed
    stream        TEXT, -- NULL: the default one, or not in Redis
    poll_interval INTEGER NOT NULL, -- milliseconds
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

-- What the node that reads an outbox last said of it. No foreign key: these rows are written all the time.
CREATE TABLE outbox_states (
    app_id           TEXT    PRIMARY KEY,
    node             TEXT    NOT NULL,
    connected        INTEGER NOT NULL,
    backlog          INTEGER NOT NULL, -- events that wait
    backlog_is_exact INTEGER NOT NULL,
    oldest_at        INTEGER, -- of those that wait
    published        INTEGER NOT NULL, -- since the outbox was set, as is the next
    rejected         INTEGER NOT NULL,
    last_event_at    INTEGER,
    last_error       TEXT,
    last_error_at    INTEGER,
    reported_at      INTEGER NOT NULL
) STRICT;
