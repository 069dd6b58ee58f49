// What one node does alone holds when the people concerned are on different nodes.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { has, startCluster } from './topology.mjs';
import { until } from './until.mjs';

const QUOTA = 5;

let cluster, a, b, c;
before(async () => {
  cluster = await startCluster({ settings: { subscription_count: true, watchlists: true } });
  [a, b, c] = cluster.nodes;
});
afterEach(async (t) => {
  cluster.judge(t);
  await cluster.rest();
});
after(() => cluster?.stop());

const post = (node, path, body, headers) => cluster.backend.send(node, 'POST', path, { body, headers });
const signedIn = async (node, id, options) => {
  const client = cluster.client(node, { signIn: { id }, ...options });
  await client.hears(`${id} is signed in`, ({ event }) => event === 'pusher:signin_success');
  await client.subscribes(`#server-to-user-${id}`);
  return client;
};

test('a user is terminated on all nodes, and nobody else is', async () => {
  const adas = await Promise.all([a, b].map((node) => signedIn(node, 'ada', { returns: false })));
  const bob = await signedIn(a, 'bob', { returns: false });
  const { status, text } = await post(c, '/users/ada/terminate_connections', {});
  assert.equal(status, 200, text);
  await until('ada is closed everywhere', () => adas.every(({ codes }) => codes.length > 0));
  assert.deepEqual(adas.map(({ codes }) => codes), [[4009], [4009]]);
  await bob.subscribes('still-here');
  assert.deepEqual(bob.codes, []);
});

test('an event to a user reaches each of their connections once, wherever it is', async () => {
  const adas = await Promise.all([a, b, b].map((node) => signedIn(node, 'ada')));
  const bob = await signedIn(b, 'bob');
  const publish = async (id) => {
    const body = { name: 'hello', channels: ['#server-to-user-ada'], data: id };
    assert.equal((await post(c, '/events', body)).status, 200);
  };
  await publish('first');
  await publish('last');
  await Promise.all(adas.map((ada) => ada.hears('the last', ({ data }) => data === 'last')));
  await bob.subscribes('fence');
  await cluster.flush('fence');
  const heard = (client) => client.messages.filter(({ event }) => event === 'hello').map(({ data }) => data);
  assert.deepEqual(adas.map(heard), adas.map(() => ['first', 'last']));
  assert.deepEqual(heard(bob), []);
});

test('a client event reaches members on all nodes, names its sender, and does not come back', async () => {
  const room = 'presence-chat';
  const members = [a, a, b, c].map((node, n) => cluster.client(node, { user: `user-${n}` }));
  await Promise.all(members.map((member) => member.subscribes(room)));
  const [sender, ...others] = members;
  sender.send('client-typing', { text: 'Hi' }, room);
  const typing = ({ event }) => event === 'client-typing';
  for (const other of others) {
    const { channel, data, user_id } = await other.hears('the client event', typing);
    assert.deepEqual({ channel, data: JSON.parse(data), user_id }, { channel: room, data: { text: 'Hi' }, user_id: 'user-0' });
  }
  await cluster.flush(room);
  assert.deepEqual(sender.messages.filter(typing), []);
  others.forEach((other) => assert.equal(other.messages.filter(typing).length, 1));
});

test('the connection that an event leaves out is left out on whichever node it is', async () => {
  const channel = 'left-out';
  const clients = [a, b, c].map((node) => cluster.client(node));
  await Promise.all(clients.map((client) => client.subscribes(channel)));
  for (const [n, { socketId }] of clients.entries()) {
    for (const node of cluster.nodes) {
      const id = `${channel}/${n}-through-${node.name}`;
      assert.equal((await cluster.backend.publish(node, channel, id, { except: socketId })).outcome, 'accepted');
    }
  }
  await cluster.flush(channel);
  for (const [n, client] of clients.entries()) {
    const ids = client.session(channel).events.map(({ id }) => id);
    assert.equal(ids.filter((id) => id.startsWith(`${channel}/${n}-`)).length, 0);
    assert.equal(ids.length, 2 * 3 + 1);
  }
});

test('a cache channel replays on one node what was published through another', async () => {
  const channel = 'cache-last';
  const miss = cluster.client(b);
  await miss.subscribes(channel);
  await miss.hears('a cache miss', ({ event }) => event === 'pusher:cache_miss');
  // A node that hears of the newest a moment later replays the one before first, and then delivers the newest.
  const replays = async (client, newest) => {
    const session = await client.subscribes(channel);
    await until(`${newest} on ${client.node}`, () => has(session, newest));
    const ids = session.events.map(({ id }) => id);
    assert.deepEqual(ids, ids.length === 1 ? [newest] : [{ two: 'one', three: 'two' }[newest], newest]);
  };
  const last = async (node, id) => assert.equal((await cluster.backend.publish(node, channel, id)).outcome, 'accepted');
  await last(a, 'one');
  await last(b, 'two');
  for (const node of cluster.nodes) {
    await replays(cluster.client(node), 'two');
  }
  await last(c, 'three');
  await replays(cluster.client(a), 'three');
});

