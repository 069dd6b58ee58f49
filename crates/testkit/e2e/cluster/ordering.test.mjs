// What was answered comes before what is sent after it, through whichever nodes the two went.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { startCluster } from './topology.mjs';

const TIME_LIMIT = { timeout: 60_000 };

let cluster;
before(async () => (cluster = await startCluster()));
afterEach(() => cluster.rest());
after(() => cluster?.stop());

async function subscribersOf(...channels) {
  const clients = cluster.nodes.flatMap((node) => Array.from({ length: 3 }, () => cluster.client(node)));
  await Promise.all(clients.flatMap((client) => channels.map((channel) => client.subscribes(channel))));
}

async function publish(node, channel, id) {
  const { outcome, text } = await cluster.backend.publish(node, channel, id);
  assert.equal(outcome, 'accepted', text);
}

test('two publishes through two nodes, the second after the answer to the first, are never swapped', TIME_LIMIT, async (t) => {
  const { nodes } = cluster;
  // One channel for each pair of nodes, so that they also go on beside each other.
  const pairs = nodes.flatMap((one) => nodes.filter((other) => other !== one).map((other) => [one, other]));
  const channels = pairs.map(([one, other]) => `order-${one.name}-${other.name}`);
  await subscribersOf(...channels);
  await Promise.all(
    pairs.map(async ([one, other], n) => {
      for (let round = 0; round < 60; round += 1) {
        await publish(one, channels[n], `${channels[n]}#${round}-first`);
        await publish(other, channels[n], `${channels[n]}#${round}-second`);
      }
    }),
  );
  for (const channel of channels) await cluster.flush(channel);
  const { accepted } = cluster.judge(t);
  assert.equal(accepted, pairs.length * (60 * 2 + 1));
});

test('of publishes at the same moment through all nodes, all subscribers see one order', TIME_LIMIT, async (t) => {
  const channel = 'order-of-all';
  await subscribersOf(channel);
  await Promise.all(
    Array.from({ length: 9 }, async (_, n) => {
      for (let round = 0; round < 40; round += 1) {
        await publish(cluster.nodes[n % cluster.nodes.length], channel, `${channel}/${n}#${round}`);
      }
    }),
  );
  await cluster.flush(channel);
  cluster.judge(t);
});
