// Fanfare's store behind Debian's pgbouncer, configured with nothing but addresses and the pool mode.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { startDatabase } from './cluster/postgres.mjs';
import { until } from './cluster/until.mjs';
import { next, startServer } from './harness.mjs';
import { startPooler } from './pgbouncer.mjs';

const run = promisify(execFile);
const KEY = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff';

let database;
before(async () => (database = await startDatabase()));
after(() => database?.stop());

/** Others of the same pool listen for notifications, which their server connection then sends to whoever has it next. */
async function listenAsOthersDo(url) {
  await run('psql', ['--no-psqlrc', '--quiet', '--command', 'LISTEN fanfare_changes', url], { timeout: 10_000 });
}

async function serverBehind(url, env = {}) {
  const store = { FANFARE_STORE_URL: url, FANFARE_MASTER_KEY: KEY };
  const id = Math.random().toString(36).slice(2);
  const server = await startServer({ app: false, env: { ...store, ...env } });
  server.app = await server.createApp({ id, key: `key-${id}`, secret: 'e2e-secret' });
  return server;
}

/** Creates apps one after the other and returns how long the running server took to know each of them. */
async function createApps(server, count) {
  const took = [];
  for (let number = 0; number < count; number += 1) {
    const id = `${server.app.id}-${number}`;
    const app = await server.createApp({ id, key: `key-${id}`, secret: 'e2e-secret' });
    const start = Date.now();
    await until('the server knows the app', async () => {
      const { status } = await server.signed('GET', '/channels', { app });
      return status === 200;
    });
    took.push(Date.now() - start);
  }
  return took;
}

for (const mode of ['session', 'transaction']) {
  describe(`pgbouncer in ${mode} mode, with its defaults`, () => {
    let pooler;
    let server;

    before(async () => {
      pooler = await startPooler(database, mode);
      server = await serverBehind(pooler.url);
    });
    after(async () => {
      await server?.stop().finally(() => pooler?.stop());
    });

    test('every change that is made is answered as made, and is active within seconds', async () => {
      for (let number = 0; number < 4; number += 1) await listenAsOthersDo(pooler.url);
      const took = await createApps(server, 8);
      // Two servers ask every 400 ms at the most; the rest is the machine.
      assert.ok(Math.max(...took) < 5_000, `${took}`);
    });

    test('the log holds no words of the database library', async () => {
      const { log } = await server.end();
      assert.doesNotMatch(log, /sqlx|already exists|ping on idle/);
    });
  });
}

test('changes are announced on store.listen_url past a pooler in transaction mode', async () => {
  const pooler = await startPooler(database, 'transaction');
  const server = await serverBehind(pooler.url, { FANFARE_STORE_LISTEN_URL: database.url });
  try {
    await createApps(server, 2);
  } finally {
    await server.stop();
    await pooler.stop();
  }
});

test('nodes share the Postgres of store.listen_url past a pooler in transaction mode', async () => {
  const pooler = await startPooler(database, 'transaction');
  const env = { FANFARE_STORE_LISTEN_URL: database.url, FANFARE_CLUSTER_URL: 'store' };
  const servers = [];
  try {
    for (let n = 0; n < 2; n += 1) servers.push(await serverBehind(pooler.url, env));
    const [one, other] = servers;
    other.app = one.app;
    await until('the other node knows the app', async () => (await other.signed('GET', '/channels')).status === 200);
    const channel = other.client().subscribe('news');
    await next(channel, 'pusher:subscription_succeeded');
    const event = next(channel, 'created');
    await one.sdk().trigger('news', 'created', { id: 7 });
    assert.deepEqual(await event, { id: 7 });
  } finally {
    for (const server of servers) await server.stop();
    await pooler.stop();
  }
});

test('nodes that would share a Postgres through such a pooler are not ready, and the log says what to set', async () => {
  const pooler = await startPooler(database, 'transaction');
  try {
    const starting = serverBehind(pooler.url, { FANFARE_CLUSTER_URL: 'store' });
    await assert.rejects(starting, /connection pooler in transaction mode.* store\.listen_url/);
  } finally {
    await pooler.stop();
  }
});

test('what cannot work is refused at the start with what to set', async () => {
  for (const [mode, env, words] of [
    ['statement', () => ({}), /pool_mode to session or transaction/],
    ['transaction', ({ url }) => ({ FANFARE_STORE_LISTEN_URL: url }), /store\.listen_url leads through a connection pooler/],
  ]) {
    const pooler = await startPooler(database, mode);
    try {
      await assert.rejects(serverBehind(pooler.url, env(pooler)), words);
    } finally {
      await pooler.stop();
    }
  }
});
