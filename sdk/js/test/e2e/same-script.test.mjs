// One script, run with the unmodified pusher-js and with `@fanfare/client/pusher`: they must not differ.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, test } from 'node:test';
import Echo from 'laravel-echo';
import PusherJs from 'pusher-js';
import nacl from 'tweetnacl';
import WebSocket from 'ws';
import * as harness from '../../../../crates/testkit/e2e/harness.mjs';
import FanfarePusher from '../../dist/es/pusher.js';
import { until } from '../support/wait.mjs';

const { next, nextErrorCode, record, connected, subscribe, signedIn } = harness;
const encryptionMasterKeyBase64 = randomBytes(32).toString('base64');
const server = await harness.startServer({ settings: { watchlists: true, subscription_count: true }, held: true });
const sdk = server.sdk({ encryptionMasterKeyBase64 });
const ADA = { id: 'ada', user_id: 'ada', user_info: { name: 'Ada' }, watchlist: ['bob'] };
const BOB = { id: 'bob', user_id: 'bob', user_info: { name: 'Bob' } };
const clients = new Set();
const sockets = new Set();

after(() => server.stop());
afterEach(() => {
  clients.forEach((client) => client.disconnect());
  clients.clear();
  // In Node, pusher-js starts a timer of 30 s when it closes a socket; the process would wait for it.
  sockets.forEach((socket) => socket._closeTimer?.unref());
  sockets.clear();
});

