// The app's auth endpoint lets a client in, later refuses it (a session has ended), and later lets it in again.
import assert from 'node:assert/strict';
import { after, beforeEach, afterEach, test } from 'node:test';
import Echo from 'laravel-echo';
import PusherJs from 'pusher-js';
import { heard, next, record, signedIn, startAuthEndpoint, startServer, subscribe } from './harness.mjs';

const server = await startServer({ held: true });
let session;
const endpoint = await startAuthEndpoint(server, () => session);
after(async () => {
  await server.stop();
  await endpoint.stop();
});
beforeEach(() => (session = { id: 'ada' }));
afterEach(() => server.disconnectClients());

test('a client whose auth has expired when it comes back is told so, and subscribing works once it is renewed', async () => {
  const client = server.client({ channelAuthorization: { endpoint: endpoint.url, transport: 'ajax' } });
  const open = await subscribe(client, 'open');
  const channel = await subscribe(client, 'private-orders');
  const refused = next(channel, 'pusher:subscription_error');
  const back = next(open, 'pusher:subscription_succeeded');
  await expireAndRestart();
  assert.equal((await refused).status, 403);
  await back;
  assert.equal(channel.subscribed, false);
  const overheard = record(channel);
  const fence = next(open, 'fence');
  await server.sdk().trigger(['private-orders', 'open'], 'fence', null);
  await fence;
  assert.deepEqual(overheard, []);

  session = { id: 'ada' };
  assert.equal(await subscribe(client, 'private-orders'), channel);
  const received = next(channel, 'shipped');
  await server.sdk().trigger('private-orders', 'shipped', { id: 7 });
  assert.deepEqual(await received, { id: 7 });
});

test('a user whose auth has expired is told so, keeps the connection, and is signed in when it comes back renewed', async () => {
  const client = server.client({ userAuthentication: { endpoint: endpoint.url, transport: 'ajax' } });
  const open = await subscribe(client, 'open');
  await signedIn(client);
  const refused = next(client.user, 'pusher:signin_error');
  const back = next(open, 'pusher:subscription_succeeded');
  await expireAndRestart();
  assert.equal((await refused).status, 403);
  await back;
  const overheard = record(client.user);
  const fence = next(open, 'fence');
  await server.sdk().sendToUser('ada', 'hello', 'unheard');
  await server.sdk().trigger('open', 'fence', null);
  await fence;
  assert.deepEqual(overheard, []);

  // pusher-js signs in once for each connection: another `signin()` on this one does nothing.
  session = { id: 'ada' };
  client.disconnect();
  client.connect();
  await signedIn(client);
  const received = next(client.user, 'hello');
  await server.sdk().sendToUser('ada', 'hello', 'again');
  assert.equal(await received, 'again');
});

for (const broadcaster of ['pusher', 'reverb']) {
  test(`${broadcaster}: Echo hears that its auth has expired, and leaving and joining again works`, async () => {
    const echo = new Echo({
      broadcaster,
      Pusher: PusherJs,
      key: server.app.key,
      authEndpoint: `${endpoint.url}/broadcasting/auth`,
      auth: { headers: {} },
      ...server.clientOptions(),
    });
    server.track(echo.connector.pusher);
    const channel = echo.private('orders');
    await heard('subscription', (resolve) => channel.subscribed(resolve));
    const refused = heard('error', (resolve) => channel.error(resolve));
    await expireAndRestart();
    assert.equal((await refused).status, 403);

    session = { id: 'ada' };
    echo.leave('orders');
    const again = echo.private('orders');
    const shipped = heard('order.shipped', (resolve) => again.listen('.order.shipped', resolve));
    await heard('subscription', (resolve) => again.subscribed(resolve));
    await server.sdk().trigger('private-orders', 'order.shipped', { id: 7 });
    assert.deepEqual(await shipped, { id: 7 });
  });
}

/** From now on the endpoint answers 403, and every connection is a new one. */
async function expireAndRestart() {
  session = undefined;
  await server.end();
  await server.start();
}
