// What a client asks for arrives on any link, and its connection stays: unmodified pusher-js behind a slow link.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { after, afterEach, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { connected, heard, startServer, subscribe } from './harness.mjs';

const TEN_MBIT = 1_250_000;
const server = await startServer({
  settings: {
    'limits.event_data': 1_000_000,
    'limits.presence_member_size': 1_000_000,
    'limits.cache_bytes': 64 * 1024 * 1024,
  },
  // A member comes in one message, which is larger than most are allowed to be.
  env: { FANFARE_WEBSOCKET_MAX_MESSAGE_BYTES: String(4 * 1024 * 1024) },
});
const sdk = server.sdk();
after(() => server.stop());
afterEach(() => server.disconnectClients());

test('three kept events that are larger than an outbox together arrive once each, for a client that asks for all at once', async () => {
  const names = ['cache-a', 'cache-b', 'cache-c'];
  for (const name of names) await publish(name, 'kept', 'x'.repeat(600_000));
  const { client, codes } = watched({});
  const seen = [];
  await heard('three events', (done) => {
    for (const name of names) {
      client.subscribe(name).bind('kept', (data) => {
        seen.push([name, data.length]);
        if (seen.length === names.length) done();
      });
    }
  });
  await fence(client);
  assert.deepEqual(seen.sort(), names.map((name) => [name, 600_000]));
  assert.deepEqual(codes, []);
});

test('five hundred kept events arrive on a link of 10 Mbit/s, about as fast as it can carry them', async () => {
  const names = Array.from({ length: 500 }, (_, number) => `cache-many-${number}`);
  for (const name of names) await publish(name, 'kept', 'x'.repeat(10_000));
  const link = await slowLink(TEN_MBIT);
  const { client, codes } = watched({ wsPort: link.port });
  await connected(client);
  const start = performance.now();
  const seen = [];
  await heard('five hundred events', (done) => {
    for (const name of names) {
      client.subscribe(name).bind('kept', () => {
        seen.push(name);
        if (seen.length === names.length) done();
      });
    }
  });
  const seconds = (performance.now() - start) / 1000;
  await fence(client);
  assert.deepEqual(seen, names);
  assert.deepEqual(codes, []);
  // The link alone needs four seconds; the rest is for a machine that is busy with something else.
  assert.ok(seconds > 3 && seconds < 20, `${seconds} s`);
  link.stop();
});

test('a roster of ten megabytes arrives on a link of 10 Mbit/s, and live events follow it', async () => {
  const text = 'x'.repeat(990_000);
  for (let number = 0; number < 10; number += 1) {
    const user = { user_id: `u${number}`, user_info: { text } };
    await subscribe(server.client({ user }), 'presence-large');
  }
  const link = await slowLink(TEN_MBIT);
  const { client, codes } = watched({ wsPort: link.port, user: { user_id: 'late' } });
  await connected(client);
  const channel = await subscribe(client, 'presence-large');
  assert.equal(channel.members.count, 11);
  await fence(client);
  assert.deepEqual(codes, []);
  link.stop();
});

/** A client, and the codes of all errors it reports. */
function watched(options) {
  const client = server.client(options);
  const codes = [];
  client.connection.bind('error', (error) => codes.push(error));
  client.connection.bind('disconnected', () => codes.push('disconnected'));
  return { client, codes };
}

/** Returns when the client has got an event that was published now. */
async function fence(client) {
  const channel = await subscribe(client, 'fence');
  const came = heard('the fence', (done) => channel.bind('fence', done));
  await sdk.trigger('fence', 'fence', null);
  await came;
}

async function publish(channel, name, data) {
  const body = JSON.stringify({ name, channel, data });
  const { status, text } = await server.signed('POST', '/events', { body });
  assert.equal(status, 200, text);
}

/** A port that leads to the server, and carries so many bytes a second from there. */
async function slowLink(bytesPerSecond) {
  const tick = 10;
  const share = (bytesPerSecond * tick) / 1000;
  const relay = createServer(async (client) => {
    const upstream = connect(server.port, '127.0.0.1');
    client.on('error', () => upstream.destroy());
    upstream.on('error', () => client.destroy());
    client.pipe(upstream);
    let [carried, start] = [0, performance.now()];
    try {
      for await (const chunk of upstream) {
        for (let at = 0; at < chunk.length; at += share) {
          const part = chunk.subarray(at, at + share);
          if (!client.write(part)) await once(client, 'drain');
          carried += part.length;
          const due = start + (carried / bytesPerSecond) * 1000;
          if (due > performance.now()) await delay(due - performance.now());
          // Time in which nothing was to be carried is not saved up.
          else if (performance.now() - due > 100) [carried, start] = [0, performance.now()];
        }
      }
    } catch {
      // The server or the client has closed the connection.
    }
    client.end();
  });
  relay.listen(0, '127.0.0.1');
  await once(relay, 'listening');
  return { port: relay.address().port, stop: () => relay.close() };
}
