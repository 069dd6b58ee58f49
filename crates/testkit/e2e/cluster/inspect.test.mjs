// What an operator sees of three nodes through any of them, and does about a client or a node.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { startCluster } from './topology.mjs';
import { until } from './until.mjs';

const TIME_LIMIT = { timeout: 60_000 };

let cluster, a, b, c, token;
/** The names by which the nodes show themselves. */
const names = new Map();
before(async () => {
  const history = JSON.stringify([{ channels: 'kept-*', size: 100, ttl: 300 }]);
  cluster = await startCluster({ settings: { history } });
  [a, b, c] = cluster.nodes;
  const made = await cluster.command('token', 'create', '--name', 'inspector', '--role', 'owner', '--json');
  token = JSON.parse(made).secret;
  for (const node of cluster.nodes) names.set(node, (await api(node, '/server')).node);
});
afterEach(() => cluster.rest());
after(() => cluster?.stop());

/** A request to the admin API at a node; what it answered, which must have this status. */
async function api(node, path, { method = 'GET', status = 200 } = {}) {
  const headers = { authorization: `Bearer ${token}` };
  const answer = await fetch(`http://127.0.0.1:${node.port}/api/v1${path}`, { method, headers });
  const text = await answer.text();
  assert.equal(answer.status, status, `${method} ${path}: ${text}`);
  return text && JSON.parse(text);
}

const ofApp = (path) => `/apps/${cluster.app.id}${path}`;

/** Every connection, page by page. */
async function everyConnection(node, query) {
  const found = [];
  let cursor = '';
  do {
    const page = await api(node, ofApp(`/connections?limit=2&${query}${cursor}`));
    assert.deepEqual(page.unanswered, []);
    found.push(...page.items);
    cursor = page.next_cursor ? `&cursor=${page.next_cursor}` : undefined;
  } while (cursor !== undefined);
  return found;
}

test('every node shows all nodes, and names one that is away', TIME_LIMIT, async () => {
  const clients = [b, b, c].map((node) => cluster.client(node));
  await Promise.all(clients.map((client) => client.connects()));
  const list = await api(a, '/nodes');
  assert.deepEqual(list.unanswered, []);
  assert.deepEqual(list.nodes.map(({ name }) => name), [...names.values()].sort());
  assert.deepEqual(list.nodes.filter((node) => node.is_answering_node).map(({ name }) => name), [names.get(a)]);
  const of = (node) => list.nodes.find(({ name }) => name === names.get(node));
  assert.deepEqual([a, b, c].map((node) => of(node).connections), [0, 2, 1]);
  assert.ok(list.nodes.every(({ state, memory_bytes }) => state === 'ready' && memory_bytes > 0));
  process.kill(c.pid, 'SIGSTOP');
  try {
    const started = performance.now();
    const { unanswered, nodes } = await api(a, '/nodes');
    assert.ok(performance.now() - started < 2500);
    assert.deepEqual(unanswered, [names.get(c)]);
    assert.equal(nodes.length, 2);
  } finally {
    process.kill(c.pid, 'SIGCONT');
    await cluster.ready();
  }
});

test('a connection is found, shown and closed on whichever node it is', TIME_LIMIT, async () => {
  const clients = [a, a, b, b, b, c].map((node, n) => cluster.client(node, { user: `user-${n}`, returns: false }));
  await Promise.all(clients.map((client) => client.subscribes('presence-room')));
  const ids = (found) => found.map(({ socket_id }) => socket_id).sort();
  const all = clients.map(({ socketId }) => socketId).sort();
  for (const node of cluster.nodes) assert.deepEqual(ids(await everyConnection(node, '')), all);
  const ofB = await everyConnection(a, `node=${names.get(b)}`);
  assert.deepEqual(ids(ofB), ids(clients.slice(2, 5).map(({ socketId }) => ({ socket_id: socketId }))));
  const [last] = clients.slice(-1);
  const found = await everyConnection(a, 'user_id=user-5');
  assert.deepEqual(found.map(({ socket_id, node, client, address }) => ({ socket_id, node, client, address })), [
    { socket_id: last.socketId, node: names.get(c), client: 'oracle', address: '127.0.0.1' },
  ]);
  const subscribers = await api(b, ofApp('/channels/presence-room/subscribers'));
  assert.equal(subscribers.items.length, 6);
  const path = ofApp(`/connections/${last.socketId}`);
  const shown = await api(a, path);
  assert.equal(shown.subscriptions[0].channel, 'presence-room');
  assert.equal(shown.subscriptions[0].user_id, 'user-5');
  await api(b, path, { method: 'DELETE', status: 204 });
  await until('it is closed', () => last.codes.length > 0);
  assert.deepEqual(last.codes, [4009]);
  await api(a, path, { status: 404 });
  assert.ok(clients.slice(0, -1).every(({ codes }) => codes.length === 0));
});

