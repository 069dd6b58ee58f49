import assert from 'node:assert/strict';
import { after, afterEach, test } from 'node:test';
import { connected, eventually, next, record, seconds, startServer, subscribe, wireFrames } from './harness.mjs';

const server = await startServer();
const sdk = server.sdk();
after(() => server.stop());
afterEach(() => server.disconnectClients());

const event = (fields) => JSON.stringify({ name: 'e', data: 'd', channels: ['refused'], ...fields });
const names = (count) => Array.from({ length: count }, (_, n) => `many-${n}`);

test('trigger answers 200 with an empty object', async () => {
  const response = await sdk.trigger('nobody-there', 'hello', {});
  assert.equal(response.status, 200);
  assert.deepEqual(await response.json(), {});
});

test('one trigger reaches all of its channels', async () => {
  const client = server.client();
  const channels = await Promise.all(['north', 'south'].map((name) => subscribe(client, name)));
  const received = channels.map((channel) => next(channel, 'hello'));
  await sdk.trigger(['north', 'south'], 'hello', { n: 1 });
  assert.deepEqual(await Promise.all(received), [{ n: 1 }, { n: 1 }]);
});

test('a hundred channels are accepted in one trigger', async () => {
  const channel = await subscribe(server.client(), 'many-99');
  const received = next(channel, 'hello');
  await sdk.trigger(names(100), 'hello', 'x');
  assert.equal(await received, 'x');
});

test('the socket id of a trigger is left out, on every channel, and nobody else is', async () => {
  const [sender, other] = [server.client(), server.client()];
  const own = await Promise.all(['left', 'right'].map((name) => subscribe(sender, name)));
  const others = await Promise.all(['left', 'right'].map((name) => subscribe(other, name)));
  const overheard = own.map(record);
  const received = others.map((channel) => next(channel, 'hello'));
  await sdk.trigger(['left', 'right'], 'hello', 'x', { socket_id: await connected(sender) });
  assert.deepEqual(await Promise.all(received), ['x', 'x']);
  const fences = own.map((channel) => next(channel, 'fence'));
  await sdk.trigger(['left', 'right'], 'fence', 'y', { socket_id: '1.1' });
  await Promise.all(fences);
  assert.deepEqual(overheard, [[['fence', 'y']], [['fence', 'y']]]);
});

test('info on a trigger counts users on presence channels and subscriptions on others', async () => {
  const users = ['ada', 'ada', 'bob'].map((user_id) => server.client({ user: { user_id } }));
  for (const client of users) await subscribe(client, 'presence-counted');
  await subscribe(users[0], 'counted');
  const params = { info: 'user_count,subscription_count' };
  const response = await sdk.trigger(['presence-counted', 'counted', 'empty'], 'hello', 'x', params);
  const { channels } = await response.json();
  assert.equal(channels['presence-counted'].user_count, 2);
  assert.equal(channels.counted.subscription_count, 1);
  assert.equal(channels.counted.user_count, undefined);
  assert.equal(channels.empty.user_count, undefined);
  assert.deepEqual(Object.keys(channels).sort(), ['counted', 'empty', 'presence-counted']);
});

test('a batch is delivered in its order', async () => {
  const client = server.client();
  const channel = await subscribe(client, 'batched');
  const seen = record(channel);
  const last = next(channel, 'event-9');
  const batch = Array.from({ length: 10 }, (_, n) => ({ channel: 'batched', name: `event-${n}`, data: { n } }));
  const response = await sdk.triggerBatch(batch);
  assert.deepEqual(await response.json(), {});
  await last;
  assert.deepEqual(seen, Array.from({ length: 10 }, (_, n) => [`event-${n}`, { n }]));
});

test('info on one item of a batch is answered at its place', async () => {
  await subscribe(server.client({ user: { user_id: 'ada' } }), 'presence-batched');
  const item = (channel) => ({ channel, name: 'hello', data: 'x' });
  const batch = [item('a'), { ...item('presence-batched'), info: 'user_count' }, item('b')];
  const response = await sdk.triggerBatch(batch);
  assert.deepEqual(await response.json(), { batch: [{}, { user_count: 1 }, {}] });
});

test('one bad item keeps a whole batch from being delivered', async () => {
  const channel = await subscribe(server.client(), 'all-or-nothing');
  const seen = record(channel);
  const good = { channel: 'all-or-nothing', name: 'good', data: 'x' };
  const body = JSON.stringify({ batch: [good, { ...good, channel: 'not a channel' }] });
  assert.equal((await server.signed('POST', '/batch_events', { body })).status, 400);
  const fence = next(channel, 'fence');
  await sdk.trigger('all-or-nothing', 'fence', 1);
  await fence;
  assert.deepEqual(seen, [['fence', 1]]);
});

