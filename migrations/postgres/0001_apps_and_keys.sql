-- Times are Unix milliseconds. A change of an app or of its keys takes the installation's next revision, so that a node
-- asks for what is newer than what it knows.

CREATE TABLE installation (
    id               BIGINT PRIMARY KEY CHECK (id = 1),
    revision         BIGINT NOT NULL,
    master_key_check BYTEA -- a known text, sealed: tells a wrong master key before it does harm
);

INSERT INTO installation (id, revision) VALUES (1, 0);

CREATE TABLE apps (
    id            TEXT    PRIMARY KEY,
    name          TEXT    NOT NULL,
    settings      TEXT    NOT NULL, -- JSON; what it does not say has its default
    demo          BOOLEAN NOT NULL, -- the app of the first run
    created_at    BIGINT  NOT NULL,
    revision      BIGINT  NOT NULL
);

CREATE UNIQUE INDEX apps_demo ON apps (demo) WHERE demo;

CREATE INDEX apps_revision ON apps (revision);

CREATE TABLE keys (
    key        TEXT   PRIMARY KEY, -- unique over all apps: a WebSocket URL holds nothing else
    app_id     TEXT   NOT NULL REFERENCES apps (id),
    secret     BYTEA  NOT NULL, -- sealed
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE INDEX keys_app_id ON keys (app_id);