test('a node is drained and its clients move, while it runs on', TIME_LIMIT, async (t) => {
  const nodes = () => cluster.nodes.filter((node) => !drained.has(node));
  const drained = new Set();
  let next = 0;
  const choose = () => nodes()[next++ % nodes().length];
  const clients = Array.from({ length: 30 }, () => cluster.client(choose));
  await Promise.all(clients.map((client) => client.subscribes('news')));
  const path = `/nodes/${names.get(b)}/drain`;
  drained.add(b);
  await api(a, path, { method: 'POST', status: 204 });
  assert.equal(await b.probe(), 503);
  await until('its clients have moved', async () => {
    const list = await api(a, '/nodes');
    const found = list.nodes.find(({ name }) => name === names.get(b));
    assert.equal(found.state, 'draining');
    return found.connections === 0 && found;
  });
  await Promise.all(clients.map((client) => client.subscribes('after')));
  assert.deepEqual([...new Set(clients.map(({ node }) => node))].sort(), [a.name, c.name]);
  const codes = clients.flatMap((client) => client.codes);
  assert.deepEqual([...new Set(codes)], [4200]);
  t.diagnostic(`${codes.length} clients moved`);
  // It still serves backends.
  assert.equal((await cluster.backend.publish(b, 'news', 'through-b')).outcome, 'accepted');
  await api(a, `/nodes/${names.get(a)}/drain`, { method: 'POST', status: 204 });
  const refused = await api(a, `/nodes/${names.get(c)}/drain`, { method: 'POST', status: 409 });
  assert.match(refused.detail, /no other node is ready/);
  for (const node of [a, b]) await api(c, `/nodes/${names.get(node)}/drain`, { method: 'DELETE', status: 204 });
  await cluster.ready();
  const audit = await api(a, '/audit?action=node.drain');
  assert.deepEqual(audit.items.map(({ target_id }) => target_id).sort(), [names.get(a), names.get(b)].sort());
  assert.match(b.log, /an operator drains this node/);
});

test('why a client has not got an event is told from all nodes', TIME_LIMIT, async () => {
  const began = Date.now();
  const early = cluster.client(b, { signIn: { id: 'ada' } });
  await early.subscribes('kept-news');
  // Beyond what the clocks of nodes are allowed to differ.
  const settled = Date.now() + 400;
  await until('time has passed', () => Date.now() > settled);
  assert.equal((await cluster.backend.publish(a, 'kept-news', 'one')).outcome, 'accepted');
  const explain = (who, query = '') => api(c, ofApp(`/explain?channel=kept-news&since=${began}&${who}${query}`));
  await early.hears('the event', ({ data }) => data === 'one');
  const told = await explain('user_id=ada');
  assert.equal(told.verdict, 'delivered', JSON.stringify(told));
  const later = Date.now() + 400;
  await until('time has passed', () => Date.now() > later);
  const late = cluster.client(c);
  await late.subscribes('kept-news');
  assert.equal((await explain(`socket_id=${late.socketId}`)).verdict, 'subscribed_later');
  assert.equal((await explain('user_id=bob')).verdict, 'disconnected');
  assert.equal((await explain('user_id=ada', '&event=other')).verdict, 'no_such_event');
  await cluster.backend.publish(a, 'kept-news', 'two', { except: early.socketId });
  const excluded = await explain('user_id=ada');
  assert.equal(excluded.verdict, 'excluded', JSON.stringify(excluded));
});
