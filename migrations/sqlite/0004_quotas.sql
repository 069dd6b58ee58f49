-- What of each quota was handed out to nodes in shares. Times are Unix milliseconds.

CREATE TABLE quota_periods (
    app_id     TEXT NOT NULL, -- '' is all apps together
    quota      TEXT NOT NULL, -- such as messages_per_day
    at         INTEGER NOT NULL, -- the beginning of the day or month
    taken      INTEGER NOT NULL,
    told       INTEGER NOT NULL, -- 1: near its end, 2: used up; so that operators are told once
    used_up_at INTEGER, -- NULL: something is left
    PRIMARY KEY (app_id, quota, at)
) STRICT;

CREATE INDEX quota_periods_used_up_at ON quota_periods (used_up_at);

CREATE INDEX quota_periods_at ON quota_periods (at);
