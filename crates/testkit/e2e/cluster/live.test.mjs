// Live events over three nodes: a console on one shows what happens on all of them.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { watch } from '../live.mjs';
import { startCluster } from './topology.mjs';
import { until } from './until.mjs';

const TIME_LIMIT = { timeout: 90_000 };

let cluster, nodes, token;
const open = new Set();

before(async () => {
  cluster = await startCluster();
  ({ nodes } = cluster);
  const made = await cluster.command('token', 'create', '--name', 'live', '--role', 'admin', '--json');
  token = JSON.parse(made).secret;
});
afterEach(async () => {
  for (const console of open) console.close();
  open.clear();
  await cluster.rest();
});
after(() => cluster?.stop());

async function watching(node, query) {
  const server = { url: `http://127.0.0.1:${node.port}`, app: cluster.app };
  const console = watch(server, token, query);
  open.add(console);
  assert.equal((await console.opened).statusCode, 200);
  await until('a console greets', () => console.hello());
  return console;
}

async function publish(node, channel, data) {
  const { status, text } = await cluster.backend.send(node, 'POST', '/events', { body: { name: 'said', channels: [channel], data } });
  return assert.equal(status, 200, text);
}

/** Publishes on a node until the console has shown it: the other nodes were asked a moment ago, or are back since a moment. */
async function shows(console, node, channel) {
  const data = `${channel} on ${node.name}`;
  const isShown = () => console.lines('publish').find((line) => line.data === data);
  await until(`what happens on ${node.name} is shown`, async () => {
    await publish(node, channel, data);
    return isShown();
  }, { within: 40_000, every: 200, explain: () => node.log.slice(-2000) });
  return isShown().node;
}

test('a console on one node shows what happens on all, each once, with the name of the node', TIME_LIMIT, async () => {
  const console = await watching(nodes[0], { recent: 0 });
  assert.equal(console.hello().nodes, nodes.length);
  const names = [];
  for (const node of nodes) names.push(await shows(console, node, 'asked'));
  assert.equal(new Set(names).size, nodes.length);

  const clients = nodes.map((node) => cluster.client(node));
  await Promise.all(clients.map((client) => client.subscribes('everywhere')));
  for (const node of nodes) await publish(node, 'everywhere', node.name);
  const of = (kind) => console.lines(kind).filter(({ channel }) => channel === 'everywhere');
  await until('all is shown', () => of('publish').length === nodes.length && of('subscribed').length === nodes.length);
  assert.deepEqual(of('publish').map(({ data, node }) => [data, node]).sort(), nodes.map(({ name }, n) => [name, names[n]]).sort());
  assert.deepEqual(of('subscribed').map(({ node }) => node).sort(), [...names].sort());
  assert.equal(of('occupied').length, 1);
  cluster.leave(clients);
  await until('the end is shown', () => of('vacated').length === 1);
  assert.equal(console.more(), 0);
});

test('a wrong signature on one node is found in a console on another', TIME_LIMIT, async () => {
  const { status } = await fetch(`http://127.0.0.1:${nodes[2].port}/apps/${cluster.app.id}/channels?auth_key=${cluster.app.key}&auth_timestamp=${Math.floor(Date.now() / 1000)}&auth_version=1.0&auth_signature=${'0'.repeat(64)}`);
  assert.equal(status, 401);
  const console = await watching(nodes[1], { kinds: 'refused' });
  await until('the refusal was kept', () => console.lines('refused').some(({ refusal }) => refusal === 'api_signature'));
});

test('lines and counts of all nodes add up', TIME_LIMIT, async () => {
  const console = await watching(nodes[0], { recent: 0, kinds: 'publish', channel: 'flood', rate: 10 });
  // Who is asked for this one was asked for the other before.
  const other = await watching(nodes[0], { recent: 0, channel: 'asked' });
  for (const node of nodes) await shows(other, node, 'asked');
  const total = 900;
  await Promise.all(nodes.map(async (node) => {
    for (let sent = 0; sent < total / nodes.length; sent += 1) await publish(node, 'flood', 'x');
  }));
  const sum = () => console.lines().length + console.more();
  await until('everything is accounted for', () => sum() >= total, { explain: () => `${sum()} of ${total}` });
  assert.equal(sum(), total);
  assert.ok(console.more() > 0);
});

test('a console outlasts a node that is killed and a Redis that stalls, and publishers are as they were', TIME_LIMIT, async () => {
  const console = await watching(nodes[0], { recent: 0 });
  for (const node of nodes) await shows(console, node, 'before');
  await nodes[1].kill();
  await publish(nodes[0], 'meanwhile', 'x');
  await shows(console, nodes[2], 'without');
  await nodes[1].start();
  await nodes[1].ready();
  await shows(console, nodes[1], 'again');

  cluster.shared.freeze();
  await until('the node notices', async () => !(await nodes[0].isReady()));
  // What happens on its own node is shown while Redis is away.
  const client = cluster.client(nodes[0]);
  const connected = console.lines('connected').length;
  await until('a client is shown', () => console.lines('connected').length > connected);
  client.leave();
  cluster.shared.thaw();
  await cluster.ready();
  for (const node of nodes) await shows(console, node, 'after');
});
