import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { connected, next, nextErrorCode, record, startServer, subscribe } from './harness.mjs';

const server = await startServer();
const sdk = server.sdk();
after(() => server.stop());
afterEach(() => server.disconnectClients());

const ADA = { user_id: 'ada', user_info: { name: 'Ada' } };
const BOB = { user_id: 'bob', user_info: { name: 'Bob' } };

for (const transport of ['xhr_streaming', 'xhr_polling']) {
  const over = (options) => server.client({ ...server.fallbackOptions(transport), ...options });

  test(`${transport}: a client connects, subscribes to channels of each kind and receives their events`, async () => {
    const client = over({ user: ADA });
    assert.match(await connected(client), /^\d+\.\d+$/);
    assert.equal(client.connection.connection.transport.name, transport);
    const names = ['news', 'private-news', 'presence-news', 'cache-news'];
    const channels = await Promise.all(names.map((name) => subscribe(client, name)));
    const received = channels.map((channel) => next(channel, 'headline'));
    await sdk.trigger(names, 'headline', { text: 'Zürich 漢 🎉\n"quoted"' });
    for (const data of await Promise.all(received)) assert.deepEqual(data, { text: 'Zürich 漢 🎉\n"quoted"' });
  });

  test(`${transport}: client events go both ways, also to and from a WebSocket`, async () => {
    const [one, two] = [over(), server.client()];
    const [here, there] = await Promise.all([one, two].map((client) => subscribe(client, 'private-chat')));
    const heardThere = next(there, 'client-hello');
    here.trigger('client-hello', { from: 'fallback' });
    assert.deepEqual(await heardThere, { from: 'fallback' });
    const heardHere = next(here, 'client-hello');
    there.trigger('client-hello', { from: 'socket' });
    assert.deepEqual(await heardHere, { from: 'socket' });
  });

  test(`${transport}: a member who leaves without a word is announced as gone within ten seconds`, async () => {
    const channel = await subscribe(server.client({ user: ADA }), 'presence-room');
    const added = next(channel, 'pusher:member_added');
    const other = over({ user: BOB });
    await subscribe(other, 'presence-room');
    assert.equal((await added).id, 'bob');
    const removed = next(channel, 'pusher:member_removed');
    other.disconnect();
    assert.equal((await removed).id, 'bob');
  });

  test(`${transport}: an unknown key is told so with 4001 and the client does not try again`, async () => {
    const client = over({ key: 'no-such-key' });
    assert.equal(await nextErrorCode(client), 4001);
    if (client.connection.state !== 'disconnected') await next(client.connection, 'disconnected');
  });

  test(`${transport}: of a megabyte of events none is lost, doubled or out of order, on one connection`, async () => {
    const client = over();
    const channel = await subscribe(client, 'flood');
    const before = client.connection.socket_id;
    const seen = record(channel);
    const rest = 'Zürich 漢🎉 '.repeat(300);
    const total = 240;
    const all = next(channel, 'last');
    for (let n = 0; n < total; n += 10) {
      const batch = Array.from({ length: 10 }, (_, k) => ({ channel: 'flood', name: 'part', data: { n: n + k, rest } }));
      await sdk.triggerBatch(batch);
    }
    await sdk.trigger('flood', 'last', {});
    await all;
    const parts = seen.filter(([event]) => event === 'part').map(([, data]) => data.n);
    assert.deepEqual(parts, Array.from({ length: total }, (_, n) => n));
    assert.equal(client.connection.socket_id, before);
    assert.equal(client.connection.state, 'connected');
  });
}
