-- Times are Unix milliseconds. A change of an app or of its keys takes the installation's next revision, so that a node
-- asks for what is newer than what it knows.

CREATE TABLE installation (
    id               INTEGER PRIMARY KEY CHECK (id = 1),
    revision         INTEGER NOT NULL,
    master_key_check BLOB -- a known text, sealed: tells a wrong master key before it does harm
) STRICT;

INSERT INTO installation (id, revision) VALUES (1, 0);

CREATE TABLE apps (
    id            TEXT    PRIMARY KEY,
    name          TEXT    NOT NULL,
    settings      TEXT    NOT NULL, -- JSON; what it does not say has its default
    demo          INTEGER NOT NULL, -- the app of the first run
    created_at    INTEGER NOT NULL,
    revision      INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX apps_demo ON apps (demo) WHERE demo;

CREATE INDEX apps_revision ON apps (revision);

CREATE TABLE keys (
    key        TEXT    PRIMARY KEY, -- unique over all apps: a WebSocket URL holds nothing else
    app_id     TEXT    NOT NULL REFERENCES apps (id),
    secret     BLOB    NOT NULL, -- sealed
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE INDEX keys_app_id ON keys (app_id);