test('a published string arrives byte for byte', async () => {
  const client = server.client();
  const channel = await subscribe(client, 'verbatim');
  const frames = wireFrames(client);
  const payloads = [
    'Zürich “quoted” \\ / \u2028\u2029 \u{1F389} 日本語 \u0000\u001f\u007f',
    '{ "b":1.0, "a":"\\u00e9", "b":1e3, "big":9007199254740993 }',
    ' "spaces around" ',
    '',
  ];
  for (const [n, payload] of payloads.entries()) {
    const received = next(channel, `event-${n}`);
    await sdk.trigger('verbatim', `event-${n}`, payload);
    await received;
  }
  assert.deepEqual(frames.map(({ data }) => data), payloads);
});

test('an event name with backslashes, dots and letters of any script arrives as it was sent', async () => {
  const name = 'App\\Events\\Größe.Ändern 🎉';
  const channel = await subscribe(server.client(), 'class-names');
  const received = next(channel, name);
  await sdk.trigger('class-names', name, 'x');
  assert.equal(await received, 'x');
});

test('a channel name of every allowed character can be joined, published to and read', async () => {
  const name = 'aZ0_-=@,.;';
  const channel = await subscribe(server.client(), name);
  const received = next(channel, 'hello');
  await sdk.trigger(name, 'hello', 'x');
  assert.equal(await received, 'x');
  const response = await sdk.get({ path: `/channels/${name}` });
  assert.equal((await response.json()).occupied, true);
});

test('the list of channels holds the occupied ones under the prefix asked for', async () => {
  const client = server.client();
  for (const name of ['list-a', 'list-b', 'other']) await subscribe(client, name);
  const list = async (params) => (await sdk.get({ path: '/channels', params })).json();
  assert.deepEqual(await list({ filter_by_prefix: 'list-' }), { channels: { 'list-a': {}, 'list-b': {} } });
  assert.deepEqual(await list({ filter_by_prefix: 'nothing-' }), { channels: {} });
  assert.ok('other' in (await list()).channels);
});

test('the list of presence channels counts distinct users', async () => {
  for (const user_id of ['ada', 'ada', 'bob']) {
    await subscribe(server.client({ user: { user_id } }), 'presence-list-x');
  }
  const params = { filter_by_prefix: 'presence-list-', info: 'user_count' };
  const response = await sdk.get({ path: '/channels', params });
  assert.deepEqual(await response.json(), { channels: { 'presence-list-x': { user_count: 2 } } });
});

test('a channel is occupied while somebody is on it', async () => {
  const client = server.client({ user: { user_id: 'ada' } });
  const occupied = async () => (await sdk.get({ path: '/channels/presence-state' })).json();
  assert.deepEqual(await occupied(), { occupied: false });
  await subscribe(client, 'presence-state');
  const watcher = await subscribe(server.client({ user: { user_id: 'bob' } }), 'presence-state');
  const counted = await sdk.get({ path: '/channels/presence-state', params: { info: 'user_count' } });
  assert.deepEqual(await counted.json(), { occupied: true, user_count: 2 });
  const gone = next(watcher, 'pusher:member_removed');
  client.disconnect();
  await gone;
  const after = await sdk.get({ path: '/channels/presence-state', params: { info: 'user_count' } });
  assert.deepEqual(await after.json(), { occupied: true, user_count: 1 });
});

test('the users of a presence channel are listed once each, by ids that are strings', async () => {
  for (const user_id of [10, '10', 'bob']) {
    await subscribe(server.client({ user: { user_id } }), 'presence-users');
  }
  const users = async (name) => (await (await sdk.get({ path: `/channels/${name}/users` })).json()).users;
  const ids = (await users('presence-users')).map(({ id }) => id);
  assert.deepEqual(ids.sort(), ['10', 'bob']);
  assert.deepEqual(await users('presence-nobody'), []);
});

test('npm pusher gets an error with status and text for a wrong secret, and nothing is delivered', async () => {
  const channel = await subscribe(server.client(), 'guarded');
  const seen = record(channel);
  await assert.rejects(server.sdk({ secret: 'wrong' }).trigger('guarded', 'hello', 'x'), (error) => {
    assert.equal(error.status, 401);
    assert.notEqual(error.body.trim(), '');
    return true;
  });
  const fence = next(channel, 'fence');
  await sdk.trigger('guarded', 'fence', 1);
  await fence;
  assert.deepEqual(seen, [['fence', 1]]);
});

test('the credentials of one app open no other, and equal channel names are apart', async () => {
  const other = await server.createApp({ id: '7654321', key: 'other-key', secret: 'other-secret' });
  const otherSdk = server.sdk({ app: other });
  await eventually(() => otherSdk.get({ path: '/channels' }));
  const channel = await subscribe(server.client(), 'apart');
  const seen = record(channel);
  await otherSdk.trigger('apart', 'hello', 'from the other app');
  const trespass = { body: event({ channels: ['apart'] }), app: { ...other, id: server.app.id } };
  assert.equal((await server.signed('POST', '/events', trespass)).status, 401);
  const fence = next(channel, 'fence');
  await sdk.trigger('apart', 'fence', 1);
  await fence;
  assert.deepEqual(seen, [['fence', 1]]);
});

