// Redis loses its keys or its scripts while nobody loses a connection, has no room, or is reached over a network that breaks every other second.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startCable } from './cable.mjs';
import { now } from './history.mjs';
import { startRedis } from './redis.mjs';
import { startCluster } from './topology.mjs';
import { until } from './until.mjs';

const LEASE = 3;
const GONE_WITHIN = (LEASE + 2) * 1000;
const FENCE_MAX = 5000;
const TIME_LIMIT = { timeout: 60_000 };

let cluster, cable;
before(async () => {
  const sharedPort = async (name, port) => (name === 'B' ? (cable = await startCable(port)).port : port);
  cluster = await startCluster({ nodes: 2, sharedPort, env: { FANFARE_CLUSTER_LEASE: String(LEASE) } });
});
afterEach(() => cluster.rest());
after(async () => {
  await cluster?.stop();
  await cable?.stop();
});

test('who came between a loss of all keys and its discovery, and went, is not there', TIME_LIMIT, async () => {
  const { nodes, shared: redis } = cluster;
  const room = 'presence-flushed';
  const stays = nodes.map((node) => cluster.client(node, { user: `stays-${node.name}` }).subscribe(room));
  await until('all are subscribed', () => stays.every((client) => client.session(room)));
  for (let round = 0; round < 3; round += 1) {
    await redis.ask('FLUSHALL');
    const late = nodes.map((node) => cluster.client(node, { user: `late-${node.name}-${round}`, returns: false }).subscribe(room));
    await delay(round * 300);
    cluster.leave(late);
    await cluster.ready();
    const lostAt = now();
    await until('all are back', () => stays.every((client) => client.session(room)), { within: 15_000 });
    await cluster.countsAreRight(room, { within: Math.max(1000, GONE_WITHIN - (now() - lostAt)) });
  }
});

test('a script cache that is emptied costs nobody anything', TIME_LIMIT, async () => {
  const { nodes, shared: redis, history } = cluster;
  const [room, news] = ['presence-scripts', 'scripts'];
  const clients = nodes.map((node) => cluster.client(node, { user: node.name }).subscribe(room, news));
  await until('all are subscribed', () => clients.every((client) => client.session(room) && client.session(news)), { within: 20_000 });
  await cluster.ready();
  const [closings, since] = [history.closings.length, history.publishes.length];
  const publishers = nodes.map((node) => cluster.publisher(news, () => [node]));
  for (let round = 0; round < 5; round += 1) {
    await redis.ask('SCRIPT FLUSH');
    const some = publishers.map(({ accepted }) => accepted);
    await until('events are taken', () => publishers.every(({ accepted }, n) => accepted > some[n] + 5));
    const joins = nodes.map((node) => cluster.client(node, { user: `${node.name}-${round}` }));
    await Promise.all(joins.map((client) => client.subscribes(room)));
  }
  await Promise.all(publishers.map((publisher) => publisher.stop()));
  await cluster.flush(news);
  const refused = history.publishes.slice(since).filter(({ outcome }) => outcome !== 'accepted');
  assert.deepEqual(refused.map(({ status, text }) => `${status} ${text}`), []);
  assert.equal(history.closings.length, closings, 'clients were sent away');
  await cluster.countsAreRight(room);
});

for (const every of [1800, 300]) {
  test(`clients of a node whose connection breaks every ${every} ms are told within fence.max`, TIME_LIMIT, (t) => flap(t, every));
}

async function flap(t, every) {
  const [a, b] = cluster.nodes;
  const channel = `flapping-${every}`;
  const client = cluster.client(b, { user: 'deaf', returns: false });
  await client.subscribes(channel, { within: 20_000 });
  const publisher = cluster.publisher(channel, () => [a]);
  const start = now();
  const told = until('it is told', () => client.codes.length > 0, { within: 20_000 });
  let flapping = true;
  const breaks = (async () => {
    while (flapping) {
      cable.reset();
      await delay(every);
    }
  })();
  try {
    await told;
  } finally {
    flapping = false;
    await breaks;
    await publisher.stop();
  }
  const took = now() - start;
  t.diagnostic(`told after ${Math.round(took)} ms`);
  assert.deepEqual(client.codes, [4101]);
  // From the first break to the connection after it, and what a busy machine adds.
  assert.ok(took < FENCE_MAX + 2000, `told after ${Math.round(took)} ms`);
  await cluster.ready();
}

