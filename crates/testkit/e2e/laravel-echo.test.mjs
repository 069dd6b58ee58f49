import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import Echo from 'laravel-echo';
import PusherJs from 'pusher-js';
import { connected, heard, next, startAuthEndpoint, startServer } from './harness.mjs';

const server = await startServer();
const sdk = server.sdk();

// As in a Laravel application: the bearer token says who it is, and /broadcasting/auth signs for that user.
const users = {
  'token-ada': { user_id: 'ada', user_info: { name: 'Ada' } },
  'token-bob': { user_id: 'bob', user_info: { name: 'Bob' } },
};
const laravel = await startAuthEndpoint(server, ({ url, headers }) => {
  return url === '/broadcasting/auth' ? users[headers.authorization?.replace('Bearer ', '')] : undefined;
});
after(async () => {
  await server.stop();
  await laravel.stop();
});
afterEach(() => server.disconnectClients());

for (const broadcaster of ['pusher', 'reverb']) {
  const echoOf = (name) => {
    const echo = new Echo({
      broadcaster,
      Pusher: PusherJs,
      key: server.app.key,
      authEndpoint: `${laravel.url}/broadcasting/auth`,
      bearerToken: `token-${name}`,
      // Echo writes the token into these, and two Echos in one process would share its defaults.
      auth: { headers: {} },
      userAuthentication: { endpoint: `${laravel.url}/broadcasting/user-auth`, headers: {} },
      ...server.clientOptions(),
    });
    server.track(echo.connector.pusher);
    return echo;
  };

  test(`${broadcaster}: a listener on a channel hears the event class it names`, async () => {
    const channel = echoOf('ada').channel('orders');
    const shipped = heard('OrderShipped', (resolve) => channel.listen('OrderShipped', resolve));
    await subscribed(channel);
    await sdk.trigger('orders', 'App\\Events\\OrderShipped', { id: 7 });
    assert.deepEqual(await shipped, { id: 7 });
  });

  test(`${broadcaster}: an event broadcast under a name of its own is heard with a leading dot`, async () => {
    const channel = echoOf('ada').private('orders.7');
    const shipped = heard('order.shipped', (resolve) => channel.listen('.order.shipped', resolve));
    await subscribed(channel);
    await sdk.trigger('private-orders.7', 'order.shipped', { id: 7 });
    assert.deepEqual(await shipped, { id: 7 });
  });

  test(`${broadcaster}: a whisper reaches the others on a private channel and not the whisperer`, async () => {
    const [ada, bob] = ['ada', 'bob'].map((name) => echoOf(name).private('chat'));
    await Promise.all([subscribed(ada), subscribed(bob)]);
    const own = [];
    ada.listenForWhisper('typing', (data) => own.push(data));
    const whisper = heard('whisper', (resolve) => bob.listenForWhisper('typing', resolve));
    ada.whisper('typing', { name: 'Ada' });
    assert.deepEqual(await whisper, { name: 'Ada' });
    const fence = next(ada.subscription, 'fence');
    await sdk.trigger('private-chat', 'fence', null);
    await fence;
    assert.deepEqual(own, []);
  });

  test(`${broadcaster}: those who join a room see who is here, who comes and who leaves`, async () => {
    const [ada, bob] = [echoOf('ada'), echoOf('bob')];
    const room = ada.join('room');
    const joining = heard('joining', (resolve) => room.joining(resolve));
    const leaving = heard('leaving', (resolve) => room.leaving(resolve));
    assert.deepEqual(await here(room), [{ name: 'Ada' }]);
    assert.deepEqual(byName(await here(bob.join('room'))), [{ name: 'Ada' }, { name: 'Bob' }]);
    assert.deepEqual(await joining, { name: 'Bob' });
    bob.leave('room');
    assert.deepEqual(await leaving, { name: 'Bob' });
  });

  test(`${broadcaster}: a whisper in a room is heard by its members`, async () => {
    const [ada, bob] = ['ada', 'bob'].map((name) => echoOf(name).join('whispers'));
    await Promise.all([here(ada), here(bob)]);
    const whisper = heard('whisper', (resolve) => bob.listenForWhisper('typing', resolve));
    ada.whisper('typing', { at: 1 });
    assert.deepEqual(await whisper, { at: 1 });
  });

  test(`${broadcaster}: toOthers leaves out the socket id Echo reports`, async () => {
    const [ada, bob] = [echoOf('ada'), echoOf('bob')];
    const [own, other] = [ada.channel('others'), bob.channel('others')];
    await Promise.all([subscribed(own), subscribed(other), connected(ada.connector.pusher)]);
    const seen = [];
    own.listen('.posted', (data) => seen.push(data));
    const posted = heard('posted', (resolve) => other.listen('.posted', resolve));
    await sdk.trigger('others', 'posted', 1, { socket_id: ada.socketId() });
    assert.equal(await posted, 1);
    const fence = next(own.subscription, 'fence');
    await sdk.trigger('others', 'fence', null);
    await fence;
    assert.deepEqual(seen, []);
  });

  test(`${broadcaster}: whoever the auth endpoint refuses is not admitted`, async () => {
    const channel = echoOf('mallory').private('orders.7');
    const error = await heard('error', (resolve) => channel.error(resolve));
    assert.equal(error.status, 403);
  });
}

function subscribed(channel) {
  return heard('subscription', (resolve) => channel.subscribed(resolve));
}

function here(room) {
  return heard('members', (resolve) => room.here(resolve));
}

function byName(people) {
  return people.sort((a, b) => a.name.localeCompare(b.name));
}
