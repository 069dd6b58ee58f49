-- Certificates that are ordered from an ACME server (RFC 8555). Times are Unix milliseconds.

CREATE TABLE acme_accounts (
    directory   TEXT PRIMARY KEY, -- the server's directory URL
    credentials BYTEA NOT NULL -- sealed
);

-- A row exists from the first order on. The node that holds the lease is the only one that orders.
CREATE TABLE acme_certificates (
    directory    TEXT   NOT NULL,
    names        TEXT   NOT NULL, -- sorted, with commas between
    chain        TEXT, -- PEM
    private_key  BYTEA, -- PEM, sealed
    issued_at    BIGINT,
    due_at       BIGINT NOT NULL, -- when to order next
    failures     BIGINT NOT NULL DEFAULT 0, -- orders that failed since the last one that did not
    last_error   TEXT,
    leased_by    TEXT,
    leased_until BIGINT,
    PRIMARY KEY (directory, names)
);

-- What all nodes answer to an ACME server that looks whether they serve a name.
CREATE TABLE acme_challenges (
    token             TEXT   PRIMARY KEY,
    name              TEXT   NOT NULL,
    key_authorization TEXT   NOT NULL,
    expires_at        BIGINT NOT NULL
);
