-- What nodes share, in Postgres. Everything is unlogged: writing it flushes nothing to disk, and after a
-- crash it is empty, which nodes treat like any other loss of what they share. What can't even be used then is
-- dropped and created again with all the rest (`unusable` in functions.sql).
--
-- Nodes of several versions share these tables during a rolling upgrade, so columns are added and never
-- changed.
--
-- Plans are made while tables are empty, and then any index looks as good as another one. So no query has a
-- choice: each finds all of its columns in one index only. That is why indexes by time have the app as an
-- expression, which only the queries by time name. And all texts have one collation: a function that is given
-- values of two compares all of them by one, and then an index of the other one is of no use.

-- Places in `log`, and of calls between its messages.
CREATE UNLOGGED SEQUENCE IF NOT EXISTS log_ids;
-- The newest position. It is never below the clock, so it grows even if it was lost.
CREATE UNLOGGED SEQUENCE IF NOT EXISTS positions;

-- Messages on topics. Ids become visible in their order, because each call of a node that writes holds one
-- lock until its commit. A ring of partitions: one is written for a quarter of a minute, and emptied before
-- its turn comes again. Only the partitions hold anything, and Postgres 18 refuses UNLOGGED for the whole.
CREATE TABLE IF NOT EXISTS log (
  slot smallint NOT NULL DEFAULT floor(extract(epoch FROM now()) / 15)::bigint % 4,
  id bigint NOT NULL DEFAULT nextval('log_ids'),
  topic text COLLATE "C" NOT NULL,
  message bytea NOT NULL
) PARTITION BY LIST (slot);
CREATE UNLOGGED TABLE IF NOT EXISTS log_0 PARTITION OF log FOR VALUES IN (0);
CREATE UNLOGGED TABLE IF NOT EXISTS log_1 PARTITION OF log FOR VALUES IN (1);
CREATE UNLOGGED TABLE IF NOT EXISTS log_2 PARTITION OF log FOR VALUES IN (2);
CREATE UNLOGGED TABLE IF NOT EXISTS log_3 PARTITION OF log FOR VALUES IN (3);
CREATE INDEX IF NOT EXISTS log_by_id ON log (id);
-- Messages are rarely worth compressing, and are read once.
ALTER TABLE log ALTER COLUMN message SET STORAGE EXTERNAL;

-- The installation to which these tables belong, and until when, in milliseconds.
CREATE UNLOGGED TABLE IF NOT EXISTS installation (
  id int PRIMARY KEY CHECK (id = 1),
  uid text COLLATE "C" NOT NULL,
  until_ms bigint NOT NULL
);
-- Until when nodes count as alive, and how long their leases are, in milliseconds.
CREATE UNLOGGED TABLE IF NOT EXISTS nodes (
  node text COLLATE "C" PRIMARY KEY,
  until_ms bigint NOT NULL,
  lease_ms bigint NOT NULL
);
-- Until when the reaping of a dead node is claimed, in milliseconds.
CREATE UNLOGGED TABLE IF NOT EXISTS claims (
  node text COLLATE "C" PRIMARY KEY,
  until_ms bigint NOT NULL
);
-- Apps in which a node may have entries.
CREATE UNLOGGED TABLE IF NOT EXISTS apps_of_nodes (
  node text COLLATE "C",
  app text COLLATE "C",
  PRIMARY KEY (node, app)
);
-- The nodes that may have entries in an app. The list is lost together with their entries, so a node that is
-- missing has to announce everything again.
CREATE UNLOGGED TABLE IF NOT EXISTS enlisted (
  app text COLLATE "C",
  node text COLLATE "C",
  PRIMARY KEY (app, node)
);

