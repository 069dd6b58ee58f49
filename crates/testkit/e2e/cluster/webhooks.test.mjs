// Webhooks over nodes that die and a Redis that comes back empty, against who was there.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startReceiver } from '../webhook-receiver.mjs';
import { report, startCluster } from './topology.mjs';
import { until } from './until.mjs';
import { judgeOrder, judgeWebhooks } from './webhook-oracle.mjs';

const TIME_LIMIT = { timeout: 150_000 };
const GRACE = 3000;
/** A grace of 20 s, a lease, and a look at the log every 5 s. */
const PATIENCE = { within: 45_000 };

let cluster;
let receiver;
let answer;
before(async () => {
  cluster = await startCluster({ env: { FANFARE_WEBHOOKS_ALLOW_INNER_ADDRESSES: 'true' } });
  receiver = await startReceiver({ app: cluster.app, answer: (request) => answer(request) });
  await cluster.command('webhook', 'create', '--app', cluster.app.id, '--url', receiver.url);
  // Nodes learn of it within a second.
  await delay(1100);
});
afterEach(() => cluster.rest());
after(async () => {
  await receiver?.stop();
  await cluster?.stop();
});

test('what is told stays true while people come, go and come back, nodes die, Redis is emptied and the receiver is away', TIME_LIMIT, async (t) => {
  answer = () => 200;
  const { nodes } = cluster;
  const [room, news] = ['presence-story', 'news-story'];
  let alive = nodes;
  let turn = 0;
  const anyNode = () => alive[(turn += 1) % alive.length];
  const stays = Array.from({ length: 6 }, (_, n) => cluster.client(anyNode, { user: `stays-${n}` }));
  await Promise.all(stays.flatMap((client) => [client.subscribes(room), client.subscribes(news)]));
  let running = true;
  const visitors = Array.from({ length: 8 }, async (_, n) => {
    for (let round = 0; running; round += 1) {
      const visitor = cluster.client(anyNode, { user: `visits-${n}` });
      // Some are away for less than the grace, some for longer.
      visitor.subscribe(room, `own-${n}`);
      await delay(300 + ((n * 7 + round * 13) % 10) * 200);
      cluster.leave([visitor]);
      await delay(round % 2 === 0 ? GRACE / 4 : GRACE + 1500);
    }
  });

  await delay(4000);
  answer = () => 503;
  await delay(2000);
  for (const dead of [nodes[0], nodes[2]]) {
    alive = nodes.filter((node) => node !== dead);
    await dead.kill();
    await delay(2500);
    await dead.start();
    await dead.ready();
    alive = nodes;
  }
  await cluster.shared.kill();
  await cluster.shared.start();
  await delay(3000);
  answer = () => 200;
  await delay(3000);
  running = false;
  await Promise.all(visitors);

  const present = new Set([room, news, ...stays.map(({ user }) => `${room} ${user}`)]);
  const problems = () => judgeWebhooks(receiver.events, { stayed: present, present });
  await until('what was told is true', () => problems().length === 0, { ...PATIENCE, every: 200, explain: () => problems().slice(0, 10).join('\n') });
  report([...problems(), ...judgeOrder(receiver.requests)]);
  assert.ok(receiver.requests.every(({ isValid }) => isValid));

  cluster.leave([...cluster.clients]);
  const atEnd = () => judgeWebhooks(receiver.events, { stayed: new Set(), present: new Set() });
  await until('all departures are told', () => atEnd().length === 0, { ...PATIENCE, every: 200, explain: () => atEnd().slice(0, 10).join('\n') });
  report([...atEnd(), ...judgeOrder(receiver.requests)]);
  t.diagnostic(`${receiver.requests.length} requests, ${receiver.events.length} events`);
});

test('the departures of a node that held everything are told by the others, once', TIME_LIMIT, async () => {
  answer = () => 200;
  const [dead] = cluster.nodes;
  const clients = Array.from({ length: 20 }, (_, n) => cluster.client(dead, { user: `held-${n}`, returns: false }));
  await Promise.all(clients.map((client) => client.subscribes('presence-held')));
  for (const { user } of clients) await receiver.hears({ name: 'member_added', channel: 'presence-held', user_id: user }, PATIENCE);
  const killedAt = Date.now();
  await dead.kill();
  const vacated = await receiver.hears({ name: 'channel_vacated', channel: 'presence-held' }, PATIENCE);
  assert.ok(vacated.at - killedAt >= 20_000, 'clients that come back from a restart need up to 18 seconds');
  for (const { user } of clients) await receiver.hears({ name: 'member_removed', channel: 'presence-held', user_id: user }, PATIENCE);
  report(judgeWebhooks(receiver.events.filter(({ channel }) => channel === 'presence-held'), { stayed: new Set(), present: new Set() }));
  await dead.start();
  await dead.ready();
});