test('a Redis that has no room is asked once a second, and the log says so once', TIME_LIMIT, async (t) => {
  const { nodes, shared: redis } = cluster;
  const before = await connectionsOf(redis);
  const lengths = nodes.map(({ log }) => log.length);
  await redis.ask('CONFIG SET maxmemory 1mb');
  try {
    await until('no node is ready', async () => (await Promise.all(nodes.map((node) => node.probe()))).every((status) => status === 503));
    await delay(8000);
  } finally {
    await redis.ask('CONFIG SET maxmemory 0');
  }
  const made = (await connectionsOf(redis)) - before;
  t.diagnostic(`${made} connections`);
  assert.ok(made < 100, `${made} connections were made in about ten seconds`);
  nodes.forEach(({ log, name }, n) => {
    const lines = log.slice(lengths[n]).split('\n').filter((line) => /"level":"(WARN|ERROR)"/.test(line));
    const documented = lines.filter((line) => line.includes('what nodes share takes no events'));
    assert.ok(documented.length >= 1 && documented.length <= 3, `${name} says it ${documented.length} times`);
    assert.ok(lines.length < 15, `${name} wrote ${lines.length} lines:\n${lines.join('\n')}`);
  });
  await cluster.ready({ within: 10_000 });
});

test('a Redis that hands over to its replica takes nothing until it has the lead again, and no node loses anybody', TIME_LIMIT, async (t) => {
  const { nodes, shared: redis } = cluster;
  const [room, news] = ['presence-handover', 'handover'];
  const replica = await startRedis({ replicaof: `127.0.0.1 ${redis.port}`, 'repl-diskless-sync-delay': 0 });
  try {
    const isInSync = async () => /master_link_status:up/.test(await replica.askAll('INFO replication'));
    await until('the replica is in sync', isInSync, { within: 20_000 });
    const clients = nodes.map((node) => cluster.client(node, { user: node.name }).subscribe(room, news));
    await until('all are subscribed', () => clients.every((client) => client.session(room) && client.session(news)), { within: 20_000 });
    const publishers = nodes.map((node) => cluster.publisher(news, () => [node]));
    const isMaster = async (server) => /role:master/.test(await server.askAll('INFO replication'));
    await handsOver(redis, replica);
    await until('the replica has the lead', () => isMaster(replica), { within: 20_000 });
    await until('no node is ready', async () => (await Promise.all(nodes.map((node) => node.probe()))).every((status) => status === 503));
    await until('the first one follows', async () => /master_link_status:up/.test(await redis.askAll('INFO replication')), { within: 20_000 });
    await handsOver(replica, redis);
    await until('the first one has the lead again', () => isMaster(redis), { within: 20_000 });
    await cluster.ready({ within: 20_000 });
    const some = publishers.map(({ accepted }) => accepted);
    await until('events are taken', () => publishers.every(({ accepted }, n) => accepted > some[n] + 5), { within: 20_000 });
    await until('all are back', () => clients.every((client) => client.session(room) && client.session(news)), { within: 20_000 });
    await Promise.all(publishers.map((publisher) => publisher.stop()));
    await cluster.flush(news);
    cluster.judge(t);
    await cluster.countsAreRight(room, { within: GONE_WITHIN });
  } finally {
    await replica.stop();
  }
});

/** A replica whose link is up counts as online for its master only once it has acknowledged something. */
async function handsOver(from, to) {
  const failover = `FAILOVER TO 127.0.0.1 ${to.port} TIMEOUT 5000`;
  await until('the lead is handed over', async () => (await from.ask(failover)) === '+OK', { within: 20_000 });
}

/** How many there ever were. */
async function connectionsOf(redis) {
  const info = await redis.askAll('INFO stats');
  return Number(info.match(/total_connections_received:(\d+)/)[1]);
}
