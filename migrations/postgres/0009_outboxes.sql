-- Outboxes: where events of an app wait that its backends wrote in their own database. Times are Unix milliseconds.

CREATE TABLE outboxes (
    app_id        TEXT   PRIMARY KEY REFERENCES apps (id),
    url           BYTEA  NOT NULL, -- sealed
    stream        TEXT, -- NULL: the default one, or not in Redis
    poll_interval BIGINT NOT NULL, -- milliseconds
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL
);

-- What the node that reads an outbox last said of it. No foreign key: these rows are written all the time.
CREATE TABLE outbox_states (
    app_id           TEXT    PRIMARY KEY,
    node             TEXT    NOT NULL,
    connected        BOOLEAN NOT NULL,
    backlog          BIGINT  NOT NULL, -- events that wait
    backlog_is_exact BOOLEAN NOT NULL,
    oldest_at        BIGINT, -- of those that wait
    published        BIGINT  NOT NULL, -- since the outbox was set, as is the next
    rejected         BIGINT  NOT NULL,
    last_event_at    BIGINT,
    last_error       TEXT,
    last_error_at    BIGINT,
    reported_at      BIGINT  NOT NULL
);
