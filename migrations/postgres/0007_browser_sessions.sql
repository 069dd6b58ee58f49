-- How people sign in to the dashboard. Times are Unix milliseconds.

-- SHA-256 of the cookie of a browser's session; NULL for a session with refresh tokens.
ALTER TABLE sessions ADD COLUMN cookie_hash BYTEA;

CREATE UNIQUE INDEX sessions_cookie_hash ON sessions (cookie_hash);

-- Links that sign an operator in, once.
CREATE TABLE sign_in_links (
    hash        BYTEA   PRIMARY KEY, -- SHA-256 of the link's token
    operator_id TEXT    NOT NULL,
    expires_at  BIGINT  NOT NULL
);
