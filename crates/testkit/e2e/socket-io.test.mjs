// The unmodified Socket.IO client, with pusher-js and a backend on the same channels.
import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { Manager } from 'socket.io-client';
import { connected, eventually, next, record, startServer, subscribe } from './harness.mjs';
import { ask, join, nextEvent, nextEventOn, recordSocket, socketClient, socketConnected } from './socket-io.mjs';

const server = await startServer({
  settings: { client_event_channels: 'lobby,chat-*', 'socket_io.broadcast': 'lobby', 'limits.client_events_per_second': 0 },
  env: { FANFARE_SOCKET_IO_DEFAULT_APP_KEY: 'e2e-key' },
});
const sdk = server.sdk();
after(() => server.stop());
afterEach(() => server.disconnectClients());

const client = async (t, options) => socketConnected(socketClient(t, server, options));
const authorize = (socket, channel, user) => sdk.authorizeChannel(socket.id, channel, user);

/** Returns when all the sockets have what was sent to them before. */
async function fence(sockets, channel = 'fence') {
  await Promise.all(sockets.map((socket) => join(socket, channel)));
  const all = sockets.map((socket) => nextEvent(socket, 'fence'));
  await sdk.trigger(channel, 'fence', null);
  await Promise.all(all);
}

for (const [way, transports] of [['polling', ['polling']], ['a WebSocket', ['websocket']]]) {
  test(`a client over ${way} alone gets events with their data and channel`, async (t) => {
    const socket = await client(t, { transports });
    await join(socket, 'news');
    const got = nextEvent(socket, 'headline');
    await sdk.trigger('news', 'headline', { text: 'Zürich 🎉' });
    assert.deepEqual(await got, [{ text: 'Zürich 🎉' }, { channel: 'news' }]);
    assert.equal(socket.io.engine.transport.name, transports[0]);
  });
}

test('a client that upgrades from polling to a WebSocket gets each event once, in order', async (t) => {
  const socket = socketClient(t, server);
  const upgraded = new Promise((resolve) => socket.io.on('open', () => socket.io.engine.once('upgrade', resolve)));
  await socketConnected(socket);
  const joined = join(socket, 'busy');
  const seen = recordSocket(socket);
  await joined;
  let sent = 0;
  let last;
  const goOn = async () => {
    while (last === undefined || sent < last) await sdk.trigger('busy', 'tick', (sent += 1));
  };
  const publisher = goOn();
  await upgraded;
  last = sent + 10;
  await publisher;
  await eventually(() => assert.equal(seen.length, sent));
  assert.deepEqual(seen.map(([, n]) => n), Array.from({ length: sent }, (_, index) => index + 1));
  assert.equal(socket.io.engine.transport.name, 'websocket');
});

test('the app is named by the namespace, or by auth, or is the default', async (t) => {
  const ways = [{}, { namespace: '/', auth: { key: server.app.key } }, { namespace: '' }];
  const sockets = await Promise.all(ways.map((way) => client(t, way)));
  await Promise.all(sockets.map((socket) => join(socket, 'apps')));
  const all = sockets.map((socket) => nextEvent(socket, 'e'));
  await sdk.trigger('apps', 'e', 1);
  assert.deepEqual(await Promise.all(all), sockets.map(() => [1, { channel: 'apps' }]));
});

test('a backend leaves out the client whose socket id it names', async (t) => {
  const [one, other] = [await client(t), await client(t)];
  const seen = [one, other].map(recordSocket);
  await Promise.all([one, other].map((socket) => join(socket, 'others')));
  assert.match(one.id, /^\d+\.\d+$/);
  await sdk.trigger('others', 'e', 1, { socket_id: one.id });
  await fence([one, other]);
  assert.deepEqual(seen.map((events) => events.filter(([event]) => event === 'e').length), [0, 1]);
});

