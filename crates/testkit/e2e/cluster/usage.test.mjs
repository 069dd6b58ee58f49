// Usage and quotas over nodes that are killed and restarted, against what the load sent. LOAD_SECONDS=1200 makes it a long run.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startCluster } from './topology.mjs';
import { until } from './until.mjs';

const SECONDS = Number(process.env.LOAD_SECONDS ?? 8);
const TIME_LIMIT = { timeout: (SECONDS * 2 + 60) * 1000 };
const FLUSH_PERIOD = 1;
/** A write takes a moment, and one that was under way when its node was killed may not have ended. */
const LOST_AT_MOST = (FLUSH_PERIOD + 1) * 1000;
const QUOTA = 400;

let cluster;
before(async () => (cluster = await startCluster({ env: { FANFARE_USAGE_FLUSH_PERIOD: String(FLUSH_PERIOD) } })));
afterEach(() => cluster.rest());
after(() => cluster?.stop());

test('usage adds up to what was sent over nodes that are killed and restarted, and is never more', TIME_LIMIT, async (t) => {
  const { history, nodes } = cluster;
  const clients = Array.from({ length: 6 }, (_, n) => cluster.client(nodes[n % nodes.length]));
  await Promise.all(clients.map((client) => client.subscribes('news')));
  const publishers = nodes.flatMap((node) => [1, 2].map(() => cluster.publisher('news', () => [node], { pause: 5 })));
  const deaths = await disturb(nodes, SECONDS);
  await Promise.all(publishers.map((publisher) => publisher.stop()));
  await cluster.flush('news');

  const sent = [...history.published('accepted'), ...history.published('unknown')];
  const lost = history.published('accepted').filter(({ node, answeredAt }) => mayBeLost(deaths, node, answeredAt));
  const received = history.sessions.flatMap(({ node, events }) => events.map(({ at }) => ({ node, at })));
  const unwritten = received.filter(({ node, at }) => mayBeLost(deaths, node, at));
  // A killed node may have delivered what its client did not get.
  const mostDeliveries = sent.length * clients.length;
  const bounds = {
    messages: [history.published('accepted').length - lost.length, sent.length],
    deliveries: [received.length - unwritten.length, mostDeliveries],
  };
  const usage = await until('usage is written', async () => {
    const { total } = await usageOf(cluster.app);
    return Object.entries(bounds).every(([name, [least]]) => total[name] >= least) && total;
  }, { explain: () => JSON.stringify(bounds) });
  const { messages, deliveries } = usage;
  t.diagnostic(JSON.stringify({ deaths: deaths.length, usage: { messages, deliveries }, bounds }));
  for (const [name, [, most]] of Object.entries(bounds)) assert.ok(usage[name] <= most, `${name}: ${usage[name]} of ${most}`);
  assert.ok(deaths.length > 0 && sent.length > 100);
});

test('a quota over three nodes of which one is killed is never exceeded, and leaves no more than its shares', TIME_LIMIT, async (t) => {
  const app = await cluster.addApp({ 'quotas.messages_per_day': QUOTA });
  const backend = cluster.backendOf(app);
  const [dead] = cluster.nodes;
  let accepted = 0;
  let unknown = 0;
  const publish = async (node) => {
    const { status, text } = await backend.send(node, 'POST', '/events', { body: { name: 'event', channel: 'news', data: '' } });
    accepted += Number(status === 200);
    unknown += Number(status === 0);
    return { status, text };
  };
  let killed;
  await Promise.all(
    cluster.nodes.map(async (node) => {
      for (;;) {
        if (node === dead && accepted > QUOTA / 3) return (killed = dead.kill());
        if ((await publish(node)).status === 403) return undefined;
      }
    }),
  );
  await killed;
  const refused = await Promise.all(cluster.nodes.filter((node) => node !== dead).map(publish));
  for (const { status, text } of refused) {
    assert.equal(status, 403, text);
    assert.match(text, /quotas\.messages_per_day/);
  }
  await dead.start();
  await dead.ready();
  t.diagnostic(`${accepted} of ${QUOTA} accepted, ${unknown} unknown`);
  assert.ok(accepted <= QUOTA, `${accepted} of ${QUOTA}`);
  // The share that the killed node held; the largest is an eighth of what is left.
  assert.ok(accepted + unknown >= (QUOTA * 7) / 8, `${accepted} of ${QUOTA}`);
});

/** Kills a node or restarts it in order, one after the other, for a while. */
async function disturb(nodes, seconds) {
  const deaths = [];
  const until = Date.now() + seconds * 1000;
  for (let n = 0; Date.now() < until; n += 1) {
    await delay(2000);
    const node = nodes[n % nodes.length];
    if (n % 3 === 2) await node.stop();
    else {
      await node.kill();
      deaths.push({ node: node.name, at: performance.now() });
    }
    await node.start();
    await node.ready();
  }
  return deaths;
}

function mayBeLost(deaths, node, at) {
  return deaths.some((death) => death.node === node && at <= death.at && at > death.at - LOST_AT_MOST);
}

async function usageOf(app) {
  const from = new Date(Date.now() - 2 * 3600 * 1000).toISOString();
  return JSON.parse(await cluster.command('usage', '--app', app.id, '--from', from, '--json'));
}