const refusals = [
  ['a key nobody has', 401, 'POST', '/events', { body: event(), app: { ...server.app, key: 'nobody' } }],
  ['an altered body', 401, 'POST', '/events', { body: event(), alter: set('body_md5', '0'.repeat(32)) }],
  ['a timestamp 601 s old', 401, 'GET', '/channels', { alter: aged(-601) }],
  ['a timestamp 601 s ahead', 401, 'GET', '/channels', { alter: aged(601) }],
  ['a timestamp that is no number', 401, 'GET', '/channels', { alter: set('auth_timestamp', 'now') }],
  ['another version of signing', 401, 'GET', '/channels', { alter: set('auth_version', '2.0') }],
  ['an app nobody has', 404, 'GET', '/channels', { app: { ...server.app, id: '999' } }],
  ['an unknown path', 404, 'GET', '/nothing'],
  ['a wrong method', 405, 'DELETE', '/channels'],
  ['101 channels', 400, 'POST', '/events', { body: event({ channels: names(101) }) }],
  ['no channels', 400, 'POST', '/events', { body: event({ channels: [] }) }],
  ['a missing channel', 400, 'POST', '/events', { body: event({ channels: undefined }) }],
  ['a bad channel name', 400, 'POST', '/events', { body: event({ channels: ['not a channel'] }) }],
  ['a channel name of 201 characters', 400, 'POST', '/events', { body: event({ channels: ['c'.repeat(201)] }) }],
  ['a missing event name', 400, 'POST', '/events', { body: event({ name: undefined }) }],
  ['an event name that is a number', 400, 'POST', '/events', { body: event({ name: 1 }) }],
  ['an event name of 201 characters', 400, 'POST', '/events', { body: event({ name: 'e'.repeat(201) }) }],
  ['an event name that belongs to the server', 400, 'POST', '/events', { body: event({ name: 'pusher:x' }) }],
  ['missing data', 400, 'POST', '/events', { body: event({ data: undefined }) }],
  ['data of 10241 bytes', 413, 'POST', '/events', { body: event({ data: 'é'.repeat(5120) + 'x' }) }],
  ['a malformed socket id', 400, 'POST', '/events', { body: event({ socket_id: 'abc' }) }],
  ['a body that is no JSON', 400, 'POST', '/events', { body: '{"name":' }],
  ['a body that is no object', 400, 'POST', '/events', { body: '[]' }],
  ['a lone surrogate', 400, 'POST', '/events', { body: event().replace('"d"', '"\\ud800"') }],
  ['11 items in a batch', 400, 'POST', '/batch_events', { body: batchOf(11) }],
  ['an empty batch', 400, 'POST', '/batch_events', { body: batchOf(0) }],
  ['user counts of channels without members', 400, 'GET', '/channels', { params: { info: 'user_count' } }],
  ['the user count of a public channel', 400, 'GET', '/channels/public', { params: { info: 'user_count' } }],
  ['the users of a public channel', 400, 'GET', '/channels/public/users'],
];
for (const [what, status, method, path, options] of refusals) {
  test(`${what}: ${method} ${path} is refused with ${status} and a line of text`, async () => {
    const response = await server.signed(method, path, options);
    assert.equal(response.status, status, response.text);
    assert.match(response.type, /^text\/plain/);
    assert.match(response.text, /\S\n$/);
  });
}

test('what is just within the limits is accepted', async () => {
  const within = [
    ['POST', '/events', { body: event({ data: 'é'.repeat(5120) }) }],
    ['POST', '/events', { body: event({ name: 'e'.repeat(200) }) }],
    ['POST', '/events', { body: event({ socket_id: null }) }],
    ['POST', '/events', { body: event({ channels: undefined, channel: 'single' }) }],
    ['POST', '/batch_events', { body: batchOf(10) }],
    ['GET', '/channels', { alter: aged(-595) }],
    ['GET', '/channels', { alter: aged(595) }],
  ];
  for (const [method, path, options] of within) {
    const { status, text } = await server.signed(method, path, options);
    assert.equal(status, 200, `${method} ${path}: ${text}`);
  }
});

function set(name, value) {
  return (query) => ({ ...query, [name]: value });
}

function aged(by) {
  return (query) => ({ ...query, auth_timestamp: seconds() + by });
}

function batchOf(count) {
  return JSON.stringify({ batch: Array.from({ length: count }, () => ({ name: 'e', channel: 'c', data: 'd' })) });
}