test('an app never has more connections than it may have over all nodes, and gets as many', async () => {
  const app = await cluster.addApp({ 'limits.connections': QUOTA });
  const connect = (node) => cluster.client(node, { app, returns: false });
  const burst = Array.from({ length: 30 }, (_, n) => connect(cluster.nodes[n % 3]));
  await until('each is let in or sent away', () => burst.every((client) => client.connected || client.codes.length > 0));
  const inside = () => [...cluster.clients].filter((client) => client.connected);
  assert.ok(inside().length <= QUOTA, `${inside().length} were let in`);
  // 4100 while others were still being asked about, who may have been refused themselves.
  const isRefused = ({ codes }) => codes.length === 1 && [4004, 4100].includes(codes[0]);
  assert.ok(burst.filter(({ connected }) => !connected).every(isRefused), JSON.stringify(burst.map(({ codes }) => codes)));
  const fill = () =>
    until('the app has as many as it may have', async () => {
      for (const node of cluster.nodes) {
        const client = connect(node);
        await until('the client is let in or sent away', () => client.connected || client.codes.length > 0);
        assert.ok(inside().length <= QUOTA, `${inside().length} were let in`);
      }
      return inside().length === QUOTA;
    }, { every: 200, explain: () => `it has ${inside().length}` });
  await fill();
  const [one] = inside();
  cluster.leave([one]);
  await fill();
});

test('an event that is sent to two nodes with one idempotency key is delivered once', async () => {
  const channel = 'once';
  const clients = [a, b, c].map((node) => cluster.client(node));
  await Promise.all(clients.map((client) => client.subscribes(channel)));
  const { backend } = cluster;
  for (let n = 0; n < 20; n += 1) {
    const [key, id] = [`key-${n}`, `${channel}/${n}`];
    const send = (node) => backend.publish(node, channel, id, { key });
    // At the same moment, or one after the other.
    const sent = n % 2 === 0 ? await Promise.all([a, b].map(send)) : [await send(a), await send(c)];
    assert.deepEqual(sent.map(({ status }) => status), [200, 200]);
  }
  const other = await backend.publish(b, channel, 'once/other', { key: 'key-1' });
  assert.equal(other.status, 400, other.text);
  await cluster.flush(channel);
  clients.forEach((client) => assert.equal(client.session(channel).events.length, 20 + 1));
});

test('subscribers on all nodes are told how many they are over all nodes', async () => {
  const channel = 'counted';
  const isCount = ({ event }) => event === 'pusher_internal:subscription_count';
  const counts = ({ messages }) => messages.filter(isCount).map(({ data }) => data.subscription_count);
  const told = (clients, count) => {
    const explain = () => JSON.stringify(clients.map(counts));
    return until(`all are told ${count}`, () => clients.every((client) => counts(client).at(-1) === count), { explain });
  };
  const clients = [a, b, c, a, b, c].map((node) => cluster.client(node));
  for (const [n, client] of clients.entries()) {
    await client.subscribes(channel);
    await told(clients.slice(0, n + 1), n + 1);
  }
  for (const node of cluster.nodes) {
    const { subscription_count } = await cluster.backend.get(node, `/channels/${channel}`, { info: 'subscription_count' });
    assert.equal(subscription_count, 6);
  }
  cluster.leave(clients.slice(3));
  await told(clients.slice(0, 3), 3);
});

test('who watches is told of users on other nodes when their first connection comes and their last one goes', async () => {
  const watcher = await signedIn(a, 'watcher', { signIn: { id: 'watcher', watchlist: ['ada', 'bob'] } });
  const isWatchlist = ({ event }) => event === 'pusher_internal:watchlist_events';
  const told = () => watcher.messages.filter(isWatchlist).flatMap(({ data }) => data.events);
  const hears = (count) => until(`${count} watchlist events`, () => told().length >= count, { explain: () => JSON.stringify(told()) });
  await hears(1);
  const first = await signedIn(b, 'ada');
  await hears(2);
  const second = await signedIn(c, 'ada');
  cluster.leave([first]);
  await signedIn(c, 'bob');
  await hears(3);
  cluster.leave([second]);
  await hears(4);
  assert.deepEqual(told(), [
    { name: 'offline', user_ids: ['ada', 'bob'] },
    { name: 'online', user_ids: ['ada'] },
    { name: 'online', user_ids: ['bob'] },
    { name: 'offline', user_ids: ['ada'] },
  ]);
});
