-- The transactional outbox of Fanfare: events that the transactions of this database publish.
--
-- Run it as the role that is to own it, in one transaction, with whatever runs your migrations. It may be run again: it
-- changes nothing that is there already, and brings an earlier version up to date.
--
--   SELECT fanfare.publish('orders', 'created', '{"id": 1}');
--   GRANT USAGE ON SCHEMA fanfare TO shop;                                        -- who else may publish
--   GRANT EXECUTE ON FUNCTION fanfare.publish(text, text, jsonb, text, text),
--                             fanfare.publish(text[], text, jsonb, text, text) TO shop;

CREATE SCHEMA IF NOT EXISTS fanfare;
COMMENT ON SCHEMA fanfare IS 'Events for the clients of Fanfare, published with their transactions';

-- Order within a transaction, and the order of commits. Where rows came by replication, which leaves sequences behind, a
-- number may be given twice; so neither is a key.
CREATE SEQUENCE IF NOT EXISTS fanfare.ordinals;
CREATE SEQUENCE IF NOT EXISTS fanfare.commit_positions;

-- Events that are not delivered yet. Nothing in it says which rows were read: a row that came by pg_dump or replication,
-- with the numbers and transactions of another server, waits like all others.
CREATE TABLE IF NOT EXISTS fanfare.outbox (
    id              uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    commit_position bigint      NOT NULL DEFAULT 0, -- set while the transaction commits
    ordinal         bigint      NOT NULL DEFAULT nextval('fanfare.ordinals'),
    channels        text[]      NOT NULL,
    event           text        NOT NULL,
    data            jsonb       NOT NULL,
    socket_id       text, -- the connection that does not get it
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX IF NOT EXISTS outbox_order ON fanfare.outbox (commit_position, ordinal);

-- Events that cannot be delivered, with the reason, for a week.
CREATE TABLE IF NOT EXISTS fanfare.rejected (
    id          uuid        PRIMARY KEY,
    channels    text[]      NOT NULL,
    event       text        NOT NULL,
    data        jsonb       NOT NULL,
    socket_id   text,
    created_at  timestamptz NOT NULL,
    reason      text        NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Keys of the last day, and the events that they stand for.
CREATE TABLE IF NOT EXISTS fanfare.idempotency_keys (
    key        text        PRIMARY KEY,
    event_id   uuid        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS idempotency_keys_age ON fanfare.idempotency_keys (created_at);

-- The node that reads, and what it has in hand.
CREATE TABLE IF NOT EXISTS fanfare.reader (
    is_only boolean     PRIMARY KEY DEFAULT true CHECK (is_only),
    app     text,
    holder  text,
    seen_at timestamptz,
    batch   uuid[]      NOT NULL DEFAULT '{}'
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO fanfare.reader DEFAULT VALUES ON CONFLICT DO NOTHING;

-- What the app allows, as the reader knows it, so that a mistake is an error where it is made.
CREATE TABLE IF NOT EXISTS fanfare.limits (
    is_only              boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    event_data           integer NOT NULL DEFAULT 10240, -- bytes
    event_name           integer NOT NULL DEFAULT 200, -- bytes
    channel_name         integer NOT NULL DEFAULT 200, -- bytes
    channels_per_publish integer NOT NULL DEFAULT 100
);
INSERT INTO fanfare.limits DEFAULT VALUES ON CONFLICT DO NOTHING;

-- Only the functions below read and write the tables, with the rights of their owner.
ALTER TABLE fanfare.outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE fanfare.rejected ENABLE ROW LEVEL SECURITY;
ALTER TABLE fanfare.idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE fanfare.reader ENABLE ROW LEVEL SECURITY;
ALTER TABLE fanfare.limits ENABLE ROW LEVEL SECURITY;

-- Raised when what this file creates changes.
CREATE OR REPLACE FUNCTION fanfare.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';

-- Publishes an event to channels when the transaction commits, and never if it does not. Returns the event's id, or the
-- id of the event that was published with the same key within a day.
CREATE OR REPLACE FUNCTION fanfare.publish(
    channels text[], event text, data jsonb, socket_id text DEFAULT NULL, idempotency_key text DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    allowed fanfare.limits%ROWTYPE;
    wrong   text;
    event_id uuid := gen_random_uuid();
    earlier  uuid;
BEGIN
    SELECT * INTO allowed FROM fanfare.limits;
    IF channels IS NULL OR cardinality(channels) NOT BETWEEN 1 AND allowed.channels_per_publish THEN
        RAISE EXCEPTION 'fanfare.publish: there must be 1 to % channels, there are %',
            allowed.channels_per_publish, coalesce(cardinality(channels), 0) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT coalesce(name, 'NULL') INTO wrong FROM unnest(channels) AS name
        WHERE name IS NULL OR octet_length(name) > allowed.channel_name
            OR name !~ '^(#server-to-user-)?[-a-zA-Z0-9_=@,.;]+$' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'fanfare.publish: "%" cannot be the name of a channel', left(wrong, 200)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = CASE WHEN wrong LIKE '{%}' THEN 'Several channels are an array: cast them to text[].'
                      ELSE format('It must have 1 to %s of the characters A-Z a-z 0-9 _ - = @ , . ;', allowed.channel_name) END;
    END IF;
    IF event IS NULL OR octet_length(event) NOT BETWEEN 1 AND allowed.event_name THEN
        RAISE EXCEPTION 'fanfare.publish: the event must have a name of 1 to % bytes', allowed.event_name
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF data IS NULL THEN
        RAISE EXCEPTION 'fanfare.publish: the data must not be NULL' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'An event without data has the JSON value null: ''null''::jsonb.';
    END IF;
    IF octet_length(data::text) > allowed.event_data THEN
        RAISE EXCEPTION 'fanfare.publish: the data have % bytes, at most % are allowed', octet_length(data::text), allowed.event_data
            USING ERRCODE = 'invalid_parameter_value', HINT = 'The limit is limits.event_data of the app.';
    END IF;
    IF socket_id = '' THEN
        socket_id := NULL;
    ELSIF socket_id !~ '^[0-9]+\.[0-9]+$' THEN
        RAISE EXCEPTION 'fanfare.publish: "%" is not a socket id', left(socket_id, 200)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'It is like 123.456, as the client knows it.';
    END IF;
    IF idempotency_key IS NOT NULL THEN
        IF octet_length(idempotency_key) NOT BETWEEN 1 AND 255 THEN
            RAISE EXCEPTION 'fanfare.publish: the idempotency key must have 1 to 255 bytes' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        INSERT INTO fanfare.idempotency_keys (key, event_id) VALUES (idempotency_key, event_id) ON CONFLICT (key) DO NOTHING;
        IF NOT FOUND THEN
            SELECT k.event_id INTO earlier FROM fanfare.idempotency_keys k WHERE k.key = idempotency_key;
            RETURN earlier;
        END IF;
    END IF;
    INSERT INTO fanfare.outbox (id, channels, event, data, socket_id) VALUES (event_id, channels, event, data, socket_id);
    RETURN event_id;
END $$;

-- The same for one channel.
CREATE OR REPLACE FUNCTION fanfare.publish(
    channel text, event text, data jsonb, socket_id text DEFAULT NULL, idempotency_key text DEFAULT NULL
) RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'SELECT fanfare.publish(ARRAY[channel], event, data, socket_id, idempotency_key)';

-- Gives the rows of a transaction one number while it commits. It waits for nobody: a transaction whose COMMIT is sent
-- after another one's was answered has the higher number, and those that commit at the same moment have no order.
CREATE OR REPLACE FUNCTION fanfare.number_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    this     text := pg_current_xact_id()::text;
    -- Lasts until the transaction ends.
    numbered text[] := string_to_array(current_setting('fanfare.commit', true), ':');
BEGIN
    IF numbered[1] IS DISTINCT FROM this THEN
        numbered := ARRAY[this, nextval('fanfare.commit_positions')::text];
        PERFORM set_config('fanfare.commit', array_to_string(numbered, ':'), true);
    END IF;
    UPDATE fanfare.outbox SET commit_position = numbered[2]::bigint WHERE id = NEW.id;
    RETURN NULL;
END $$;

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'fanfare.outbox'::regclass AND tgname = 'number_commit') THEN
        CREATE CONSTRAINT TRIGGER number_commit AFTER INSERT ON fanfare.outbox
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fanfare.number_commit();
    END IF;
END $$;

-- What follows is for nodes of Fanfare.

-- Makes a node the reader, or lets it stay the reader: of one app, and only while no other node was seen for five seconds.
-- Returns whether it is, and the app and node that are.
CREATE OR REPLACE FUNCTION fanfare.lease(by_app text, by_holder text, OUT is_mine boolean, OUT app text, OUT holder text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    reader fanfare.reader%ROWTYPE;
BEGIN
    -- A node that waits for its turn locks nothing.
    SELECT * INTO reader FROM fanfare.reader;
    IF NOT FOUND THEN
        -- The schema was copied without its rows.
        INSERT INTO fanfare.reader DEFAULT VALUES ON CONFLICT DO NOTHING;
        SELECT * INTO STRICT reader FROM fanfare.reader;
    END IF;
    IF reader.holder <> by_holder AND reader.seen_at >= clock_timestamp() - interval '5 seconds' THEN
        is_mine := false;
    ELSE
        UPDATE fanfare.reader r SET app = by_app, holder = by_holder, seen_at = clock_timestamp()
            WHERE r.holder IS NULL OR r.holder = by_holder OR r.seen_at < clock_timestamp() - interval '5 seconds';
        is_mine := FOUND;
        SELECT * INTO STRICT reader FROM fanfare.reader;
    END IF;
    app := reader.app;
    holder := reader.holder;
END $$;

-- Gives the lease up, so that another node need not wait until it runs out. What was delivered is removed.
CREATE OR REPLACE FUNCTION fanfare.release(by_holder text, delivered uuid[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE fanfare.reader SET holder = NULL WHERE holder = by_holder;
    IF FOUND THEN
        DELETE FROM fanfare.outbox WHERE id = ANY (delivered);
    END IF;
END $$;

-- Whether there may be something to take.
CREATE OR REPLACE FUNCTION fanfare.is_waiting(from_position bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'SELECT EXISTS (SELECT FROM fanfare.outbox WHERE commit_position >= from_position)';

-- Removes what was delivered and returns the next events in the order of their commits. What was taken and is neither
-- delivered nor rejected comes again, in the same batch, whichever node asks: so a repeated batch is known as one.
-- Dropped first, because it had another column once, and a replacement must have the same.
DROP FUNCTION IF EXISTS fanfare.take(text, uuid[], bigint, integer, integer, integer);
CREATE OR REPLACE FUNCTION fanfare.take(
    by_holder text, delivered uuid[], from_position bigint, max_events integer, max_channels integer, max_bytes integer
) RETURNS TABLE (
    id uuid, commit_position bigint, channels text[], event text, data text, socket_id text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    reader fanfare.reader%ROWTYPE;
    next   uuid[];
BEGIN
    SELECT * INTO STRICT reader FROM fanfare.reader FOR UPDATE;
    IF reader.holder IS DISTINCT FROM by_holder THEN
        RAISE EXCEPTION 'another node reads this outbox' USING ERRCODE = 'FF001';
    END IF;
    IF cardinality(delivered) > 0 THEN
        DELETE FROM fanfare.outbox WHERE id = ANY (delivered);
    END IF;
    next := ARRAY(SELECT o.id FROM fanfare.outbox o WHERE o.id = ANY (reader.batch));
    IF cardinality(next) = 0 THEN
        next := ARRAY(
            SELECT w.id FROM (
                SELECT o.id, row_number() OVER before AS nth,
                    sum(cardinality(o.channels)) OVER before AS channels,
                    sum(octet_length(o.data::text)) OVER before AS bytes
                FROM (
                    SELECT * FROM fanfare.outbox WHERE commit_position >= from_position
                    ORDER BY commit_position, ordinal LIMIT max_events
                ) o
                WINDOW before AS (ORDER BY o.commit_position, o.ordinal ROWS UNBOUNDED PRECEDING)
            ) w
            WHERE w.nth = 1 OR (w.channels <= max_channels AND w.bytes <= max_bytes)
        );
        IF next <> reader.batch THEN
            UPDATE fanfare.reader SET batch = next, seen_at = clock_timestamp();
        END IF;
    END IF;
    RETURN QUERY
        SELECT o.id, o.commit_position, o.channels, o.event, o.data::text, o.socket_id
        FROM fanfare.outbox o WHERE o.id = ANY (next) ORDER BY o.commit_position, o.ordinal;
END $$;

-- Sets events aside that cannot be delivered.
CREATE OR REPLACE FUNCTION fanfare.reject(by_holder text, ids uuid[], reasons text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    reader fanfare.reader%ROWTYPE;
BEGIN
    SELECT * INTO STRICT reader FROM fanfare.reader FOR UPDATE;
    IF reader.holder IS DISTINCT FROM by_holder THEN
        RAISE EXCEPTION 'another node reads this outbox' USING ERRCODE = 'FF001';
    END IF;
    WITH gone AS (DELETE FROM fanfare.outbox WHERE id = ANY (ids) RETURNING *)
    INSERT INTO fanfare.rejected (id, channels, event, data, socket_id, created_at, reason)
        SELECT g.id, g.channels, g.event, g.data, g.socket_id, g.created_at, r.reason
        FROM gone g JOIN unnest(ids, reasons) AS r (id, reason) ON r.id = g.id
        ON CONFLICT (id) DO NOTHING;
END $$;

-- Counts what waits, up to a bound, and tells how long the first of it has waited.
CREATE OR REPLACE FUNCTION fanfare.backlog(bound integer, OUT waiting bigint, OUT oldest_age_ms bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT (SELECT count(*) FROM (SELECT FROM fanfare.outbox LIMIT bound) AS o),
        (SELECT (extract(epoch FROM clock_timestamp() - created_at) * 1000)::bigint FROM fanfare.outbox
         ORDER BY commit_position, ordinal LIMIT 1)
$$;

-- Makes the app's limits those of publish.
CREATE OR REPLACE FUNCTION fanfare.set_limits(data_bytes integer, name_bytes integer, channel_bytes integer, most_channels integer)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO fanfare.limits AS l (event_data, event_name, channel_name, channels_per_publish)
        VALUES (data_bytes, name_bytes, channel_bytes, most_channels)
    ON CONFLICT (is_only) DO UPDATE SET event_data = excluded.event_data, event_name = excluded.event_name,
        channel_name = excluded.channel_name, channels_per_publish = excluded.channels_per_publish
    WHERE (l.event_data, l.event_name, l.channel_name, l.channels_per_publish)
        IS DISTINCT FROM (data_bytes, name_bytes, channel_bytes, most_channels)
$$;

-- Removes what is kept no longer, a part at a time.
CREATE OR REPLACE FUNCTION fanfare.tidy() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM fanfare.idempotency_keys WHERE key IN (
        SELECT key FROM fanfare.idempotency_keys WHERE created_at < clock_timestamp() - interval '1 day'
        ORDER BY created_at LIMIT 5000);
    DELETE FROM fanfare.rejected WHERE id IN (
        SELECT id FROM fanfare.rejected WHERE rejected_at < clock_timestamp() - interval '7 days' LIMIT 1000)
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA fanfare FROM PUBLIC;
