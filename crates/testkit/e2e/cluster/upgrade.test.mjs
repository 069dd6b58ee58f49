// Every node becomes the program that is installed now, one after the other, with its port open, while clients are there and events
// come.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBalancer } from './balancer.mjs';
import { startCluster } from './topology.mjs';
import { until } from './until.mjs';

const CLIENTS = 120;
const MEMBERS = 30;
const DRAIN = 3;
const STARTED = /listening: clients and backends are served/g;

let cluster;
before(async () => (cluster = await startCluster({ env: { FANFARE_DRAIN_PERIOD: String(DRAIN) } })));
after(() => cluster?.stop());

test('an upgrade of every node loses, doubles and swaps nothing, and no publish finds a closed port', { timeout: 110_000 }, async (t) => {
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
    const [pid, closings, starts] = [node.pid, history.closings.length, node.log.match(STARTED).length];
    const started = performance.now();
    await cluster.command('upgrade', '--pid', String(pid));
    const isNew = () => node.log.match(STARTED).length > starts;
    await until(`${node.name} is the new program`, isNew, { within: (DRAIN + 20) * 1000, explain: () => node.log.slice(-3000) });
    await node.ready();
    assert.equal(node.pid, pid);
    const sentAway = history.closings.slice(closings);
    t.diagnostic(`${node.name} became the new program within ${Math.round(performance.now() - started)} ms and sent ${sentAway.length} clients away`);
    assert.deepEqual([...new Set(sentAway.map((closing) => closing.code))], [4200]);
    await until('all are subscribed again', () => subscribed() === CLIENTS, { explain: () => `${subscribed()} are` });
    await until('all members are back', () => members.every((member) => member.session(room)));
    await cluster.viewsAreRight();
    await cluster.countsAreRight(room);
    await eventsAreTaken();
  }

  await Promise.all(publishers.map((publisher) => publisher.stop()));
  for (const channel of channels) await cluster.flush(channel);
  cluster.judge(t);
  // A node that isn't connected to the others yet may say so; none may be out of reach.
  const unreached = history.published('refused').filter(({ status }) => status === 0);
  assert.deepEqual(unreached, []);
  await cluster.judgeNotices(t);
});
