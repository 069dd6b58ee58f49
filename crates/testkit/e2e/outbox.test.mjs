// An app's outbox on a single node: from the commands of docs/outbox.md to a client.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, afterEach, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { startDatabase } from './cluster/postgres.mjs';
import { startRedis } from './cluster/redis.mjs';
import { until } from './cluster/until.mjs';
import { next, record, startServer } from './harness.mjs';
import { startPooler } from './pgbouncer.mjs';

const run = promisify(execFile);
/** Milliseconds that psql may take on a busy machine. */
const TIMEOUT = 30_000;
const CREATED = ['created', { id: 7 }];

let server, database;
before(async () => {
  [server, database] = await Promise.all([startServer(), startDatabase()]);
});
afterEach(() => server.disconnectClients());
after(async () => {
  await server?.stop();
  await database?.stop();
});

async function sql(statement) {
  await run('psql', ['--no-psqlrc', '--quiet', '--command', statement, database.url], { timeout: TIMEOUT });
}

/** The events that a new client gets on a channel from now on. */
async function subscribed(channel = 'private-orders') {
  const subscription = server.client().subscribe(channel);
  await next(subscription, 'pusher:subscription_succeeded');
  return record(subscription);
}

async function come(events, expected) {
  await until(`${expected.length} events come`, () => events.length >= expected.length, { explain: () => JSON.stringify(events) });
  assert.deepEqual(events, expected);
}

async function state() {
  return JSON.parse(await server.cli('outbox', 'show', server.app.id, '--json')).state;
}

describe('in Postgres', () => {
  test('an event that a transaction publishes comes after the commit', async () => {
    await server.cli('outbox', 'install', '--database', database.url);
    await server.cli('outbox', 'set', server.app.id, '--url', database.url);
    const events = await subscribed();
    await sql(`BEGIN; SELECT fanfare.publish('private-orders', 'created', '{"id": 6}'); ROLLBACK`);
    await sql(`BEGIN; SELECT fanfare.publish('private-orders', 'created', '{"id": 7}'); COMMIT`);
    await come(events, [CREATED]);
    // The backlog is counted every few seconds, perhaps just before the event was taken.
    await until('its state says so', async () => {
      const { published, connected, backlog, rejected, last_error: error } = await state();
      assert.deepEqual([published, connected, backlog, rejected, error], [1, true, 0, 0, null]);
      return true;
    });
  });

  test('what `fanfare outbox sql` prints can be run by migrations, again and again', async () => {
    const printed = await server.cli('outbox', 'sql', '--publisher', 'postgres');
    await sql(printed);
    const events = await subscribed();
    await sql(`SELECT fanfare.publish('private-orders', 'created', '{"id": 7}')`);
    await come(events, [CREATED]);
  });

  test('the app\'s limits are those of the function', async () => {
    await server.cli('app', 'update', server.app.id, '--setting', 'limits.event_data=20');
    const publish = sql.bind(undefined, `SELECT fanfare.publish('a', 'created', '"12345678901234567890"')`);
    await until('the limit is known', () => publish().then(() => false, ({ stderr }) => /at most 20 are allowed/.test(stderr)));
    await server.cli('app', 'update', server.app.id, '--setting', 'limits.event_data=10240');
    await until('the limit is known', () => publish().then(() => true, () => false));
  });

  test('an event that cannot be delivered holds nothing up', async () => {
    const events = await subscribed();
    await sql(`INSERT INTO fanfare.outbox (channels, event, data) VALUES ('{a b}', 'created', '1')`);
    await sql(`SELECT fanfare.publish('private-orders', 'created', '{"id": 7}')`);
    await come(events, [CREATED]);
    await until('it is counted', async () => (await state()).rejected > 0);
    await sql(`DO $$ BEGIN ASSERT (SELECT reason LIKE 'Invalid channel name%' FROM fanfare.rejected WHERE channels = '{a b}'); END $$`);
  });

  test('events wait while the app is over its rate', async () => {
    const events = await subscribed();
    const update = (rate) => server.cli('app', 'update', server.app.id, '--setting', `limits.backend_events_per_second=${rate}`);
    const publish = sql(`SELECT fanfare.publish('private-orders', 'created', '{"id": 7}') FROM generate_series(1, 50)`);
    // Whichever comes first: what was taken before the rate was lowered comes in parts.
    await Promise.all([update(20), publish]);
    await come(events, Array.from({ length: 50 }, () => CREATED));
    await update(0);
    assert.equal((await state()).last_error, null);
  });

  test('a pooler in transaction mode may be in between', async () => {
    const pooler = await startPooler(database, 'transaction');
    try {
      await server.cli('outbox', 'install', '--database', pooler.url);
      await server.cli('outbox', 'set', server.app.id, '--url', pooler.url);
      const events = await subscribed();
      for (let n = 0; n < 20; n += 1) {
        const publish = ['--command', `SELECT fanfare.publish('private-orders', 'created', '{"id": 7}')`];
        await run('psql', ['--no-psqlrc', '--quiet', ...publish, pooler.url], { timeout: TIMEOUT });
      }
      await come(events, Array.from({ length: 20 }, () => CREATED));
      assert.doesNotMatch(server.log, /the outbox is not read/);
    } finally {
      await server.cli('outbox', 'remove', server.app.id);
      await pooler.stop();
    }
  });

  test('what waits when an outbox is removed stays, and comes when it is set again', async () => {
    const events = await subscribed();
    await sql(`SELECT fanfare.publish('private-orders', 'created', '{"id": 7}')`);
    await server.cli('outbox', 'set', server.app.id, '--url', database.url);
    await come(events, [CREATED]);
  });

  test('after the server was killed, what was committed in between comes', async () => {
    await server.end('SIGKILL');
    await sql(`SELECT fanfare.publish('cache-orders', 'created', '{"id": 7}')`);
    await server.start();
    const subscription = server.client().subscribe('cache-orders');
    assert.deepEqual(await next(subscription, 'created'), { id: 7 });
  });
});

describe('in a stream of Redis', () => {
  let redis;
  before(async () => (redis = await startRedis()));
  after(() => redis?.stop());

  const add = (...fields) => run('redis-cli', ['-p', String(redis.port), 'XADD', 'shop-events', '*', ...fields]);

  test('an entry is delivered and deleted, and one that can be no event is set aside', async () => {
    await server.cli('outbox', 'set', server.app.id, '--url', `redis://127.0.0.1:${redis.port}`, '--stream', 'shop-events');
    const events = await subscribed();
    await add('channel', 'private-orders', 'event', 'created');
    await add('channels', '["private-orders", "a"]', 'event', 'created', 'data', '{"id": 7}');
    await come(events, [CREATED]);
    await until('it is deleted', async () => (await redis.ask('XLEN shop-events')) === ':0');
    assert.equal(await redis.ask('XLEN shop-events:rejected'), ':1');
  });

  test('a Redis that comes back is read again', async () => {
    await redis.kill();
    await until('the server says that it cannot read', () => server.log.includes('the outbox is not read'), { within: 10_000 });
    await redis.start();
    const events = await subscribed();
    await add('channel', 'private-orders', 'event', 'created', 'data', '{"id": 7}');
    await until('it comes', () => events.length === 1, { within: 20_000 });
    assert.match((await state()).last_error, /^Redis: /);
  });
});
