// Every node is replaced, one after the other, while people are there and events come.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBalancer } from './balancer.mjs';
import { startCluster } from './topology.mjs';
import { until } from './until.mjs';

const CLIENTS = 300;
const MEMBERS = 45;
const DRAIN = 4;

let cluster;
before(async () => (cluster = await startCluster({ env: { FANFARE_DRAIN_PERIOD: String(DRAIN) } })));
after(() => cluster?.stop());

test('a rolling restart loses, doubles and swaps nothing for three hundred clients', { timeout: 110_000 }, async (t) => {
  const { nodes, history } = cluster;
  const channels = ['news', 'sports'];
  const balancer = await cluster.keep(startBalancer(nodes));
  const clients = Array.from({ length: CLIENTS }, (_, n) => cluster.pusherJs(balancer).subscribe(channels[n % 2]));
  const subscribed = () => clients.filter((client, n) => client.session(channels[n % 2])).length;
  await until('all are subscribed', () => subscribed() === CLIENTS, { within: 30_000, explain: () => `${subscribed()} are` });
  const room = 'presence-lobby';
  const members = Array.from({ length: MEMBERS }, (_, n) => cluster.client(balancer, { user: `user-${n}` }));
  await Promise.all(members.map((member) => member.subscribes(room)));
  const publishers = channels.map((channel) => cluster.publisher(channel, () => nodes, { pause: 40 }));
  const eventsAreTaken = async () => {
    const before = publishers.map(({ accepted }) => accepted);
    await until('events are taken', () => publishers.every(({ accepted }, n) => accepted > before[n] + 10));
  };
  await eventsAreTaken();

  for (const node of nodes) {
    const [started, closings] = [performance.now(), history.closings.length];
    const code = await node.stop((DRAIN + 12) * 1000);
    assert.equal(code, 0, `${node.name} ended with ${code}:\n${node.log.slice(-3000)}`);
    const took = performance.now() - started;
    const sentAway = history.closings.slice(closings);
    t.diagnostic(`${node.name} stopped within ${Math.round(took)} ms and sent ${sentAway.length} clients away`);
    assert.ok(took < (DRAIN + 10) * 1000);
    assert.deepEqual([...new Set(sentAway.map((closing) => closing.code))], [4200]);
    await node.start();
    await node.ready();
    await until('all are subscribed again', () => subscribed() === CLIENTS, { explain: () => `${subscribed()} are` });
    await until('all members are back', () => members.every((member) => member.session(room)));
    await cluster.viewsAreRight();
    await cluster.countsAreRight(room);
    await eventsAreTaken();
  }

  await Promise.all(publishers.map((publisher) => publisher.stop()));
  for (const channel of channels) await cluster.flush(channel);
  cluster.judge(t);
  t.diagnostic(`connections: ${JSON.stringify([...balancer.open])}`);
  await cluster.judgeNotices(t);
});
