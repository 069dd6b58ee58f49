-- What of each quota was handed out to nodes in shares. Times are Unix milliseconds.

CREATE TABLE quota_periods (
    app_id     TEXT COLLATE "C" NOT NULL, -- '' is all apps together
    quota      TEXT NOT NULL, -- such as messages_per_day
    at         BIGINT NOT NULL, -- the beginning of the day or month
    taken      BIGINT NOT NULL,
    told       BIGINT NOT NULL, -- 1: near its end, 2: used up; so that operators are told once
    used_up_at BIGINT, -- NULL: something is left
    PRIMARY KEY (app_id, quota, at)
);

CREATE INDEX quota_periods_used_up_at ON quota_periods (used_up_at);

CREATE INDEX quota_periods_at ON quota_periods (at);