for (const transports of [['polling'], ['websocket']]) {
  test(`data of every kind arrives as it was published, over ${transports}`, async (t) => {
    const socket = await client(t, { transports });
    await join(socket, 'kinds');
    const seen = recordSocket(socket);
    const kinds = [0, '', null, false, [], [1, [2]], 'a\x1eb\u2028\0', '"', { _placeholder: true, num: 0 }, 'x'.repeat(10_000)];
    for (const data of kinds) await sdk.trigger('kinds', 'e', data);
    // What isn't JSON is a string.
    const { status } = await server.signed('POST', '/events', { body: JSON.stringify({ name: 'e', channel: 'kinds', data: 'one\ntwo' }) });
    assert.equal(status, 200);
    await eventually(() => assert.equal(seen.length, kinds.length + 1));
    assert.deepEqual(seen.map(([, data]) => data), [...kinds, 'one\ntwo']);
  });
}

test('a client joins private channels with what the auth endpoint answers, and gets nothing after it leaves', async (t) => {
  const socket = await client(t);
  const seen = recordSocket(socket);
  const succeeded = nextEventOn(socket, 'pusher:subscription_succeeded', 'private-a');
  assert.deepEqual(await ask(socket, 'join', 'private-a', authorize(socket, 'private-a').auth), { ok: true });
  await succeeded;
  assert.deepEqual(await ask(socket, 'join', 'private-b', authorize(socket, 'private-b')), { ok: true });
  for (const channel of ['private-a', 'private-b']) await sdk.trigger(channel, 'e', channel);
  await eventually(() => assert.equal(seen.length, 2));
  assert.deepEqual(await ask(socket, 'leave', 'private-a'), { ok: true });
  for (const channel of ['private-a', 'private-b']) await sdk.trigger(channel, 'e', channel);
  await eventually(() => assert.equal(seen.length, 3));
  assert.deepEqual(seen.map(([, data]) => data), ['private-a', 'private-b', 'private-b']);
});

test('members of a presence channel see each other, whichever client they have', async (t) => {
  const [ada, eve] = [await client(t), await client(t)];
  const bob = await subscribe(server.client({ user: { user_id: 'bob' } }), 'presence-room');
  const added = next(bob, 'pusher:member_added');
  const succeeded = nextEventOn(ada, 'pusher:subscription_succeeded', 'presence-room');
  await join(ada, 'presence-room', authorize(ada, 'presence-room', { user_id: 'ada', user_info: { name: 'Ada' } }));
  assert.deepEqual(await added, { id: 'ada', info: { name: 'Ada' } });
  const [{ presence }] = await succeeded;
  assert.deepEqual([presence.count, presence.ids.toSorted(), presence.hash.ada], [2, ['ada', 'bob'], { name: 'Ada' }]);

  const joined = nextEvent(ada, 'pusher:member_added');
  await join(eve, 'presence-room', authorize(eve, 'presence-room', { user_id: 'eve' }));
  const [member, where] = await joined;
  assert.deepEqual([member.user_id, where.channel], ['eve', 'presence-room']);
  const said = nextEvent(ada, 'wave');
  eve.emit('wave', { hand: 'left' }, { channel: 'presence-room' });
  assert.deepEqual(await said, [{ hand: 'left' }, { channel: 'presence-room', user_id: 'eve', client: true }]);

  const removed = [nextEvent(ada, 'pusher:member_removed'), next(bob, 'pusher:member_removed')];
  assert.deepEqual(await ask(eve, 'leave', 'presence-room'), { ok: true });
  assert.equal((await removed[0])[0].user_id, 'eve');
  assert.equal((await removed[1]).id, 'eve');
  const gone = next(bob, 'pusher:member_removed');
  ada.disconnect();
  assert.equal((await gone).id, 'ada');
});

test('what a client says to all reaches all, itself and pusher-js included', async (t) => {
  const sockets = [await client(t), await client(t, { transports: ['polling'] })];
  const seen = sockets.map(recordSocket);
  const channel = await subscribe(server.client(), 'lobby');
  const seenByPusher = record(channel);
  assert.deepEqual(await ask(sockets[0], 'chat message', 'Grüezi'), { ok: true });
  await eventually(() => assert.equal(seenByPusher.length, 1));
  sockets[1].emit('chat message', { text: 'from polling' });
  await eventually(() => assert.equal(seenByPusher.length, 2));
  channel.trigger('client-chat message', 'from pusher-js');
  await eventually(() => seen.forEach((events) => assert.equal(events.length, 3)));
  // Without data.
  sockets[0].emit('ping me');
  await eventually(() => seen.forEach((events) => assert.equal(events.length, 4)));
  const meta = { channel: 'lobby', client: true };
  for (const events of seen) {
    assert.deepEqual(events.slice(0, 3), [
      ['chat message', 'Grüezi', meta],
      ['chat message', { text: 'from polling' }, meta],
      ['chat message', 'from pusher-js', meta],
    ]);
    assert.equal(events[3][0], 'ping me');
    assert.deepEqual(events[3].at(-1), meta);
  }
  assert.deepEqual(seenByPusher.slice(0, 2), [['client-chat message', 'Grüezi'], ['client-chat message', { text: 'from polling' }]]);
});

