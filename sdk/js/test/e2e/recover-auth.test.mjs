// `recover(pusher)` around the unmodified pusher-js, and an auth endpoint that fails in each of the ways of an endpoint whose
// clients all ask at once.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import Echo from 'laravel-echo';
import PusherJs from 'pusher-js';
import { next, startHttp, startServer } from '../../../../crates/testkit/e2e/harness.mjs';
import { recover } from '../../dist/es/recover.js';
import { until } from '../support/wait.mjs';

const server = await startServer();
const sdk = server.sdk();
const { random } = Math;
/** What the endpoint does for the next requests: a status, 'reset' or 'hang'. Nothing left: it answers. */
let faults = [];
/** Returns the header of that name of answers that are no success. */
let retryAfter;
/** Channels that were asked for, `user` for a sign-in. */
let asked = [];

const endpoint = await startHttp(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  const form = new URLSearchParams(body);
  const [socketId, channel] = [form.get('socket_id'), form.get('channel_name')];
  asked.push(channel ?? 'user');
  const fault = faults.shift();
  if (fault === 'reset') return request.socket.resetAndDestroy();
  if (fault === 'hang') return undefined;
  if (fault) return response.writeHead(fault, retryAfter && { 'retry-after': retryAfter() }).end('not now');
  const user = { id: 'ada', user_id: 'ada' };
  const answer = channel
    ? sdk.authorizeChannel(socketId, channel, channel.startsWith('presence-') ? user : undefined)
    : sdk.authenticateUser(socketId, user);
  return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
});

after(async () => {
  await endpoint.stop();
  await server.stop();
});
afterEach(() => {
  server.disconnectClients();
  Math.random = random;
  faults = [];
  retryAfter = undefined;
  asked = [];
});

function client() {
  const pusher = new PusherJs(server.app.key, {
    ...server.clientOptions(),
    channelAuthorization: { endpoint: endpoint.url },
    userAuthentication: { endpoint: endpoint.url },
  });
  return server.track(recover(pusher));
}

for (const fault of [408, 429, 500, 502, 503, 'reset']) {
  for (const name of ['private-orders', 'presence-room']) {
    test(`${name} comes back after an endpoint that fails twice: ${fault}`, async () => {
      faults = [fault, fault];
      const channel = client().subscribe(name);
      const errors = [];
      channel.bind('pusher:subscription_error', (error) => errors.push(error));
      await next(channel, 'pusher:subscription_succeeded');
      assert.deepEqual(asked, [name, name, name]);
      // The application hears of each failure, as without recover().
      assert.deepEqual(errors.map(({ type, status }) => [type, status]), Array(2).fill(['AuthError', fault === 'reset' ? 0 : fault]));
      const heard = next(channel, 'e');
      await sdk.trigger(name, 'e', 1);
      assert.equal(await heard, 1);
    });
  }
}

test('a channel comes back after an endpoint that does not answer within 15 s', async () => {
  faults = ['hang'];
  const channel = client().subscribe('private-orders');
  const error = next(channel, 'pusher:subscription_error');
  await next(channel, 'pusher:subscription_succeeded');
  assert.deepEqual(await error, { type: 'AuthError', error: 'No answer within 15000 ms' });
  assert.deepEqual(asked, ['private-orders', 'private-orders']);
});

for (const fault of [400, 401, 403, 404]) {
  test(`an endpoint that answers ${fault} is not asked again`, async () => {
    const pusher = client();
    await next(pusher.connection, 'connected');
    // Whatever is tried again is tried at once.
    Math.random = () => 0;
    faults = [fault];
    assert.equal((await next(pusher.subscribe('private-closed'), 'pusher:subscription_error')).status, fault);
    for (const name of ['private-1', 'private-2']) {
      faults = [503];
      await next(pusher.subscribe(name), 'pusher:subscription_succeeded');
    }
    assert.deepEqual(asked, ['private-closed', 'private-1', 'private-1', 'private-2', 'private-2']);
  });
}

for (const [what, header] of [
  ['seconds', () => '3'],
  // A date has no fractions of a second.
  ['a date', () => new Date(Math.ceil(Date.now() / 1000) * 1000 + 3000).toUTCString()],
]) {
  test(`an endpoint that says when to ask again, by ${what}, is not asked earlier`, async () => {
    const pusher = client();
    await next(pusher.connection, 'connected');
    // What is waited at random comes on top.
    Math.random = () => 0;
    faults = [429, 503];
    retryAfter = header;
    pusher.signin();
    const channel = pusher.subscribe('private-orders');
    await next(channel, 'pusher:subscription_error');
    const refusedAt = Date.now();
    await next(channel, 'pusher:subscription_succeeded');
    await until(() => pusher.user.serverToUserChannel?.subscribed);
    assert.ok(Date.now() - refusedAt >= 2_900, `${Date.now() - refusedAt} ms`);
    assert.deepEqual(asked.slice(0, 2).sort(), ['private-orders', 'user']);
    assert.deepEqual(asked.slice(2).sort(), ['private-orders', 'user']);
  });
}

test('a sign-in comes back as well', async () => {
  faults = [503, 'reset'];
  const pusher = client();
  pusher.signin();
  await until(() => pusher.user.serverToUserChannel?.subscribed);
  assert.deepEqual(asked, ['user', 'user', 'user']);
  const heard = next(pusher.user, 'e');
  await sdk.sendToUser('ada', 'e', 1);
  assert.equal(await heard, 1);
});

test('a channel that was unsubscribed from is left alone, and one that connected anew is asked for once', async () => {
  const pusher = client();
  await next(pusher.connection, 'connected');
  faults = [503, 503];
  const [left, kept] = [pusher.subscribe('private-left'), pusher.subscribe('private-kept')];
  await Promise.all([left, kept].map((channel) => next(channel, 'pusher:subscription_error')));
  pusher.unsubscribe('private-left');
  pusher.disconnect();
  pusher.connect();
  await next(kept, 'pusher:subscription_succeeded');
  Math.random = () => 0;
  faults = [503];
  await next(pusher.subscribe('private-last'), 'pusher:subscription_succeeded');
  assert.deepEqual(asked.sort(), ['private-kept', 'private-kept', 'private-last', 'private-last', 'private-left']);
});

test('Laravel Echo gets its channels back', async () => {
  faults = [503, 'reset'];
  const options = { ...server.clientOptions(), key: server.app.key, Pusher: PusherJs };
  const echo = new Echo({ broadcaster: 'pusher', ...options, channelAuthorization: { endpoint: endpoint.url } });
  server.track(echo.connector.pusher);
  recover(echo.connector.pusher);
  const channel = echo.private('orders');
  await new Promise((resolve) => channel.subscribed(resolve));
  assert.deepEqual(asked, Array(3).fill('private-orders'));
});
