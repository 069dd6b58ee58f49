-- Who administers the installation, and what they did. Times are Unix milliseconds; what is sealed is sealed with the
-- master key.

-- Tells a process that still has the old master key after it was changed.
ALTER TABLE installation ADD COLUMN master_key_id TEXT;

ALTER TABLE apps ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE apps SET updated_at = created_at;

CREATE INDEX apps_created_at ON apps (created_at, id);

-- What a running node has to forget.
CREATE TABLE deleted_apps (
    id       TEXT    PRIMARY KEY,
    revision BIGINT  NOT NULL
);

CREATE INDEX deleted_apps_revision ON deleted_apps (revision);

ALTER TABLE keys ADD COLUMN label TEXT;
ALTER TABLE keys ADD COLUMN expires_at BIGINT;
ALTER TABLE keys ADD COLUMN last_used_at BIGINT;
ALTER TABLE keys ADD COLUMN last_used_from TEXT;

-- How an app's end users prove who they are.
CREATE TABLE identities (
    app_id TEXT PRIMARY KEY REFERENCES apps (id),
    config BYTEA NOT NULL -- sealed JSON
);

CREATE TABLE operators (
    id            TEXT    PRIMARY KEY,
    name          TEXT    NOT NULL,
    folded_name   TEXT    NOT NULL UNIQUE, -- in lower case: names differ in more than case
    role          TEXT    NOT NULL,
    apps          TEXT, -- JSON list of ids; NULL is all apps
    enabled       BOOLEAN NOT NULL,
    password_hash TEXT    NOT NULL, -- PHC string
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL,
    revision      BIGINT  NOT NULL
);

-- No foreign keys to operators here and below: what somebody did outlives them.
CREATE TABLE sessions (
    id           TEXT    PRIMARY KEY,
    operator_id  TEXT    NOT NULL,
    created_at   BIGINT  NOT NULL,
    last_used_at BIGINT  NOT NULL,
    expires_at   BIGINT  NOT NULL,
    revoked_at   BIGINT,
    address      TEXT,
    agent        TEXT
);

CREATE INDEX sessions_operator_id ON sessions (operator_id);

-- Every refresh token a session ever had, so that a stolen one is told whenever it turns up.
CREATE TABLE refresh_tokens (
    hash        BYTEA   PRIMARY KEY, -- SHA-256
    session_id  TEXT    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    replaced_at BIGINT -- NULL: the one in force
);

CREATE INDEX refresh_tokens_session_id ON refresh_tokens (session_id);

CREATE TABLE tokens (
    id           TEXT    PRIMARY KEY,
    name         TEXT    NOT NULL,
    role         TEXT    NOT NULL,
    apps         TEXT, -- as in operators
    operator_id  TEXT, -- who made it; NULL is the command line
    parent_id    TEXT REFERENCES tokens (id), -- the token that made it
    created_at   BIGINT  NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT,
    last_used_at BIGINT
);

CREATE INDEX tokens_operator_id ON tokens (operator_id);

CREATE INDEX tokens_parent_id ON tokens (parent_id);

CREATE TABLE signing_keys (
    id         TEXT    PRIMARY KEY, -- kid
    secret     BYTEA   NOT NULL, -- sealed
    created_at BIGINT  NOT NULL,
    retired_at BIGINT
);

CREATE TABLE answers (
    scope      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    body_hash  BYTEA   NOT NULL, -- of the request
    status     BIGINT, -- NULL: not answered yet
    body       BYTEA, -- of the answer, sealed
    created_at BIGINT  NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE INDEX answers_created_at ON answers (created_at);

CREATE TABLE audit (
    id            BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            BIGINT  NOT NULL,
    actor_kind    TEXT    NOT NULL,
    actor_id      TEXT,
    actor_name    TEXT    NOT NULL,
    actor_address TEXT,
    action        TEXT    NOT NULL, -- such as app.create
    target_kind   TEXT    NOT NULL,
    target_id     TEXT    NOT NULL,
    app_id        TEXT,
    details       TEXT    NOT NULL -- JSON, never a secret
);

CREATE INDEX audit_app_id ON audit (app_id, id);

-- Wakes whoever waits for changes.
CREATE FUNCTION fanfare_announce_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('fanfare_changes', NEW.revision::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER installation_revision AFTER UPDATE OF revision ON installation
    FOR EACH ROW EXECUTE FUNCTION fanfare_announce_revision();