test('what a client says on one channel reaches the others there, and not itself', async (t) => {
  const [one, other, stranger] = await Promise.all([1, 2, 3].map(() => client(t)));
  const channel = await subscribe(server.client(), 'private-room');
  const seenByPusher = record(channel);
  for (const socket of [one, other]) await join(socket, 'private-room', authorize(socket, 'private-room'));
  const seen = [one, other, stranger].map(recordSocket);
  assert.deepEqual(await ask(one, 'typing', { on: true }, { channel: 'private-room' }), { ok: true });
  await eventually(() => assert.deepEqual(seenByPusher, [['client-typing', { on: true }]]));
  channel.trigger('client-typing', { on: false });
  await fence([one, other, stranger]);
  const of = (events) => events.filter(([event]) => event === 'typing').map(([, data, meta]) => [data.on, meta]);
  const meta = { channel: 'private-room', client: true };
  assert.deepEqual(seen.map(of), [[[false, meta]], [[true, meta], [false, meta]], []]);
});

test('an app that is unknown is refused for good, with its code', async (t) => {
  for (const way of [{ namespace: '/nokey' }, { namespace: '/', auth: { key: 'nokey' } }]) {
    const socket = socketClient(t, server, way);
    const [error] = await nextEvent(socket, 'connect_error');
    assert.equal(error.data.code, 4001);
    assert.match(error.message, /Could not find an app with key "?nokey/);
    assert.equal(socket.active, false);
  }
});

test('a refusal is told to the ack, or to listeners where there is none, and the connection stays', async (t) => {
  const socket = await client(t);
  const { id } = socket;
  const wrong = `${server.app.key}:${'0'.repeat(64)}`;
  const cases = [
    [['join', 'private-a', wrong], /^Invalid signature/],
    [['join', 'private-a'], /auth/i],
    [['join', 'presence-a', authorize(socket, 'private-a')], /./],
    [['join'], /./],
    [['join', 7], /./],
    [['join', 'a b'], /./],
    [['join', 'a', null, 'b'], /./],
    [['leave'], /./],
    [['say', 1, { channel: 'private-never-joined' }], /./],
    [['say', 1, { channel: 'news' }], /./],
    [['say', 1, { channel: 7 }], /./],
    [['say', 1, 'news'], /./],
    [['say', 1, 2, 3], /one value/],
    [['say', 1, { channel: 'lobby' }, 3], /one value/],
    [['say', Buffer.from('binary')], /[Bb]inary/],
    [['say', { deep: [new Uint8Array(3)] }, { channel: 'lobby' }], /[Bb]inary/],
    [['join', Buffer.from('binary')], /[Bb]inary/],
    [['pusher:subscription_succeeded', {}], /./],
    [['x'.repeat(500), 1], /./],
    [['say', 'x'.repeat(20_000)], /exceeds/],
  ];
  for (const [all, message] of cases) {
    const answer = await ask(socket, ...all);
    assert.equal(answer.ok, false, JSON.stringify(all));
    assert.deepEqual(Object.keys(answer).toSorted(), ['error', 'ok']);
    assert.deepEqual(Object.keys(answer.error).toSorted(), ['code', 'message']);
    assert.match(answer.error.message, message, JSON.stringify(all));
    const told = nextEvent(socket, 'pusher:error');
    socket.emit(...all);
    const [error] = await told;
    assert.deepEqual(error, answer.error, JSON.stringify(all));
  }
  const told = nextEventOn(socket, 'pusher:subscription_error', 'private-a');
  socket.emit('join', 'private-a', wrong);
  const [error] = await told;
  assert.equal(typeof error.error, 'string');
  await fence([socket]);
  assert.equal(socket.id, id);
});

test('events whose names Socket.IO reserves cut nobody off', async (t) => {
  const sockets = [await client(t, { transports: ['polling'] }), await client(t, { transports: ['websocket'] })];
  await Promise.all(sockets.map((socket) => join(socket, 'names')));
  const reasons = [];
  sockets.forEach((socket) => socket.on('disconnect', (reason) => reasons.push(reason)));
  const channel = await subscribe(server.client(), 'lobby');
  const seenByPusher = record(channel);
  const names = ['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener'];
  for (const name of names) {
    await sdk.trigger('names', name, 1);
    channel.trigger(`client-${name}`, 1);
  }
  await fence(sockets);
  assert.deepEqual(reasons, []);
  assert.deepEqual(seenByPusher, []);
});

test('nobody but the server tells clients what the protocol says', async (t) => {
  const socket = await client(t);
  const forged = [];
  socket.onAny((event, data, meta) => meta?.client && forged.push(event));
  const channel = await subscribe(server.client(), 'lobby');
  for (const name of ['pusher:error', 'pusher:member_added', 'pusher_internal:subscription_succeeded']) channel.trigger(`client-${name}`, {});
  const last = nextEvent(socket, 'last');
  channel.trigger('client-last', {});
  await last;
  assert.deepEqual(forged.filter((event) => event.startsWith('pusher')), []);
});

test('namespaces of one connection are clients of their own', async (t) => {
  const app = await server.createApp({ id: '7654321', key: 'other-key', secret: 'other-secret' });
  await eventually(() => client(t, { key: app.key }));
  const manager = new Manager(server.url);
  const [first, second] = [manager.socket(`/${server.app.key}`), manager.socket(`/${app.key}`)];
  t.after(() => [first, second].forEach((socket) => socket.disconnect()));
  await Promise.all([first, second].map(socketConnected));
  assert.notEqual(first.id, second.id);
  await Promise.all([first, second].map((socket) => join(socket, 'same-name')));
  const seen = [first, second].map(recordSocket);
  await sdk.trigger('same-name', 'e', 'first');
  await server.sdk({ app }).trigger('same-name', 'e', 'second');
  await eventually(() => assert.deepEqual(seen.map((events) => events.map(([, data]) => data)), [['first'], ['second']]));
  first.disconnect();
  await server.sdk({ app }).trigger('same-name', 'e', 'still there');
  await eventually(() => assert.equal(seen[1].length, 2));
  // It may come back beside the other.
  first.connect();
  await socketConnected(first);
  await join(first, 'same-name');
  await sdk.trigger('same-name', 'e', 'back');
  await eventually(() => assert.equal(seen[0].at(-1)[1], 'back'));
  const refused = manager.socket('/nokey');
  const [error] = await nextEvent(refused, 'connect_error');
  assert.equal(error.data.code, 4001);
  assert.deepEqual([first.connected, second.connected], [true, true]);
});

test('clients of an app that is disabled are told, and stay away', async (t) => {
  const app = await server.createApp({ id: '111', key: 'short-lived', secret: 'secret' });
  const socket = await eventually(() => client(t, { key: app.key }));
  const gone = nextEvent(socket, 'disconnect');
  await server.cli('app', 'update', app.id, '--setting', 'enabled=false');
  assert.equal((await gone)[0], 'io server disconnect');
  assert.equal(socket.active, false);
  socket.connect();
  const [error] = await nextEvent(socket, 'connect_error');
  assert.equal(error.data.code, 4003);
});

test('clients come back by themselves after the server was restarted', async (t) => {
  const node = await startServer();
  t.after(() => node.stop());
  const sockets = ['polling', 'websocket'].map((transport) => socketClient(t, node, { transports: [transport] }));
  await Promise.all(sockets.map(socketConnected));
  const gone = sockets.map((socket) => nextEvent(socket, 'disconnect'));
  const back = sockets.map((socket) => nextEvent(socket, 'connect'));
  assert.equal((await node.end()).code, 0);
  for (const [reason] of await Promise.all(gone)) assert.match(reason, /^transport (close|error)$/);
  await node.start();
  await Promise.all(back);
  await Promise.all(sockets.map((socket) => join(socket, 'news')));
  const all = sockets.map((socket) => nextEvent(socket, 'e'));
  await node.sdk().trigger('news', 'e', 1);
  assert.deepEqual(await Promise.all(all), sockets.map(() => [1, { channel: 'news' }]));
});

test('a member whose connection ends leaves its presence channels', async (t) => {
  const bob = server.client({ user: { user_id: 'bob' } });
  await connected(bob);
  const room = await subscribe(bob, 'presence-ends');
  for (const transports of [['polling'], ['websocket']]) {
    const added = next(room, 'pusher:member_added');
    const socket = await client(t, { transports });
    await join(socket, 'presence-ends', authorize(socket, 'presence-ends', { user_id: 'ada' }));
    await added;
    const removed = next(room, 'pusher:member_removed');
    socket.disconnect();
    assert.equal((await removed).id, 'ada');
  }
});

test('a client over polling alone gets a burst of events in order, and what it says meanwhile arrives in order', async (t) => {
  const [talker, listener] = await Promise.all([1, 2].map(() => client(t, { transports: ['polling'] })));
  await join(listener, 'burst');
  const seen = recordSocket(listener);
  const numbers = Array.from({ length: 60 }, (_, index) => index);
  const said = numbers.map((n) => ask(talker, 'said', n));
  for (const n of numbers) await sdk.trigger('burst', 'tick', n);
  const answers = await Promise.all(said);
  assert.deepEqual(answers.filter(({ ok }) => !ok), []);
  const of = (name) => seen.filter(([event]) => event === name).map(([, n]) => n);
  await eventually(() => assert.deepEqual([of('tick'), of('said')], [numbers, numbers]));
});

test('what a client says while it upgrades arrives in order', async (t) => {
  const listener = await client(t, { transports: ['websocket'] });
  const seen = recordSocket(listener);
  const talker = socketClient(t, server);
  const upgraded = new Promise((resolve) => talker.io.on('open', () => talker.io.engine.once('upgrade', resolve)));
  await socketConnected(talker);
  let sent = 0;
  let done = false;
  upgraded.then(() => (done = true));
  while (!done) {
    talker.emit('said', (sent += 1));
    await new Promise((resolve) => setImmediate(resolve));
    if (sent % 20 === 0) await ask(talker, 'leave', 'nothing').catch(() => {});
  }
  talker.emit('said', (sent += 1));
  await eventually(() => assert.equal(seen.at(-1)?.[1], sent));
  assert.deepEqual(seen.map(([, n]) => n), Array.from({ length: sent }, (_, index) => index + 1));
});

test('a client that says too much is told which of it was dropped', async (t) => {
  const app = await server.createApp({ id: '222', key: 'few-events', secret: 'secret' });
  const settings = ['client_event_channels=lobby', 'socket_io.broadcast=lobby', 'limits.client_events_per_second=2'];
  await server.cli('app', 'update', app.id, ...settings.flatMap((setting) => ['--setting', setting]));
  await eventually(async () => {
    const socket = await client(t, { key: app.key });
    const answers = await Promise.all(Array.from({ length: 10 }, (_, n) => ask(socket, 'said', n)));
    const dropped = answers.filter(({ ok }) => !ok);
    assert.ok(dropped.length > 0 && dropped.length < 10, JSON.stringify(answers));
    for (const { error } of dropped) assert.equal(error.code, 4301, JSON.stringify(error));
    assert.equal(socket.connected, true);
  });
});

test('the path has the prefix of the server', async (t) => {
  const node = await startServer({ env: { FANFARE_PATH_PREFIX: '/realtime' } });
  t.after(() => node.stop());
  const socket = await socketConnected(socketClient(t, node, { path: '/realtime/socket.io/' }));
  assert.deepEqual(await ask(socket, 'join', 'news'), { ok: true });
  const { status } = await fetch(`${node.url}/socket.io/?EIO=4&transport=polling`);
  assert.equal(status, 404);
});
