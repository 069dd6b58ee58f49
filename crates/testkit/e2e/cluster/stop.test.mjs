// A node can always be stopped.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DRAIN, startCluster } from './topology.mjs';

const LIMIT = (DRAIN + 10) * 1000;
const TIME_LIMIT = { timeout: 60_000 };

let cluster;
const clients = new Map();
before(async () => {
  cluster = await startCluster();
  for (const node of cluster.nodes) {
    const here = Array.from({ length: 20 }, (_, n) => cluster.client(node, { user: `user-${n}`, returns: false }));
    await Promise.all(here.flatMap((client) => ['presence-room', 'news'].map((channel) => client.subscribes(channel))));
    clients.set(node, here);
  }
});
after(() => cluster?.stop());

test('a node stops as it should while Redis stands still', TIME_LIMIT, async (t) => {
  cluster.shared.freeze();
  await stops(t, cluster.nodes[0]);
});

test('a node stops as it should when Redis is gone, at once and after a while', TIME_LIMIT, async (t) => {
  await cluster.shared.kill();
  await stops(t, cluster.nodes[1]);
  await stops(t, cluster.nodes[2]);
});

async function stops(t, node) {
  const started = performance.now();
  const code = await node.stop(LIMIT + 2000);
  const took = performance.now() - started;
  assert.equal(code, 0, `${node.name} ended with ${code}:\n${node.log.slice(-3000)}`);
  assert.ok(took < LIMIT, `after ${took} ms`);
  assert.deepEqual([...new Set(clients.get(node).flatMap(({ codes }) => codes))], [4200]);
  t.diagnostic(`stopped after ${Math.round(took)} ms`);
}
