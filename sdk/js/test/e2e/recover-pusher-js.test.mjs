// `recover(pusher)` around the unmodified pusher-js, on a server that keeps a history.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, test } from 'node:test';
import Echo from 'laravel-echo';
import PusherJs from 'pusher-js';
import nacl from 'tweetnacl';
import { recover } from '../../dist/es/recover.js';
import { startFakeServer } from '../support/fake-server.mjs';
import { until } from '../support/wait.mjs';

let server;
let clients;
const sockets = new Set();
beforeEach(async () => {
  server = await startFakeServer();
  clients = [];
});
afterEach(async () => {
  clients.forEach((client) => client.disconnect());
  await server.stop();
  // In Node, pusher-js starts a timer of 30 s when it closes a socket; the process would wait for it.
  sockets.forEach((socket) => socket._closeTimer?.unref());
});

test('what was published while the connection was down arrives once, in order, before anything new', async () => {
  const pusher = recover(client());
  const seen = record(await subscribed(pusher, 'orders'));
  server.publish('orders', 'n', 1);
  await until(() => seen.length === 1);
  await outage(pusher, () => {
    server.publish('orders', 'n', 2);
    server.publish('orders', 'n', 3);
  });
  await until(() => seen.length === 3);
  server.publish('orders', 'n', 4);
  await until(() => seen.length === 4);
  assert.deepEqual(seen, [1, 2, 3, 4]);
});

test('without it the same outage loses events', async () => {
  const pusher = client();
  const channel = await subscribed(pusher, 'orders');
  const seen = record(channel);
  await outage(pusher, () => server.publish('orders', 'n', 1));
  await until(() => channel.subscribed);
  server.publish('orders', 'n', 2);
  await until(() => seen.length === 1);
  assert.deepEqual(seen, [2]);
});

test('outages one after the other, also before the first event, lose nothing', async () => {
  const pusher = recover(client());
  const seen = record(await subscribed(pusher, 'orders'));
  for (let n = 1; n <= 3; n += 1) await outage(pusher, () => server.publish('orders', 'n', n));
  await until(() => seen.length === 3);
  assert.deepEqual(seen, [1, 2, 3]);
});

test('a presence channel gets its members and what it missed', async () => {
  const pusher = recover(client());
  const channel = await subscribed(pusher, 'presence-room');
  const seen = record(channel);
  await outage(pusher, () => server.publish('presence-room', 'n', 1));
  await until(() => seen.length === 1);
  assert.deepEqual(channel.members.members, { ada: { name: 'Ada' } });
  assert.deepEqual(channel.members.me, { id: 'ada', info: { name: 'Ada' } });
});

test('an encrypted channel gets what it missed, decrypted', async () => {
  const secret = randomBytes(32);
  const pusher = recover(client({ shared_secret: secret.toString('base64') }));
  const seen = record(await subscribed(pusher, 'private-encrypted-letters'));
  await outage(pusher, () => server.publish('private-encrypted-letters', 'n', encrypt(secret, { text: 'Zürich' })));
  await until(() => seen.length === 1);
  assert.deepEqual(seen, [{ text: 'Zürich' }]);
});

test('events to the signed-in user are recovered as well', async () => {
  const pusher = recover(client());
  pusher.signin();
  await until(() => pusher.user.serverToUserChannel?.subscribed);
  const seen = [];
  pusher.user.bind('n', (n) => seen.push(n));
  await outage(pusher, () => server.publish('#server-to-user-ada', 'n', 1));
  await until(() => seen.length === 1);
});

test('own client events and events that left this connection out do not come back', async () => {
  const pusher = recover(client());
  const channel = await subscribed(pusher, 'private-chat');
  const seen = record(channel);
  server.publish('private-chat', 'n', 0);
  await until(() => seen.length === 1);
  channel.trigger('client-n', 1);
  server.publish('private-chat', 'n', 2, { socketId: pusher.connection.socket_id });
  await outage(pusher, () => server.publish('private-chat', 'n', 3));
  await until(() => seen.length === 2);
  assert.deepEqual(seen, [0, 3]);
});

