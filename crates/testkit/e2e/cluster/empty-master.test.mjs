// Three nodes on a Redis Cluster of three masters, each of which is killed and comes back empty in turn, twice, under load.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { now } from './history.mjs';
import { startRedisCluster } from './redis-cluster.mjs';
import { startCluster } from './topology.mjs';
import { until } from './until.mjs';
import { WebSocket } from './websocket.mjs';

const LEASE = 3;
const PER_NODE = 5;
/** One more than there are clients. */
const QUOTA = 3 * PER_NODE + 1;
const [ROOM, NEWS] = ['presence-room', 'news'];
/** Nothing is left of who is gone. */
const GONE_WITHIN = (LEASE + 2) * 1000;

let redis, cluster;
before(async () => {
  redis = await startRedisCluster();
  cluster = await startCluster({
    sharedPort: () => redis.ports,
    settings: { 'limits.connections': QUOTA },
    env: { FANFARE_CLUSTER_LEASE: String(LEASE) },
  });
});
after(async () => {
  await cluster?.stop();
  await redis?.stop();
});

test('after each master came back empty, twice, nobody is there who is gone, and no connection counts that is not', { timeout: 170_000 }, async (t) => {
  const { nodes } = cluster;
  let clients = nodes.flatMap((node) => Array.from({ length: PER_NODE }, (_, n) => cluster.client(node, { user: `${node.name}-${n}` })));
  clients.forEach((client) => client.subscribe(ROOM, NEWS));
  const codes = new Set();
  const isBack = (client) => client.session(ROOM) && client.session(NEWS);
  const explain = () =>
    clients.filter((client) => !isBack(client)).map(({ user, node, codes, connected }) => `${user} at ${node}: ${connected}, ${codes}`).join('\n');
  const allAreBack = () => until('all are subscribed', () => clients.every(isBack), { within: 30_000, explain });
  await allAreBack();
  const publishers = nodes.map((node) => cluster.publisher(NEWS, () => [node]));
  for (const round of [1, 2]) {
    for (const [n, master] of redis.masters.entries()) {
      const disturbed = clients.map((client) => ({ client, closes: client.codes.length }));
      const killedAt = now();
      await master.kill();
      // Some go and others come while nobody can be told.
      const going = nodes.map((node) => clients.find((client) => client.node === node.name));
      cluster.leave(going, { wholeUntil: killedAt });
      going.forEach((client) => client.codes.forEach((code) => codes.add(code)));
      clients = clients.filter((client) => !going.includes(client));
      clients.push(...nodes.map((node) => cluster.client(node, { user: `${node.name}-${round}-${n}` }).subscribe(ROOM, NEWS)));
      await master.start();
      await redis.serves();
      await cluster.ready({ within: 20_000 });
      const backAt = now();
      // Until then they are fenced, and look as if nothing had happened.
      const isTold = ({ client, closes }) => going.includes(client) || client.codes.length > closes;
      await until('all who may have missed something are told', () => disturbed.every(isTold));
      await allAreBack();
      const within = Math.max(1000, GONE_WITHIN - (now() - backAt));
      await cluster.countsAreRight(ROOM, { within });
      await cluster.viewsAreRight({ within });
      t.diagnostic(`round ${round}, master ${n}: right after ${Math.round(now() - backAt)} ms`);
      await quotaIsExact(nodes[n]);
    }
  }
  await Promise.all(publishers.map((publisher) => publisher.stop()));
  // What was accepted last is still on its way.
  await Promise.all([NEWS, ROOM].map((channel) => cluster.flush(channel)));
  clients.forEach((client) => client.codes.forEach((code) => codes.add(code)));
  assert.ok(!codes.has(4004), 'somebody was told never to come back');
  cluster.judge(t);
  const gone = cluster.nodes.filter(({ log }) => log.includes('a node is gone'));
  assert.deepEqual(gone.map(({ name }) => name), [], 'a node is said to be gone, and none is');
});

/** One more fits in, and then nobody. */
async function quotaIsExact(node) {
  const one = await until('there is room for one more', async () => {
    const { socket, answer } = await dial(node);
    if (answer === 'in') return socket;
    assert.notEqual(answer, 4004, 'the quota is used up by connections that are not there');
    return undefined;
  }, { within: GONE_WITHIN, every: 100 });
  await until('there is room for nobody else', async () => {
    const { socket, answer } = await dial(node);
    if (answer === 'in') socket.close();
    return answer === 4004;
  }, { every: 200 });
  one.close();
  await new Promise((closed) => one.once('close', closed));
}

async function dial(node) {
  const socket = new WebSocket(node.port, `/app/${cluster.app.key}?protocol=7&client=quota&version=1`);
  const answer = await new Promise((resolve) => {
    socket.once('text', (text) => {
      const { event, data } = JSON.parse(text);
      if (event === 'pusher:connection_established') resolve('in');
      else resolve((typeof data === 'string' ? JSON.parse(data) : data).code);
    });
    socket.once('close', resolve);
  });
  if (answer !== 'in') socket.destroy();
  return { socket, answer };
}
