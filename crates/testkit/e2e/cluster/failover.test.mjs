// Nodes that share a Postgres: it is restarted, comes back damaged, and fails over to standbys that have followed it.
import assert from 'node:assert/strict';
import { unlink, writeFile } from 'node:fs/promises';
import { after, afterEach, before, test } from 'node:test';
import { startCable } from './cable.mjs';
import { DRAIN, startCluster } from './topology.mjs';
import { until } from './until.mjs';

const [ROOM, NEWS] = ['presence-room', 'news'];
const RECOVERED = { within: 20_000 + DRAIN * 1000 };
const TIME_LIMIT = { timeout: 90_000 };
const CREATED_AGAIN = 'what nodes share in Postgres could not be used';
const PAGE = 8192;

let cluster, cable, server, early;
/** When what nodes share may have been lost: notices are those of all tests. */
const resets = [];
before(async () => {
  const sharedPort = async (_name, port, shared) => {
    // It is copied while there are no tables, which it then gets from the log alone.
    early ??= await shared.standby();
    return (cable ??= await startCable(port)).port;
  };
  // The store goes with it.
  const ownEnv = (_name, { url }) => ({ DATABASE_URL: Object.assign(new URL(url), { port: cable.port }).href });
  cluster = await startCluster({ sharedPort, ownEnv, onPostgres: true });
  server = cluster.shared;
});
afterEach(() => cluster.rest());
after(async () => {
  await cluster?.stop();
  await early?.stop();
  await cable?.stop();
});

test('a standby that takes over before its first restartpoint can be used, and nothing is lost without telling', TIME_LIMIT, async (t) => {
  const lines = await createdAgain(() => survives(t, () => takesOver(early)));
  assert.equal(lines.length, 1, lines.join('\n'));
  // A Postgres that begins its sequences anew by itself needs none of this.
  assert.match(lines[0], /log_ids: bad magic number/);
});

test('a restart of Postgres loses nothing without telling', TIME_LIMIT, async (t) => {
  const restart = async () => {
    await server.end();
    await server.start();
  };
  assert.deepEqual(await createdAgain(() => survives(t, restart)), []);
});

test('a Postgres that comes back with damaged files can be used, and nothing is lost without telling', TIME_LIMIT, async (t) => {
  const damage = async () => {
    const [, database] = new URL(cluster.shared.url).pathname.split('/');
    const names = ['positions', 'counts_by_channel', 'rooms', 'members_pkey'];
    const [sequence, index, table, missing] = await server.filesOf(database, names.map((name) => `fanfare_cluster.${name}`));
    await server.end();
    await writeFile(sequence, Buffer.alloc(PAGE));
    await writeFile(index, Buffer.alloc(PAGE));
    await writeFile(table, Buffer.alloc(PAGE, 0xff));
    await unlink(missing);
    await server.start();
  };
  const lines = await createdAgain(() => survives(t, damage));
  assert.equal(lines.length, 1, lines.join('\n'));
  for (const named of ['positions: ', 'counts_by_channel: ', 'rooms: ', 'members_pkey: ']) assert.ok(lines[0].includes(named), `${named} in ${lines[0]}`);
});

test('a standby that takes over has nothing of what nodes share, and nothing is lost without telling', TIME_LIMIT, async (t) => {
  const standby = await cluster.keep(server.standby());
  assert.deepEqual(await createdAgain(() => survives(t, () => takesOver(standby))), []);
});

async function takesOver(standby) {
  await server.kill();
  await standby.promote();
  server = standby;
  cable.redirect(standby.port);
  cable.reset();
}

/** What nodes have logged meanwhile of tables that they created again. */
async function createdAgain(work) {
  const before = cluster.nodes.map(({ log }) => log.length);
  await work();
  const lines = cluster.nodes.flatMap(({ log }, n) => log.slice(before[n]).split('\n'));
  return lines.filter((line) => line.includes(CREATED_AGAIN));
}

async function survives(t, fault) {
  const { nodes } = cluster;
  const clients = nodes.flatMap((node) => [
    ...Array.from({ length: 10 }, (_, n) => cluster.client(node, { user: `${node.name}-${n}` })),
    ...Array.from({ length: 3 }, (_, n) => cluster.pusherJs(node, { user: `pusher-js-${node.name}-${n}` })),
  ]);
  clients.forEach((client) => client.subscribe(ROOM, NEWS));
  const allAreBack = async () => {
    await until('all are subscribed', () => clients.every((client) => client.session(ROOM) && client.session(NEWS)), RECOVERED);
    await cluster.viewsAreRight(RECOVERED);
    await cluster.countsAreRight(ROOM, RECOVERED);
  };
  await allAreBack();
  const publishers = [NEWS, ROOM].flatMap((channel) => nodes.map((node) => cluster.publisher(channel, () => [node])));
  const eventsAreTaken = async () => {
    const before = publishers.map(({ accepted }) => accepted);
    await until('events are taken at every node', () => publishers.every(({ accepted }, n) => accepted > before[n] + 10), RECOVERED);
  };
  await eventsAreTaken();

  const from = Date.now();
  await fault();
  await cluster.ready(RECOVERED);
  await eventsAreTaken();
  const to = Date.now();
  t.diagnostic(`events are taken again after ${to - from} ms`);
  await allAreBack();

  await Promise.all(publishers.map((publisher) => publisher.stop()));
  await Promise.all([NEWS, ROOM].map((channel) => cluster.flush(channel)));
  cluster.judge(t);
  resets.push({ from, to });
  await cluster.judgeNotices(t, { resets });
}