test('after unsubscribing and subscribing again nothing is replayed, connected or not', async () => {
  const pusher = recover(client());
  const old = record(await subscribed(pusher, 'orders'));
  pusher.unsubscribe('orders');
  server.publish('orders', 'n', 1);
  const seen = record(await subscribed(pusher, 'orders'));
  await outage(pusher, () => {
    pusher.unsubscribe('orders');
    server.publish('orders', 'n', 2);
  });
  const last = record(await subscribed(pusher, 'orders'));
  server.publish('orders', 'n', 3);
  await until(() => last.length === 1);
  assert.deepEqual([old, seen, last], [[], [], [3]]);
  assert.deepEqual(
    server.subscribes.map(({ recover: asked }) => asked),
    [true, true, true],
  );
});

test('disconnect() and connect() of the application recover as well', async () => {
  const pusher = recover(client());
  const seen = record(await subscribed(pusher, 'orders'));
  pusher.disconnect();
  await until(() => server.connectionCount === 0);
  server.publish('orders', 'n', 1);
  pusher.connect();
  await until(() => seen.length === 1);
});

test('a gap that cannot be closed is told on its channel, with the reason, and nothing is replayed', async () => {
  const pusher = recover(client());
  const channel = await subscribed(pusher, 'orders');
  const [seen, gaps] = [record(channel), []];
  channel.bind('fanfare:gap', (gap) => gaps.push(gap));
  await outage(pusher, () => {
    server.forget();
    server.publish('orders', 'n', 1);
  });
  await until(() => gaps.length === 1);
  server.publish('orders', 'n', 2);
  await until(() => seen.length === 1);
  assert.deepEqual([gaps, seen], [[{ reason: 'expired' }], [2]]);
});

test('an application that throws in a listener gets no event twice', async () => {
  const pusher = recover(client());
  const channel = await subscribed(pusher, 'orders');
  const seen = record(channel);
  const thrown = uncaught();
  channel.bind('n', (n) => {
    if (n === 1) throw new Error('of the application');
  });
  server.publish('orders', 'n', 1);
  assert.match((await thrown).message, /of the application/);
  await outage(pusher, () => server.publish('orders', 'n', 2));
  await until(() => seen.length === 2);
  assert.deepEqual(seen, [1, 2]);
});

test('Laravel Echo, which stays as it is, misses nothing', async () => {
  const echo = new Echo({ broadcaster: 'pusher', client: recover(client()), key: 'key' });
  const seen = [];
  const channel = echo.channel('orders').listen('.n', (n) => seen.push(n));
  await until(() => channel.subscription.subscribed);
  await outage(echo.connector.pusher, () => server.publish('orders', 'n', 1));
  await until(() => seen.length === 1);
});

function client(auth = {}) {
  const member = { user_id: 'ada', user_info: { name: 'Ada' } };
  const pusher = new PusherJs('key', {
    cluster: 'x',
    wsHost: '127.0.0.1',
    wsPort: server.port,
    forceTLS: false,
    nacl,
    enabledTransports: ['ws'],
    channelAuthorization: {
      customHandler: ({ channelName }, callback) => {
        const data = channelName.startsWith('presence-') ? { channel_data: JSON.stringify(member) } : {};
        callback(null, { auth: 'key:signature', ...data, ...auth });
      },
    },
    userAuthentication: {
      customHandler: (_, callback) => callback(null, { auth: 'key:signature', user_data: '{"id":"ada"}' }),
    },
  });
  clients.push(pusher);
  pusher.connection.bind('connected', () => sockets.add(pusher.connection.connection.transport.socket));
  return pusher;
}

async function subscribed(pusher, name) {
  const channel = pusher.subscribe(name);
  await until(() => channel.subscribed, `subscribed to ${name}`);
  return channel;
}

function record(channel) {
  const seen = [];
  channel.bind_global((event, data) => event.endsWith('n') && !event.startsWith('pusher') && seen.push(data));
  return seen;
}

/** The connection is lost; `meanwhile` happens; there is another one. */
async function outage(pusher, meanwhile) {
  const before = pusher.connection.socket_id;
  server.cut();
  meanwhile();
  await until(() => pusher.connection.state === 'connected' && pusher.connection.socket_id !== before, 'reconnected');
}

/** The next error that nobody catches, which would fail the test otherwise. */
async function uncaught() {
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  const error = await new Promise((resolve) => process.once('uncaughtException', resolve));
  others.forEach((other) => process.on('uncaughtException', other));
  return error;
}

function encrypt(secret, data) {
  const nonce = randomBytes(24);
  const box = nacl.secretbox(Buffer.from(JSON.stringify(data)), nonce, secret);
  return { nonce: nonce.toString('base64'), ciphertext: Buffer.from(box).toString('base64') };
}