-- Presence channels with members, and how many users each has.
CREATE UNLOGGED TABLE IF NOT EXISTS rooms (
  app text COLLATE "C",
  channel text COLLATE "C",
  users bigint NOT NULL,
  PRIMARY KEY (app, channel)
);
CREATE UNLOGGED TABLE IF NOT EXISTS members (
  app text COLLATE "C",
  channel text COLLATE "C",
  user_id text COLLATE "C",
  info text COLLATE "C" NOT NULL,
  PRIMARY KEY (app, channel, user_id)
);
-- The nodes that have a user on a channel.
CREATE UNLOGGED TABLE IF NOT EXISTS seats (
  app text COLLATE "C",
  channel text COLLATE "C",
  user_id text COLLATE "C",
  node text COLLATE "C",
  PRIMARY KEY (node, app, channel, user_id)
);
CREATE INDEX IF NOT EXISTS seats_by_user ON seats (app, channel, user_id);
-- Subscribed connections.
CREATE UNLOGGED TABLE IF NOT EXISTS counts (
  app text COLLATE "C",
  channel text COLLATE "C",
  node text COLLATE "C",
  count bigint NOT NULL,
  PRIMARY KEY (node, app, channel)
);
CREATE INDEX IF NOT EXISTS counts_by_channel ON counts (app, channel);
-- Signed-in users.
CREATE UNLOGGED TABLE IF NOT EXISTS online (
  app text COLLATE "C",
  user_id text COLLATE "C",
  node text COLLATE "C",
  PRIMARY KEY (node, app, user_id)
);
CREATE INDEX IF NOT EXISTS online_by_user ON online (app, user_id);
CREATE UNLOGGED TABLE IF NOT EXISTS connections (
  app text COLLATE "C",
  node text COLLATE "C",
  count bigint NOT NULL,
  PRIMARY KEY (app, node)
);

-- Requests with an idempotency key, known until a time in milliseconds.
CREATE UNLOGGED TABLE IF NOT EXISTS requests (
  app text COLLATE "C",
  key text COLLATE "C",
  digest text COLLATE "C" NOT NULL,
  until_ms bigint NOT NULL,
  PRIMARY KEY (app, key)
);
CREATE INDEX IF NOT EXISTS requests_by_time ON requests (until_ms);
-- The events that cache channels keep.
CREATE UNLOGGED TABLE IF NOT EXISTS cache (
  app text COLLATE "C",
  channel text COLLATE "C",
  until_ms bigint NOT NULL,
  message bytea NOT NULL,
  PRIMARY KEY (app, channel)
);
CREATE INDEX IF NOT EXISTS cache_by_time ON cache ((app || ''), until_ms);
-- Bytes that the kept events of an app take, with what each costs besides.
CREATE UNLOGGED TABLE IF NOT EXISTS cache_bytes (
  app text COLLATE "C" PRIMARY KEY,
  bytes bigint NOT NULL
);

-- Histories. A history is of the app's rules, and is kept longer than its events, so that a client that
-- missed nothing learns that.
CREATE UNLOGGED TABLE IF NOT EXISTS histories (
  app text COLLATE "C",
  channel text COLLATE "C",
  rules text COLLATE "C" NOT NULL,
  epoch text COLLATE "C" NOT NULL,
  last_offset bigint NOT NULL DEFAULT 0,
  newest bigint NOT NULL DEFAULT 0,
  ttl_ms bigint NOT NULL DEFAULT 0,
  until_ms bigint NOT NULL,
  PRIMARY KEY (app, channel)
);
CREATE INDEX IF NOT EXISTS histories_by_time ON histories (until_ms);
CREATE UNLOGGED TABLE IF NOT EXISTS events (
  app text COLLATE "C",
  channel text COLLATE "C",
  event_offset bigint,
  until_ms bigint NOT NULL,
  message bytea NOT NULL,
  PRIMARY KEY (app, channel, event_offset)
);
CREATE INDEX IF NOT EXISTS events_by_time ON events (until_ms);

-- Transition logs: what became present or absent over all nodes, until receivers are told. An entry is a
-- letter, the channel and, after a space, the user. The letters are in the order of what is due at once: a
-- channel is occupied (a), a user added (b), a user removed (c), a channel vacated (d).
CREATE UNLOGGED TABLE IF NOT EXISTS transitions (
  app text COLLATE "C",
  entry text COLLATE "C",
  due_ms bigint NOT NULL,
  PRIMARY KEY (app, entry)
);
CREATE INDEX IF NOT EXISTS transitions_by_time ON transitions ((app || ''), due_ms, entry);
CREATE UNLOGGED TABLE IF NOT EXISTS transition_logs (
  app text COLLATE "C" PRIMARY KEY,
  entries bigint NOT NULL DEFAULT 0,
  newest_stamp bigint NOT NULL DEFAULT 0,
  refused bigint NOT NULL DEFAULT 0
);