for (const [library, Pusher] of [
  ['pusher-js', PusherJs],
  ['@fanfare/client/pusher', FanfarePusher],
]) {
  const client = ({ key = server.app.key, user, ...options } = {}) => {
    const pusher = new Pusher(key, {
      ...server.clientOptions(),
      WebSocket,
      nacl,
      channelAuthorization: {
        customHandler: ({ socketId, channelName }, callback) => {
          const member = channelName.startsWith('presence-') ? user : undefined;
          callback(null, sdk.authorizeChannel(socketId, channelName, member));
        },
      },
      userAuthentication: {
        customHandler: ({ socketId }, callback) => callback(null, sdk.authenticateUser(socketId, user)),
      },
      ...options,
    });
    clients.add(pusher);
    pusher.connection.bind('connected', () => sockets.add(pusher.connection.connection?.transport.socket ?? {}));
    return pusher;
  };
  const it = (name, script) => test(`${library}: ${name}`, script);

  it('connects, and tells each state and the socket id', async () => {
    const pusher = client();
    const changes = [];
    pusher.connection.bind('state_change', (change) => changes.push(change));
    const greeted = next(pusher.connection, 'connected');
    assert.match((await greeted).socket_id, /^\d+\.\d+$/);
    assert.equal(pusher.connection.state, 'connected');
    assert.match(pusher.connection.socket_id, /^\d+\.\d+$/);
    pusher.disconnect();
    assert.equal(pusher.connection.state, 'disconnected');
    assert.deepEqual(changes.at(-1), { previous: 'connected', current: 'disconnected' });
    assert.ok(Pusher.instances.includes(pusher));
    assert.equal(pusher.key, server.app.key);
  });

  it('gets what is published, on a public, a private and a cache channel', async () => {
    const pusher = client();
    const names = ['news', 'private-news', 'cache-news'];
    const channels = await Promise.all(names.map((name) => subscribe(pusher, name)));
    const heard = channels.map((channel) => next(channel, 'headline', { metadata: true }));
    await sdk.trigger(names, 'headline', { text: 'Zürich 漢 🎉\n"quoted"' });
    for (const args of await Promise.all(heard)) assert.deepEqual(args, [{ text: 'Zürich 漢 🎉\n"quoted"' }, {}]);
    assert.deepEqual(pusher.allChannels(), channels);
    assert.equal(pusher.channel('news'), channels[0]);
    assert.equal(channels[0].name, 'news');
  });

  it('keeps data that is no JSON, and every kind of JSON', async () => {
    const pusher = client();
    const channel = await subscribe(pusher, 'kinds');
    const seen = record(channel);
    const all = ['plain text', '"quoted"', '17', 'null', 'false', '[1,{"a":2}]', ''];
    for (const data of all) {
      await server.signed('POST', '/events', { body: JSON.stringify({ name: 'kind', channel: 'kinds', data }) });
    }
    await until(() => seen.length === all.length);
    assert.deepEqual(
      seen.map(([, data]) => data),
      ['plain text', 'quoted', 17, null, false, [1, { a: 2 }], ''],
    );
  });

  it('tells the last event of a cache channel to who comes later, and that there is none', async () => {
    const name = `cache-late-${library.length}`;
    const empty = client().subscribe(name);
    await next(empty, 'pusher:cache_miss');
    await sdk.trigger(name, 'price', 12);
    assert.equal(await next(client().subscribe(name), 'price'), 12);
  });

  it('binds and unbinds by name, callback and context, and globally', async () => {
    const pusher = client();
    const channel = await subscribe(pusher, 'binding');
    const calls = [];
    const [one, two] = [() => calls.push('one'), () => calls.push('two')];
    const context = { name: 'context' };
    // Counts of subscriptions come when they are due, a quarter of a second after somebody left.
    const isCount = (event) => event === 'pusher:subscription_count';
    const global = (event, data) => isCount(event) || calls.push(`global ${event} ${data}`);
    assert.equal(channel.bind('e', one).bind('e', two), channel);
    channel.bind(
      'e',
      function () {
        calls.push(this.name);
      },
      context,
    );
    channel.bind_global(global);
    const round = async () => {
      calls.length = 0;
      const fence = next(channel, 'fence');
      await sdk.trigger('binding', 'e', 1);
      await sdk.trigger('binding', 'fence', 2);
      await fence;
      return calls.filter((call) => !call.includes('fence')).sort();
    };
    assert.deepEqual(await round(), ['context', 'global e 1', 'one', 'two']);
    channel.unbind('e', one);
    assert.deepEqual(await round(), ['context', 'global e 1', 'two']);
    channel.unbind(null, null, context);
    assert.deepEqual(await round(), ['global e 1', 'two']);
    channel.unbind_global(global);
    assert.deepEqual(await round(), ['two']);
    channel.unbind('e');
    assert.deepEqual(await round(), []);
    channel.bind('e', one).bind_global(global).unbind_all();
    assert.deepEqual(await round(), []);
  });

  it('gives events of all channels to listeners of the instance, by name and all of them', async () => {
    const pusher = client();
    const seen = [];
    const byName = (data) => seen.push(['bind', data]);
    const all = (event, data) => event === 'e' && seen.push(['bind_global', data]);
    assert.equal(pusher.bind('e', byName), pusher);
    pusher.bind_global(all);
    await Promise.all([subscribe(pusher, 'one'), subscribe(pusher, 'two')]);
    await sdk.trigger('one', 'e', 1);
    await sdk.trigger('two', 'e', 2);
    await until(() => seen.length === 4);
    assert.deepEqual(seen.map(([how, data]) => `${how} ${data}`).sort(), [
      'bind 1',
      'bind 2',
      'bind_global 1',
      'bind_global 2',
    ]);
    pusher.unbind('e', byName).unbind_global(all);
    const fence = next(pusher.channel('one'), 'fence');
    await sdk.trigger('one', 'e', 3);
    await sdk.trigger('one', 'fence', null);
    await fence;
    assert.equal(seen.length, 4);
  });

  it('gives whole messages to listeners of the connection', async () => {
    const pusher = client();
    const messages = [];
    pusher.connection.bind('message', (message) => messages.push(message));
    await subscribe(pusher, 'whole');
    await sdk.trigger('whole', 'e', { a: 1 });
    await until(() => messages.some(({ event }) => event === 'e'));
    assert.deepEqual(
      messages.find(({ event }) => event === 'e'),
      { event: 'e', channel: 'whole', data: { a: 1 } },
    );
  });

  it('knows who is on a presence channel, who comes and who goes', async () => {
    const pusher = client({ user: ADA });
    const channel = pusher.subscribe('presence-room');
    const members = await next(channel, 'pusher:subscription_succeeded');
    assert.equal(members, channel.members);
    assert.deepEqual(members.me, { id: 'ada', info: { name: 'Ada' } });
    assert.equal(members.myID, 'ada');
    assert.equal(members.count, 1);
    assert.equal(members.get('bob'), null);

    const other = client({ user: BOB });
    const added = next(channel, 'pusher:member_added');
    await subscribe(other, 'presence-room');
    assert.deepEqual(await added, { id: 'bob', info: { name: 'Bob' } });
    const each = [];
    channel.members.each((member) => each.push(member));
    assert.deepEqual(
      each.sort((a, b) => (a.id < b.id ? -1 : 1)),
      [
        { id: 'ada', info: { name: 'Ada' } },
        { id: 'bob', info: { name: 'Bob' } },
      ],
    );
    assert.deepEqual(channel.members.members, { ada: { name: 'Ada' }, bob: { name: 'Bob' } });
    const removed = next(channel, 'pusher:member_removed');
    other.unsubscribe('presence-room');
    assert.deepEqual(await removed, { id: 'bob', info: { name: 'Bob' } });
    assert.equal(channel.members.count, 1);
  });

  it('sends client events, and says on presence channels who sent one', async () => {
    const [ada, bob] = [client({ user: ADA }), client({ user: BOB })];
    const [here, there] = [await subscribe(ada, 'presence-chat'), await subscribe(bob, 'presence-chat')];
    const heard = next(there, 'client-typing', { metadata: true });
    assert.equal(here.trigger('client-typing', { on: true }), true);
    assert.deepEqual(await heard, [{ on: true }, { user_id: 'ada' }]);
    assert.throws(() => here.trigger('typing', {}), /does not start with 'client-'/);
  });

  it('decrypts, with the nacl that it is given', async () => {
    const pusher = client();
    const channel = await subscribe(pusher, 'private-encrypted-letters');
    const heard = next(channel, 'letter');
    await sdk.trigger('private-encrypted-letters', 'letter', { text: 'Nobody else reads this' });
    assert.deepEqual(await heard, { text: 'Nobody else reads this' });
    assert.throws(() => channel.trigger('client-e', {}), /not currently supported/);
  });

  it('leaves a channel and comes back to it', async () => {
    const pusher = client();
    const channel = await subscribe(pusher, 'door');
    const seen = record(channel);
    pusher.unsubscribe('door');
    assert.equal(pusher.channel('door'), undefined);
    assert.equal(channel.subscribed, false);
    const again = await subscribe(pusher, 'door');
    assert.notEqual(again, channel);
    const heard = next(again, 'e');
    await sdk.trigger('door', 'e', 1);
    assert.equal(await heard, 1);
    assert.deepEqual(seen, []);
  });

  it('stays subscribed when it unsubscribes and subscribes before the server has answered', async () => {
    const pusher = client();
    await connected(pusher);
    const channel = pusher.subscribe('hasty');
    assert.equal(channel.subscriptionPending, true);
    pusher.unsubscribe('hasty');
    assert.equal(pusher.subscribe('hasty'), channel);
    await until(() => channel.subscribed);
    const heard = next(channel, 'e');
    await sdk.trigger('hasty', 'e', 1);
    assert.equal(await heard, 1);
  });

  it('subscribes again by itself after a lost connection, with another socket id', async () => {
    const pusher = client({ user: ADA });
    const channel = await subscribe(pusher, 'presence-again');
    const before = pusher.connection.socket_id;
    pusher.disconnect();
    assert.equal(channel.subscribed, false);
    assert.equal(channel.members.count, 0);
    const back = next(channel, 'pusher:subscription_succeeded');
    pusher.connect();
    assert.equal((await back).count, 1);
    assert.notEqual(pusher.connection.socket_id, before);
  });

  it('asks an endpoint with headers and parameters, and tells when it is refused', async (t) => {
    const asked = [];
    let session = ADA;
    const endpoint = await harness.startAuthEndpoint(server, (request) => {
      asked.push(request.headers['x-token']);
      return session;
    });
    t.after(() => endpoint.stop());
    const pusher = client({
      channelAuthorization: {
        endpoint: endpoint.url,
        transport: 'ajax',
        headers: { 'X-Token': 'fixed' },
        headersProvider: () => ({ 'X-Token': 'provided' }),
        params: { a: 1 },
        paramsProvider: () => ({ b: 2 }),
      },
    });
    const channel = await subscribe(pusher, 'presence-endpoint');
    assert.equal(channel.members.myID, 'ada');
    session = undefined;
    const { type, status, error } = await next(pusher.subscribe('private-closed'), 'pusher:subscription_error');
    assert.deepEqual({ type, status, kind: typeof error }, { type: 'AuthError', status: 403, kind: 'string' });
    assert.equal(pusher.channel('private-closed').subscribed, false);
    assert.match(asked.at(-1), /provided/);
  });

  it('takes the deprecated ways to authorize', async (t) => {
    const endpoint = await harness.startAuthEndpoint(server, (request) => request.headers['x-token'] === 'old' && ADA);
    t.after(() => endpoint.stop());
    const pusher = new Pusher(server.app.key, {
      ...server.clientOptions(),
      WebSocket,
      authEndpoint: endpoint.url,
      auth: { headers: { 'X-Token': 'old' } },
    });
    clients.add(pusher);
    pusher.connection.bind('connected', () => sockets.add(pusher.connection.connection?.transport.socket ?? {}));
    await subscribe(pusher, 'private-old');
    const older = new Pusher(server.app.key, {
      ...server.clientOptions(),
      WebSocket,
      authorizer: (channel) => ({
        authorize: (socketId, callback) => callback(null, sdk.authorizeChannel(socketId, channel.name)),
      }),
    });
    clients.add(older);
    older.connection.bind('connected', () => sockets.add(older.connection.connection?.transport.socket ?? {}));
    await subscribe(older, 'private-older');
  });

  it('hears when a handler of its own refuses', async () => {
    const refuse = (_, callback) => callback(new Error('not today'), null);
    const pusher = client({ channelAuthorization: { customHandler: refuse } });
    const error = await next(pusher.subscribe('private-closed'), 'pusher:subscription_error');
    assert.deepEqual(error, { type: 'AuthError', error: 'not today' });
  });

  it('hears when the server refuses a signature', async () => {
    const forge = (_, callback) => callback(null, { auth: `${server.app.key}:${'0'.repeat(64)}` });
    const pusher = client({ channelAuthorization: { customHandler: forge } });
    const codeless = nextErrorCode(pusher);
    const { type, status } = await next(pusher.subscribe('private-closed'), 'pusher:subscription_error');
    assert.deepEqual({ type, status }, { type: 'AuthError', status: 401 });
    assert.equal(await codeless, null);
  });

  it('signs in, gets what is sent to the user, and hears of the watchlist', async () => {
    const pusher = client({ user: ADA });
    const online = next(pusher.user.watchlist, 'online');
    await signedIn(pusher);
    assert.equal(pusher.user.user_data.id, 'ada');
    const heard = next(pusher.user, 'hello');
    await sdk.sendToUser('ada', 'hello', { to: 'ada' });
    assert.deepEqual(await heard, { to: 'ada' });
    const bob = await signedIn(client({ user: BOB }));
    assert.deepEqual(await online, { name: 'online', user_ids: ['bob'] });
    const offline = next(pusher.user.watchlist, 'offline');
    bob.disconnect();
    assert.deepEqual(await offline, { name: 'offline', user_ids: ['bob'] });

    pusher.disconnect();
    assert.equal(pusher.user.user_data, null);
    pusher.connect();
    await signedIn(pusher);
    const again = next(pusher.user, 'hello');
    await sdk.sendToUser('ada', 'hello', 'again');
    assert.equal(await again, 'again');
  });

  it('hears when the sign-in is refused', async () => {
    const refuse = (_, callback) => callback(new Error('not today'), null);
    const pusher = client({ userAuthentication: { customHandler: refuse } });
    await connected(pusher);
    const refused = next(pusher.user, 'pusher:signin_error');
    pusher.signin();
    assert.deepEqual(await refused, { type: 'AuthError', error: 'not today' });
    await pusher.user.signinDonePromise;
    assert.equal(pusher.user.user_data, null);
  });

  it('is on a presence channel as the signed-in user where auth says nothing of the member', async () => {
    const pusher = client({
      user: ADA,
      channelAuthorization: {
        customHandler: ({ socketId, channelName }, callback) =>
          callback(null, sdk.authorizeChannel(socketId, channelName)),
      },
    });
    pusher.signin();
    const channel = await subscribe(pusher, 'presence-signed-in');
    assert.deepEqual(channel.members.me, { id: 'ada', info: { name: 'Ada' } });
  });

  it('counts subscriptions where the app wants that', async () => {
    const channel = client().subscribe('counted');
    assert.deepEqual(await next(channel, 'pusher:subscription_count'), { subscription_count: 1 });
    assert.equal(channel.subscriptionCount, 1);
  });

  it('is told that a key is unknown, and stays away', async () => {
    const pusher = client({ key: 'no-such-key' });
    const error = await next(pusher.connection, 'error');
    assert.equal(error.type, 'WebSocketError');
    assert.equal(error.error.type, 'PusherError');
    assert.equal(error.error.data.code, 4001);
    if (pusher.connection.state !== 'disconnected') await next(pusher.connection, 'disconnected');
  });

  it('comes back after the server was restarted', async () => {
    const pusher = client();
    const channel = await subscribe(pusher, 'restart');
    const back = next(channel, 'pusher:subscription_succeeded');
    await server.end();
    await server.start();
    await back;
    const heard = next(channel, 'e');
    await sdk.trigger('restart', 'e', 1);
    assert.equal(await heard, 1);
  });

  for (const transport of ['xhr_streaming', 'xhr_polling']) {
    it(`does the same over ${transport}`, async () => {
      const pusher = client({ user: ADA, ...server.fallbackOptions(transport) });
      const channel = await subscribe(pusher, 'presence-fallback');
      const heard = next(channel, 'e');
      await sdk.trigger('presence-fallback', 'e', { text: 'Zürich 🎉' });
      assert.deepEqual(await heard, { text: 'Zürich 🎉' });
      const other = await subscribe(client({ user: BOB }), 'presence-fallback');
      const typed = next(other, 'client-typing');
      channel.trigger('client-typing', 1);
      assert.equal(await typed, 1);
    });
  }

  it('serves Laravel Echo', async () => {
    const pusher = client({ user: ADA });
    const echo = new Echo({ broadcaster: 'pusher', client: pusher, key: server.app.key });
    const heard = harness.heard('event', (resolve) => echo.private('orders').listen('.shipped', resolve));
    const here = harness.heard('members', (resolve) => echo.join('hall').here(resolve));
    const other = await subscribe(client({ user: BOB }), 'private-orders');
    assert.deepEqual(await here, [{ name: 'Ada' }]);
    await until(() => pusher.channel('private-orders').subscribed);
    await sdk.trigger('private-orders', 'shipped', { id: 1 });
    assert.deepEqual(await heard, { id: 1 });
    const whispered = next(other, 'client-typing');
    echo.private('orders').whisper('typing', { on: true });
    assert.deepEqual(await whispered, { on: true });
    assert.match(echo.socketId(), /^\d+\.\d+$/);
    echo.leave('orders');
    await until(() => !pusher.channel('private-orders'));
  });

  it('logs where it is told to', async () => {
    const lines = [];
    Pusher.log = (message) => lines.push(message);
    try {
      await subscribe(client(), 'logged');
      assert.ok(lines.some((line) => /State changed/.test(line)));
      assert.ok(lines.some((line) => /Event recd/.test(line)));
    } finally {
      Pusher.log = undefined;
    }
  });
}
