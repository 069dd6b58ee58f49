-- What calls of nodes do, all of it under one lock. A call is an object with its kind, and with the
-- arguments that are named in the function of that kind. Bytes are apart, those of all calls in one array;
-- those of a call come after the element `base`.

CREATE FUNCTION micros() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$;

CREATE FUNCTION millis() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

CREATE FUNCTION bytes_of(text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
  SELECT convert_to($1, 'UTF8')
$$;

-- Returns a position as messages have it.
CREATE FUNCTION written(bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT lpad($1::text, 20, '0')
$$;

CREATE FUNCTION next_position() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT setval('positions', greatest(nextval('positions'), micros()))
$$;

CREATE FUNCTION newest_position() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM positions
$$;

CREATE FUNCTION announce(its_app text, its_channel text, its_text text) RETURNS void LANGUAGE sql VOLATILE AS $$
  INSERT INTO log (topic, message) VALUES ('channel:' || its_app || ':' || its_channel, bytes_of(its_text))
$$;

-- Returns why a report is refused, or NULL.
CREATE FUNCTION refusal(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF micros() > (call->>'deadline')::bigint THEN
    RETURN '{"refused": "late"}';
  END IF;
  IF NOT EXISTS (SELECT FROM enlisted WHERE app = call->>'app' AND node = call->>'node') THEN
    RETURN '{"refused": "forgotten"}';
  END IF;
  RETURN NULL;
END $$;

-- Transition logs. `rules` are NULL where nothing is logged.

CREATE FUNCTION is_occupied(its_app text, its_channel text) RETURNS boolean LANGUAGE sql VOLATILE AS $$
  SELECT EXISTS (SELECT FROM rooms WHERE app = its_app AND channel = its_channel)
$$;

CREATE FUNCTION is_subscribed(its_app text, its_channel text) RETURNS boolean LANGUAGE sql VOLATILE AS $$
  SELECT EXISTS (SELECT FROM counts WHERE app = its_app AND channel = its_channel)
$$;

-- Returns whether an entry says that a channel or user is absent that is present. A channel with members is
-- occupied even if no node has reported its subscriptions yet.
CREATE FUNCTION is_end_of_present(its_app text, its_entry text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  space int := strpos(its_entry, ' ');
BEGIN
  CASE left(its_entry, 1)
    WHEN 'c' THEN
      RETURN EXISTS (
        SELECT FROM members
        WHERE app = its_app AND channel = substr(its_entry, 2, space - 2) AND user_id = substr(its_entry, space + 1)
      );
    WHEN 'd' THEN
      RETURN is_subscribed(its_app, substr(its_entry, 2)) OR is_occupied(its_app, substr(its_entry, 2));
    ELSE
      RETURN false;
  END CASE;
END $$;

CREATE FUNCTION remove_transition(its_app text, its_entry text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  DELETE FROM transitions WHERE app = its_app AND entry = its_entry;
  IF FOUND THEN
    UPDATE transition_logs SET entries = entries - 1 WHERE app = its_app;
  END IF;
END $$;

-- Adds an entry that is due after `delay`, and not before `earliest`. One that waits already becomes due anew:
-- it may have been read, and what is settled then is the transition before this one.
CREATE FUNCTION add_transition(its_app text, rules jsonb, its_entry text, delay bigint, earliest bigint) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  due bigint := greatest(millis() + delay, earliest);
BEGIN
  UPDATE transitions SET due_ms = due WHERE app = its_app AND entry = its_entry;
  IF FOUND THEN
    RETURN;
  END IF;
  INSERT INTO transition_logs (app) VALUES (its_app) ON CONFLICT DO NOTHING;
  UPDATE transition_logs SET entries = entries + 1
    WHERE app = its_app AND entries < (rules->>'max_entries')::bigint;
  IF FOUND THEN
    INSERT INTO transitions (app, entry, due_ms) VALUES (its_app, its_entry, due);
  ELSE
    UPDATE transition_logs SET refused = refused + 1 WHERE app = its_app;
  END IF;
END $$;

-- Logs that a channel or user became absent. What waits of its beginning stays, so that a short visit is told
-- as both, in this order even if the clock was set back in between.
CREATE FUNCTION log_end(its_app text, rules jsonb, its_entry text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  is_channel boolean := left(its_entry, 1) = 'd';
  begun bigint;
BEGIN
  SELECT due_ms INTO begun FROM transitions
    WHERE app = its_app AND entry = CASE WHEN is_channel THEN 'a' ELSE 'b' END || substr(its_entry, 2);
  PERFORM add_transition(
    its_app, rules, its_entry,
    (rules->>'grace')::bigint + CASE WHEN is_channel THEN 50 ELSE 0 END,
    coalesce(begun, 0)
  );
END $$;

-- Logs that a channel has members or subscriptions. If it had others before, that is no transition, and an
-- entry that waits stays as it is.
CREATE FUNCTION log_occupied(its_app text, rules jsonb, its_channel text, had_others boolean) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF had_others AND EXISTS (SELECT FROM transitions WHERE app = its_app AND entry = 'a' || its_channel) THEN
    RETURN;
  END IF;
  PERFORM remove_transition(its_app, 'd' || its_channel);
  PERFORM add_transition(its_app, rules, 'a' || its_channel, 0, 0);
END $$;

-- Members of presence channels.

-- Removes a user of a node from a channel, and returns whether no node has the user there any more.
CREATE FUNCTION unseat(its_app text, its_node text, its_channel text, its_user text, rules jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  DELETE FROM seats WHERE app = its_app AND channel = its_channel AND user_id = its_user AND node = its_node;
  IF NOT FOUND
    OR EXISTS (SELECT FROM seats WHERE app = its_app AND channel = its_channel AND user_id = its_user) THEN
    RETURN false;
  END IF;
  DELETE FROM members WHERE app = its_app AND channel = its_channel AND user_id = its_user;
  UPDATE rooms SET users = users - 1 WHERE app = its_app AND channel = its_channel;
  DELETE FROM rooms WHERE app = its_app AND channel = its_channel AND users <= 0;
  PERFORM announce(its_app, its_channel, '1R' || written(next_position()) || its_user);
  IF rules->'members' = 'true' THEN
    PERFORM log_end(its_app, rules, 'c' || its_channel || ' ' || its_user);
  END IF;
  -- While nodes still report subscriptions, the report of the last one's end decides.
  IF rules->'channels' = 'true' AND NOT is_occupied(its_app, its_channel)
    AND NOT is_subscribed(its_app, its_channel) THEN
    PERFORM log_end(its_app, rules, 'd' || its_channel);
  END IF;
  RETURN true;
END $$;

CREATE FUNCTION snapshot(its_app text, its_channel text) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_array(user_id, info)), '[]')
  FROM members WHERE app = its_app AND channel = its_channel
$$;

-- app, node, deadline, channel, user, info, max, wants_members, log
CREATE FUNCTION call_join(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  its_app text := call->>'app';
  its_channel text := call->>'channel';
  its_user text := call->>'user';
  rules jsonb := nullif(call->'log', 'null');
  refused jsonb := refusal(call);
  room bigint;
  is_known boolean;
  is_added boolean := false;
BEGIN
  IF refused IS NOT NULL THEN
    RETURN refused;
  END IF;
  SELECT users INTO room FROM rooms WHERE app = its_app AND channel = its_channel;
  room := coalesce(room, 0);
  is_known := EXISTS (SELECT FROM members WHERE app = its_app AND channel = its_channel AND user_id = its_user);
  IF NOT is_known AND room >= (call->>'max')::numeric THEN
    RETURN '"full"';
  END IF;
  INSERT INTO members VALUES (its_app, its_channel, its_user, call->>'info')
    ON CONFLICT (app, channel, user_id) DO UPDATE SET info = excluded.info
    WHERE members.info <> excluded.info;
  INSERT INTO seats VALUES (its_app, its_channel, its_user, call->>'node') ON CONFLICT DO NOTHING;
  IF FOUND AND NOT is_known THEN
    is_added := true;
    INSERT INTO rooms VALUES (its_app, its_channel, 1)
      ON CONFLICT (app, channel) DO UPDATE SET users = rooms.users + 1;
    -- Its subscriptions are reported a moment later.
    IF rules->'channels' = 'true' AND room = 0 AND NOT is_subscribed(its_app, its_channel) THEN
      PERFORM log_occupied(its_app, rules, its_channel, false);
    END IF;
    IF rules->'members' = 'true' THEN
      PERFORM remove_transition(its_app, 'c' || its_channel || ' ' || its_user);
      PERFORM add_transition(its_app, rules, 'b' || its_channel || ' ' || its_user, 50, 0);
    END IF;
    PERFORM announce(
      its_app, its_channel,
      '1A' || written(next_position()) || octet_length(its_user) || ':' || its_user || (call->>'info')
    );
  END IF;
  RETURN jsonb_build_object(
    'added', is_added,
    'position', newest_position(),
    'members', CASE WHEN (call->>'wants_members')::boolean THEN snapshot(its_app, its_channel) ELSE '[]' END
  );
END $$;

-- app, node, deadline, channel, user, log
CREATE FUNCTION call_leave(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  RETURN coalesce(
    refusal(call),
    to_jsonb(unseat(call->>'app', call->>'node', call->>'channel', call->>'user', nullif(call->'log', 'null')))
  );
END $$;

-- app, channel
CREATE FUNCTION call_snapshot(call jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT jsonb_build_object('position', newest_position(), 'members', snapshot(call->>'app', call->>'channel'))
$$;

-- app, channels
CREATE FUNCTION call_user_counts(call jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(jsonb_agg(coalesce(rooms.users, 0) ORDER BY place), '[]')
  FROM jsonb_array_elements_text(call->'channels') WITH ORDINALITY AS asked (name, place)
  LEFT JOIN rooms ON rooms.app = call->>'app' AND rooms.channel = name
$$;

-- Subscribed connections.

-- Sets a node's count of a channel, and returns the count over all nodes, before and after.
CREATE FUNCTION recount(
  its_app text, its_node text, its_channel text, its_count bigint, rules jsonb, OUT before bigint, OUT after bigint
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  mine bigint;
BEGIN
  SELECT coalesce(sum(count), 0), coalesce(sum(count) FILTER (WHERE node = its_node), 0) INTO before, mine
    FROM counts WHERE app = its_app AND channel = its_channel;
  after := before - mine + its_count;
  IF its_count > 0 THEN
    INSERT INTO counts VALUES (its_app, its_channel, its_node, its_count)
      ON CONFLICT (app, channel, node) DO UPDATE SET count = excluded.count;
  ELSIF mine > 0 THEN
    DELETE FROM counts WHERE app = its_app AND channel = its_channel AND node = its_node;
  END IF;
  IF rules->'channels' = 'true' AND before = 0 AND after > 0 THEN
    PERFORM log_occupied(its_app, rules, its_channel, is_occupied(its_app, its_channel));
  END IF;
  -- While the channel has members, the last one's leave decides.
  IF rules->'channels' = 'true' AND before > 0 AND after = 0 AND NOT is_occupied(its_app, its_channel) THEN
    PERFORM log_end(its_app, rules, 'd' || its_channel);
  END IF;
END $$;

-- app, node, deadline, channel, count, announce, visited, log
CREATE FUNCTION call_subscriptions(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  its_app text := call->>'app';
  its_channel text := call->>'channel';
  rules jsonb := nullif(call->'log', 'null');
  refused jsonb := refusal(call);
  counted record;
BEGIN
  IF refused IS NOT NULL THEN
    RETURN refused;
  END IF;
  counted := recount(its_app, call->>'node', its_channel, (call->>'count')::bigint, rules);
  IF rules->'channels' = 'true' AND (call->>'visited')::boolean AND counted.before = 0 AND counted.after = 0 THEN
    PERFORM log_occupied(its_app, rules, its_channel, false);
    PERFORM log_end(its_app, rules, 'd' || its_channel);
  END IF;
  IF (call->>'announce')::boolean AND counted.after > 0 THEN
    PERFORM announce(its_app, its_channel, '1C' || counted.after);
  END IF;
  RETURN jsonb_build_object('before', counted.before, 'after', counted.after);
END $$;

-- app, node, channel
CREATE FUNCTION call_remote_subscriptions(call jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT to_jsonb(coalesce(sum(count), 0)) FROM counts
  WHERE app = call->>'app' AND channel = call->>'channel' AND node <> call->>'node'
$$;

-- app, node, prefix. Members are known at once, and counts a moment later.
CREATE FUNCTION call_all_remote_subscriptions(call jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_array(channel, number)), '[]')
  FROM (
    SELECT channel, sum(number) AS number
    FROM (
      SELECT channel, count AS number FROM counts
      WHERE app = call->>'app' AND node <> call->>'node' AND starts_with(channel, call->>'prefix')
      UNION ALL
      SELECT channel, 0 FROM rooms
      WHERE app = call->>'app' AND starts_with(channel, call->>'prefix')
    ) AS each_of_them
    GROUP BY channel
  ) AS together
$$;

-- Signed-in users.

CREATE FUNCTION announce_online(its_app text, its_user text, letter text) RETURNS void LANGUAGE sql VOLATILE AS $$
  INSERT INTO log (topic, message)
  VALUES ('users:' || its_app, bytes_of('1' || letter || written(next_position()) || its_user))
$$;

-- Signs a user of a node out, and returns whether no node has the user signed in any more.
CREATE FUNCTION sign_out(its_app text, its_node text, its_user text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  DELETE FROM online WHERE app = its_app AND user_id = its_user AND node = its_node;
  IF NOT FOUND OR EXISTS (SELECT FROM online WHERE app = its_app AND user_id = its_user) THEN
    RETURN false;
  END IF;
  PERFORM announce_online(its_app, its_user, 'F');
  RETURN true;
END $$;

-- app, node, deadline, user
CREATE FUNCTION call_sign_in(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  refused jsonb := refusal(call);
  was_online boolean;
BEGIN
  IF refused IS NOT NULL THEN
    RETURN refused;
  END IF;
  was_online := EXISTS (SELECT FROM online WHERE app = call->>'app' AND user_id = call->>'user');
  INSERT INTO online VALUES (call->>'app', call->>'user', call->>'node') ON CONFLICT DO NOTHING;
  IF NOT was_online THEN
    PERFORM announce_online(call->>'app', call->>'user', 'O');
  END IF;
  RETURN to_jsonb(NOT was_online);
END $$;

-- app, node, deadline, user
CREATE FUNCTION call_sign_out(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  RETURN coalesce(refusal(call), to_jsonb(sign_out(call->>'app', call->>'node', call->>'user')));
END $$;

-- app, users
CREATE FUNCTION call_online(call jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT jsonb_build_object(
    'position', newest_position(),
    'online', coalesce(
      jsonb_agg(EXISTS (SELECT FROM online WHERE app = call->>'app' AND user_id = name) ORDER BY place), '[]'
    )
  )
  FROM jsonb_array_elements_text(call->'users') WITH ORDINALITY AS asked (name, place)
$$;

-- Connections.

-- Changes a node's number of connections.
CREATE FUNCTION add_connections(its_app text, its_node text, change bigint) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  INSERT INTO connections VALUES (its_app, its_node, change)
    ON CONFLICT (app, node) DO UPDATE SET count = connections.count + excluded.count;
  DELETE FROM connections WHERE app = its_app AND node = its_node AND count <= 0;
END $$;

-- app, node, deadline, count
CREATE FUNCTION call_connections(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  refused jsonb := refusal(call);
BEGIN
  IF refused IS NULL THEN
    DELETE FROM connections WHERE app = call->>'app' AND node = call->>'node';
    PERFORM add_connections(call->>'app', call->>'node', (call->>'count')::bigint);
  END IF;
  RETURN coalesce(refused, 'true');
END $$;

-- app, node, deadline, max, change
CREATE FUNCTION call_admit(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  refused jsonb := refusal(call);
  change bigint := (call->>'change')::bigint;
  together bigint;
BEGIN
  IF refused IS NOT NULL THEN
    RETURN refused;
  END IF;
  IF change <> 0 THEN
    PERFORM add_connections(call->>'app', call->>'node', change);
  END IF;
  SELECT coalesce(sum(count), 0) INTO together FROM connections WHERE app = call->>'app';
  IF together >= (call->>'max')::numeric THEN
    RETURN 'false';
  END IF;
  PERFORM add_connections(call->>'app', call->>'node', 1);
  RETURN 'true';
END $$;

-- app, node
CREATE FUNCTION call_remote_connections(call jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT to_jsonb(coalesce(sum(count), 0)) FROM connections WHERE app = call->>'app' AND node <> call->>'node'
$$;

-- app
CREATE FUNCTION call_connections_by_node(call jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_array(node, count)), '[]') FROM connections WHERE app = call->>'app'
$$;

-- Events.

-- Drops what an app's cache channels keep beyond a time, and the oldest while there is too much.
CREATE FUNCTION shrink_cache(its_app text, most bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  time bigint := millis();
  taken bigint;
  freed bigint;
BEGIN
  LOOP
    WITH dropped AS (
      DELETE FROM cache WHERE app || '' = its_app AND until_ms <= time RETURNING octet_length(message) + 256 AS weight
    )
    SELECT coalesce(sum(weight), 0) INTO freed FROM dropped;
    UPDATE cache_bytes SET bytes = bytes - freed WHERE app = its_app RETURNING bytes INTO taken;
    EXIT WHEN coalesce(taken, 0) <= most;
    -- The next pass drops the oldest.
    UPDATE cache SET until_ms = 0
      WHERE app = its_app
        AND channel = (SELECT channel FROM cache WHERE app || '' = its_app ORDER BY until_ms LIMIT 1);
    EXIT WHEN NOT FOUND;
  END LOOP;
END $$;

CREATE FUNCTION keep(its_app text, its_channel text, ttl bigint, most bigint, body bytea) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  freed bigint;
BEGIN
  DELETE FROM cache WHERE app = its_app AND channel = its_channel RETURNING octet_length(message) + 256 INTO freed;
  INSERT INTO cache VALUES (its_app, its_channel, millis() + ttl, body);
  INSERT INTO cache_bytes VALUES (its_app, octet_length(body) + 256 - coalesce(freed, 0))
    ON CONFLICT (app) DO UPDATE SET bytes = cache_bytes.bytes + excluded.bytes;
  PERFORM shrink_cache(its_app, most);
END $$;

-- Begins a history unless there is one of these rules. One without events is kept only briefly, because any
-- client can begin one by asking.
CREATE FUNCTION begin_history(its_app text, its_channel text, its_rules text, its_epoch text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF EXISTS (
    SELECT FROM histories
    WHERE app = its_app AND channel = its_channel AND rules = its_rules AND until_ms > millis()
  ) THEN
    RETURN;
  END IF;
  DELETE FROM histories WHERE app = its_app AND channel = its_channel;
  IF FOUND THEN
    DELETE FROM events WHERE app = its_app AND channel = its_channel;
  END IF;
  INSERT INTO histories (app, channel, rules, epoch, until_ms)
    VALUES (its_app, its_channel, its_rules, its_epoch, millis() + 600000);
END $$;

-- Counts an event in its history, holds it there, and returns its message with its place.
CREATE FUNCTION record(
  its_app text, its_channel text, its_rules text, its_epoch text, size bigint, ttl bigint, place bigint, kind text,
  body bytea
) RETURNS bytea LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  number bigint;
  the_epoch text;
  where_it_is text;
  its_message bytea;
BEGIN
  PERFORM begin_history(its_app, its_channel, its_rules, its_epoch);
  UPDATE histories
    SET last_offset = last_offset + 1, newest = place, ttl_ms = ttl, until_ms = millis() + greatest(ttl, 86400000)
    WHERE app = its_app AND channel = its_channel
    RETURNING last_offset, epoch INTO number, the_epoch;
  where_it_is := the_epoch || ':' || number;
  its_message := bytes_of('1' || kind || written(place) || octet_length(where_it_is) || ':' || where_it_is)
    || substr(body, 3);
  INSERT INTO events VALUES (its_app, its_channel, number, millis() + ttl, its_message);
  DELETE FROM events WHERE app = its_app AND channel = its_channel AND event_offset <= number - size;
  RETURN its_message;
END $$;

-- app, deadline, key, digest, epoch, events: arrays of channel, number of the bytes, milliseconds to cache it or 0, most bytes
-- cached, how many events its history keeps or 0, for how many milliseconds, fingerprint of the rules
CREATE FUNCTION call_publish(call jsonb, payloads bytea[]) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  its_app text := call->>'app';
  base int := (call->>'base')::int;
  known text;
  event jsonb;
  its_channel text;
  body bytea;
  ttl bigint;
  size bigint;
  place bigint;
BEGIN
  IF micros() > (call->>'deadline')::bigint THEN
    RETURN '{"refused": "late"}';
  END IF;
  IF call ? 'key' THEN
    SELECT digest INTO known FROM requests
      WHERE app = its_app AND key = call->>'key' AND until_ms > millis();
    IF FOUND THEN
      RETURN CASE WHEN known = call->>'digest' THEN '"before"' ELSE '"other_request"' END;
    END IF;
    INSERT INTO requests VALUES (its_app, call->>'key', call->>'digest', millis() + 120000)
      ON CONFLICT (app, key) DO UPDATE SET digest = excluded.digest, until_ms = excluded.until_ms;
  END IF;
  FOR event IN SELECT * FROM jsonb_array_elements(call->'events') LOOP
    its_channel := event->>0;
    body := payloads[base + (event->>1)::int];
    IF jsonb_array_length(event) > 2 THEN
      ttl := (event->>2)::bigint;
      size := (event->>4)::bigint;
      place := next_position();
      IF size > 0 THEN
        body := record(
          its_app, its_channel, event->>6, call->>'epoch', size, (event->>5)::bigint, place,
          CASE WHEN ttl > 0 THEN 'J' ELSE 'H' END, body
        );
      ELSE
        body := bytes_of('1K' || written(place)) || substr(body, 3);
      END IF;
      IF ttl > 0 THEN
        PERFORM keep(its_app, its_channel, ttl, (event->>3)::bigint, body);
      END IF;
    END IF;
    INSERT INTO log (topic, message) VALUES ('channel:' || its_app || ':' || its_channel, body);
  END LOOP;
  RETURN '"now"';
END $$;

-- app, channel. The message comes as hexadecimal digits.
CREATE FUNCTION call_cached(call jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT jsonb_build_object('ttl', until_ms - millis(), 'message', encode(message, 'hex')) FROM cache
  WHERE app = call->>'app' AND channel = call->>'channel' AND until_ms > millis()
$$;

-- app, channel, rules, epoch
CREATE FUNCTION call_begin_history(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM begin_history(call->>'app', call->>'channel', call->>'rules', call->>'epoch');
  RETURN 'true';
END $$;

-- topic, and where it matters a deadline
CREATE FUNCTION call_send(call jsonb, payloads bytea[]) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF micros() > (call->>'deadline')::bigint THEN
    RETURN '{"refused": "late"}';
  END IF;
  INSERT INTO log (topic, message) VALUES (call->>'topic', payloads[(call->>'base')::int + 1]);
  RETURN 'true';
END $$;

-- Nodes.

-- node, lease, first
CREATE FUNCTION call_heartbeat(call jsonb, payloads bytea[]) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  at bigint := micros();
  time bigint := at / 1000;
  lease bigint := (call->>'lease')::bigint;
BEGIN
  IF NOT (call->>'first')::boolean
    AND NOT EXISTS (SELECT FROM nodes WHERE node = call->>'node' AND until_ms > time) THEN
    RETURN '{"refused": "late"}';
  END IF;
  IF EXISTS (SELECT FROM installation WHERE uid <> call->>'installation' AND until_ms > time) THEN
    RETURN '{"refused": "installation"}';
  END IF;
  INSERT INTO installation VALUES (1, call->>'installation', time + (call->>'claim')::bigint)
    ON CONFLICT (id) DO UPDATE SET uid = excluded.uid, until_ms = excluded.until_ms;
  INSERT INTO nodes VALUES (call->>'node', time + lease, lease)
    ON CONFLICT (node) DO UPDATE SET until_ms = excluded.until_ms;
  -- A clock that was set back leaves leases that end too far ahead: none may last longer than a lease from now.
  UPDATE nodes SET until_ms = time + lease_ms WHERE until_ms > time + lease_ms;
  INSERT INTO log (topic, message) VALUES ('nodes', payloads[(call->>'base')::int + 1]);
  RETURN (
    SELECT jsonb_build_object(
      'now', at,
      'live', coalesce(jsonb_agg(node) FILTER (WHERE until_ms > time), '[]'),
      'dead', coalesce(jsonb_agg(node) FILTER (WHERE until_ms <= time), '[]')
    )
    FROM nodes
  );
END $$;

-- lock. A killed node stops receiving at once, and counts as alive until its lease runs out.
CREATE FUNCTION call_live_nodes(call jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT jsonb_build_object(
    'receiving', (
      SELECT count(*) FROM pg_locks
      WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = (call->>'class')::oid AND objid = (call->>'object')::oid
    ),
    'names', (SELECT coalesce(jsonb_agg(node), '[]') FROM nodes WHERE until_ms > millis())
  )
$$;

-- app, node, deadline
CREATE FUNCTION call_register(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF micros() > (call->>'deadline')::bigint THEN
    RETURN '{"refused": "late"}';
  END IF;
  INSERT INTO apps_of_nodes VALUES (call->>'node', call->>'app') ON CONFLICT DO NOTHING;
  RETURN 'true';
END $$;

-- node
CREATE FUNCTION call_apps(call jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(jsonb_agg(app), '[]') FROM apps_of_nodes WHERE node = call->>'node'
$$;

-- app, node, deadline
CREATE FUNCTION call_enlist(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF micros() > (call->>'deadline')::bigint THEN
    RETURN '{"refused": "late"}';
  END IF;
  INSERT INTO enlisted VALUES (call->>'app', call->>'node') ON CONFLICT DO NOTHING;
  RETURN 'true';
END $$;

-- app
CREATE FUNCTION call_enlisted(call jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(jsonb_agg(node), '[]') FROM enlisted WHERE app = call->>'app'
$$;

-- node, lease
CREATE FUNCTION call_claim(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  time bigint := millis();
BEGIN
  INSERT INTO claims VALUES (call->>'node', time + (call->>'lease')::bigint)
    ON CONFLICT (node) DO UPDATE SET until_ms = excluded.until_ms WHERE claims.until_ms <= time;
  RETURN to_jsonb(FOUND);
END $$;

-- app, node, log. Removes a part, because all of it may take too long for one call.
CREATE FUNCTION call_reap(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  part CONSTANT int := 500;
  its_app text := call->>'app';
  its_node text := call->>'node';
  rules jsonb := nullif(call->'log', 'null');
  removed jsonb[] := '{}';
  vacated text[] := '{}';
  counted text[] := '{}';
  entry record;
  is_left boolean;
BEGIN
  FOR entry IN SELECT channel, user_id FROM seats WHERE app = its_app AND node = its_node LIMIT part LOOP
    IF unseat(its_app, its_node, entry.channel, entry.user_id, rules) THEN
      removed := removed || jsonb_build_array(entry.channel, entry.user_id);
    END IF;
  END LOOP;
  FOR entry IN SELECT channel FROM counts WHERE app = its_app AND node = its_node LIMIT part LOOP
    IF (recount(its_app, its_node, entry.channel, 0, rules)).after = 0 THEN
      vacated := vacated || entry.channel;
    ELSE
      counted := counted || entry.channel;
    END IF;
  END LOOP;
  FOR entry IN SELECT user_id FROM online WHERE app = its_app AND node = its_node LIMIT part LOOP
    PERFORM sign_out(its_app, its_node, entry.user_id);
  END LOOP;
  DELETE FROM connections WHERE app = its_app AND node = its_node;
  is_left := EXISTS (SELECT FROM seats WHERE app = its_app AND node = its_node)
    OR EXISTS (SELECT FROM counts WHERE app = its_app AND node = its_node)
    OR EXISTS (SELECT FROM online WHERE app = its_app AND node = its_node);
  IF NOT is_left THEN
    DELETE FROM enlisted WHERE app = its_app AND node = its_node;
  END IF;
  RETURN jsonb_build_object(
    'removed', to_jsonb(removed), 'vacated', to_jsonb(vacated), 'counted', to_jsonb(counted), 'more', is_left
  );
END $$;

-- node
CREATE FUNCTION call_forget(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  DELETE FROM apps_of_nodes WHERE node = call->>'node';
  DELETE FROM claims WHERE node = call->>'node';
  DELETE FROM nodes WHERE node = call->>'node';
  RETURN to_jsonb(FOUND);
END $$;

-- Transition logs, as they are read.

-- app, max, longest
CREATE FUNCTION call_due_transitions(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  its_app text := call->>'app';
  time bigint := millis();
  longest bigint := (call->>'longest')::bigint;
  due jsonb[] := '{}';
  found_entry record;
  stamp bigint;
  next_due bigint;
  refused_so_far bigint;
BEGIN
  -- A clock that was set back leaves entries that are due too far ahead.
  UPDATE transitions SET due_ms = time + longest WHERE app || '' = its_app AND due_ms > time + longest;
  FOR found_entry IN
    SELECT entry, due_ms FROM transitions WHERE app || '' = its_app AND due_ms <= time
    ORDER BY due_ms, entry LIMIT (call->>'max')::bigint
  LOOP
    IF is_end_of_present(its_app, found_entry.entry) THEN
      PERFORM remove_transition(its_app, found_entry.entry);
    ELSE
      due := due || jsonb_build_array(found_entry.entry, found_entry.due_ms);
    END IF;
  END LOOP;
  SELECT due_ms INTO next_due FROM transitions WHERE app || '' = its_app
    ORDER BY due_ms, entry OFFSET cardinality(due) LIMIT 1;
  INSERT INTO transition_logs (app, newest_stamp) VALUES (its_app, micros())
    ON CONFLICT (app) DO UPDATE SET newest_stamp = greatest(transition_logs.newest_stamp + 1, micros())
    RETURNING newest_stamp, refused INTO stamp, refused_so_far;
  RETURN jsonb_build_object(
    'stamp', stamp, 'due', to_jsonb(due), 'next_due', CASE WHEN next_due > time THEN next_due - time ELSE 0 * next_due END, 'refused', refused_so_far
  );
END $$;

-- app, handled: arrays of an entry and when it was due
CREATE FUNCTION call_settle_transitions(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM remove_transition(call->>'app', entry)
  FROM transitions JOIN jsonb_array_elements(call->'handled') AS pair
    ON app = call->>'app' AND entry = pair->>0 AND due_ms = (pair->>1)::bigint;
  RETURN 'true';
END $$;

-- app, newest_stamp, log, ends: entries that receivers are owed unless their channel or member is present
CREATE FUNCTION call_arm_transitions(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  its_app text := call->>'app';
  its_entry text;
BEGIN
  INSERT INTO transition_logs (app, newest_stamp) VALUES (its_app, (call->>'newest_stamp')::bigint)
    ON CONFLICT (app) DO UPDATE SET newest_stamp = greatest(transition_logs.newest_stamp, excluded.newest_stamp);
  FOR its_entry IN SELECT * FROM jsonb_array_elements_text(call->'ends') LOOP
    IF NOT EXISTS (SELECT FROM transitions WHERE app = its_app AND entry = its_entry)
      AND NOT is_end_of_present(its_app, its_entry) THEN
      PERFORM log_end(its_app, call->'log', its_entry);
    END IF;
  END LOOP;
  RETURN 'true';
END $$;

-- app
CREATE FUNCTION call_forget_transitions(call jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  DELETE FROM transitions WHERE app = call->>'app';
  DELETE FROM transition_logs WHERE app = call->>'app';
  RETURN 'true';
END $$;

-- Removes what is kept no longer, a part at a time.

CREATE FUNCTION call_tidy() RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  part CONSTANT int := 1000;
  time bigint := millis();
BEGIN
  DELETE FROM requests WHERE ctid = ANY (ARRAY(SELECT ctid FROM requests WHERE until_ms <= time LIMIT part));
  DELETE FROM claims WHERE until_ms <= time;
  PERFORM shrink_cache(app, 9223372036854775807) FROM cache_bytes
    WHERE EXISTS (SELECT FROM cache WHERE cache.app || '' = cache_bytes.app AND until_ms <= time);
  WITH over AS (
    DELETE FROM histories
      WHERE ctid = ANY (ARRAY(SELECT ctid FROM histories WHERE until_ms <= time LIMIT part))
      RETURNING app, channel
  )
  DELETE FROM events USING over WHERE events.app = over.app AND events.channel = over.channel;
  RETURN 'true';
END $$;

-- Removes events that no history has any more. It needs no lock, because they are not read.
CREATE FUNCTION remove_events() RETURNS void LANGUAGE sql VOLATILE AS $$
  DELETE FROM events WHERE ctid = ANY (
    ARRAY(SELECT ctid FROM events WHERE until_ms <= millis() LIMIT 5000 FOR UPDATE SKIP LOCKED)
  )
$$;

-- Empties the partition of the log whose turn comes in a quarter of a minute. The clock is read in here: a node
-- that is stopped in between would empty another one. What a reader holds up is left for the next time.
CREATE FUNCTION empty_log() RETURNS void LANGUAGE plpgsql VOLATILE SET lock_timeout = '50ms' AS $$
DECLARE
  name text := 'log_' || (floor(extract(epoch FROM clock_timestamp()) / 15)::bigint + 2) % 4;
  is_used boolean;
BEGIN
  EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO is_used;
  IF is_used THEN
    EXECUTE format('TRUNCATE %I', name);
  END IF;
END $$;

CREATE FUNCTION answer_to(call jsonb, payloads bytea[]) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  CASE call->>'kind'
    WHEN 'publish' THEN RETURN call_publish(call, payloads);
    WHEN 'join' THEN RETURN call_join(call);
    WHEN 'leave' THEN RETURN call_leave(call);
    WHEN 'subscriptions' THEN RETURN call_subscriptions(call);
    WHEN 'connections' THEN RETURN call_connections(call);
    WHEN 'admit' THEN RETURN call_admit(call);
    WHEN 'send' THEN RETURN call_send(call, payloads);
    WHEN 'heartbeat' THEN RETURN call_heartbeat(call, payloads);
    WHEN 'sign_in' THEN RETURN call_sign_in(call);
    WHEN 'sign_out' THEN RETURN call_sign_out(call);
    WHEN 'cached' THEN RETURN call_cached(call);
    WHEN 'begin_history' THEN RETURN call_begin_history(call);
    WHEN 'snapshot' THEN RETURN call_snapshot(call);
    WHEN 'user_counts' THEN RETURN call_user_counts(call);
    WHEN 'remote_subscriptions' THEN RETURN call_remote_subscriptions(call);
    WHEN 'all_remote_subscriptions' THEN RETURN call_all_remote_subscriptions(call);
    WHEN 'online' THEN RETURN call_online(call);
    WHEN 'remote_connections' THEN RETURN call_remote_connections(call);
    WHEN 'connections_by_node' THEN RETURN call_connections_by_node(call);
    WHEN 'due_transitions' THEN RETURN call_due_transitions(call);
    WHEN 'settle_transitions' THEN RETURN call_settle_transitions(call);
    WHEN 'arm_transitions' THEN RETURN call_arm_transitions(call);
    WHEN 'forget_transitions' THEN RETURN call_forget_transitions(call);
    WHEN 'live_nodes' THEN RETURN call_live_nodes(call);
    WHEN 'register' THEN RETURN call_register(call);
    WHEN 'apps' THEN RETURN call_apps(call);
    WHEN 'enlist' THEN RETURN call_enlist(call);
    WHEN 'enlisted' THEN RETURN call_enlisted(call);
    WHEN 'claim' THEN RETURN call_claim(call);
    WHEN 'reap' THEN RETURN call_reap(call);
    WHEN 'forget' THEN RETURN call_forget(call);
    WHEN 'tidy' THEN RETURN call_tidy();
  END CASE;
END $$;

-- Takes the calls of a node, one after the other and together atomically. Returns the places in the log before
-- the first one and after each, and the answers. It commits before it answers: a node that doesn't read its
-- answers must not hold the lock.
CREATE PROCEDURE take(
  lock_class int, lock_object int, channel text, node text, calls jsonb[], payloads bytea[],
  INOUT places bigint[], INOUT answers text[]
) LANGUAGE plpgsql AS $$
DECLARE
  call jsonb;
  -- An array in a variable is taken apart once, and not for each element.
  bodies bytea[] := payloads;
  all_places bigint[] := '{}';
  all_answers text[] := '{}';
BEGIN
  PERFORM pg_advisory_xact_lock(lock_class, lock_object);
  all_places := all_places || nextval('log_ids');
  FOREACH call IN ARRAY calls LOOP
    all_answers := all_answers || coalesce(answer_to(call, bodies)::text, 'null');
    all_places := all_places || nextval('log_ids');
  END LOOP;
  -- Places between which there is more than the next one have messages.
  IF all_places[cardinality(all_places)] - all_places[1] > cardinality(calls) THEN
    PERFORM pg_notify(channel, node);
  END IF;
  COMMIT;
  places := all_places;
  answers := all_answers;
END $$;

-- Returns a page of a history with what comes before it, or nothing if the history has not begun.
CREATE FUNCTION history_page(
  its_app text, its_channel text, its_rules text, asked text, at_epoch text, at_offset bigint, most bigint, room bigint
) RETURNS TABLE (epoch text, last_offset bigint, newest bigint, outcome text, messages bytea[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
  history record;
  first_held bigint;
  from_offset bigint;
  to_offset bigint;
  left_after bigint;
  held bigint;
  found_bytes bigint;
BEGIN
  SELECT * INTO history FROM histories AS h
    WHERE h.app = its_app AND h.channel = its_channel AND h.rules = its_rules AND h.until_ms > millis();
  IF NOT FOUND THEN
    RETURN;
  END IF;
  epoch := history.epoch;
  last_offset := history.last_offset;
  newest := history.newest;
  -- Events are held in order, so those that are too old are the first ones.
  SELECT min(e.event_offset) INTO first_held FROM events AS e
    WHERE e.app = its_app AND e.channel = its_channel AND e.until_ms > millis();
  held := CASE WHEN first_held IS NULL THEN 0 ELSE history.last_offset - first_held + 1 END;
  left_after := held;
  IF at_epoch <> '' THEN
    left_after := history.last_offset - at_offset;
    IF at_epoch <> history.epoch OR left_after < 0 THEN
      outcome := 'expired';
      RETURN NEXT;
      RETURN;
    END IF;
    IF asked <> 'backward' AND left_after > held THEN
      outcome := 'too_old';
      RETURN NEXT;
      RETURN;
    END IF;
  END IF;
  to_offset := history.last_offset;
  CASE asked
    WHEN 'after' THEN
      from_offset := history.last_offset - left_after + 1;
    WHEN 'forward' THEN
      from_offset := history.last_offset - left_after + 1;
      to_offset := least(from_offset + most - 1, to_offset);
    WHEN 'backward' THEN
      IF at_epoch <> '' THEN
        to_offset := at_offset - 1;
      END IF;
      from_offset := greatest(to_offset - most + 1, history.last_offset - held + 1);
    ELSE
      from_offset := greatest(history.last_offset - least(most, held) + 1, 1);
  END CASE;
  IF asked = 'after' THEN
    SELECT sum(octet_length(e.message)) INTO found_bytes FROM events AS e
      WHERE e.app = its_app AND e.channel = its_channel AND e.event_offset BETWEEN from_offset AND to_offset;
    IF found_bytes > room THEN
      outcome := 'too_large';
      RETURN NEXT;
      RETURN;
    END IF;
  END IF;
  outcome := 'found';
  -- The last ones are as many as there is room for.
  SELECT coalesce(
      array_agg(f.message ORDER BY CASE WHEN asked = 'backward' THEN -f.event_offset ELSE f.event_offset END)
        FILTER (WHERE asked <> 'last' OR f.together <= room),
      '{}'
    ) INTO messages
    FROM (
      SELECT e.event_offset, e.message, sum(octet_length(e.message)) OVER (ORDER BY e.event_offset DESC) AS together
      FROM events AS e
      WHERE e.app = its_app AND e.channel = its_channel AND e.event_offset BETWEEN from_offset AND to_offset
    ) AS f;
  RETURN NEXT;
END $$;

-- Returns what of the unlogged tables, indices and sequences of a schema can't be used, each with the reason. A standby
-- that is promoted before its first restartpoint has sequences without their page. A table's first page is read, and
-- an index in its order, which no other one gives. What another node drops meanwhile counts as well.
CREATE FUNCTION unusable(its_schema text) RETURNS SETOF text LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
DECLARE
  one record;
BEGIN
  FOR one IN
    SELECT relname, CASE relkind
        WHEN 'S' THEN format('SELECT pg_sequence_last_value(%s)', c.oid)
        WHEN 'r' THEN format('SELECT FROM %s WHERE ctid = ''(0,1)''', c.oid::regclass)
        ELSE format(
          'SELECT FROM %s ORDER BY %s LIMIT 1', indrelid::regclass,
          (SELECT string_agg(pg_get_indexdef(c.oid, n, true), ', ' ORDER BY n) FROM generate_series(1, indnkeyatts) AS n)
        )
      END AS look
    FROM pg_class AS c LEFT JOIN pg_index ON indexrelid = c.oid
    WHERE relnamespace = quote_ident(its_schema)::regnamespace AND relpersistence = 'u' AND relkind IN ('S', 'r', 'i')
  LOOP
    BEGIN
      EXECUTE one.look;
    EXCEPTION WHEN internal_error OR data_corrupted OR index_corrupted OR undefined_file OR undefined_table THEN
      RETURN NEXT format('%s: %s', one.relname, sqlerrm);
    END;
  END LOOP;
END $$;

-- Drops what nodes share. No call is under way meanwhile, and nodes that are connected connect again: what they have read
-- and announced is gone. Sessions of another user can't be ended; their node misses its entry at its next heartbeat.
CREATE FUNCTION drop_shared(its_schema text, lock_class int, lock_object int, listening_class int) RETURNS void
LANGUAGE plpgsql VOLATILE SET lock_timeout = '3s' AS $$
DECLARE
  statement text;
BEGIN
  PERFORM pg_advisory_xact_lock(lock_class, lock_object);
  BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_locks
      WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = listening_class::oid AND objid = lock_object::oid;
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;
  END;
  FOR statement IN
    SELECT format('DROP %s IF EXISTS %I.%I CASCADE', CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, its_schema, relname)
    FROM pg_class
    WHERE relnamespace = quote_ident(its_schema)::regnamespace
      AND (relpersistence = 'u' AND relkind IN ('S', 'r') OR relkind = 'p')
  LOOP
    EXECUTE statement;
  END LOOP;
END $$;
