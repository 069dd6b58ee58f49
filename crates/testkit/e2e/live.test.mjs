// Live events of an app: what a console shows, to whom, and what a flood or a slow reader costs.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, afterEach, before, test } from 'node:test';
import { promisify } from 'node:util';
import { binary, startServer, subscribe } from './harness.mjs';
import { startReceiver } from './webhook-receiver.mjs';
import { until } from './cluster/until.mjs';
import { watch } from './live.mjs';

const PASSWORD = 'a-long-password';
const run = promisify(execFile);

let server;
let admin;
let viewer;
const open = new Set();

before(async () => {
  server = await startServer({
    env: { FANFARE_OWNER_PASSWORD: PASSWORD, FANFARE_WEBHOOKS_ALLOW_INNER_ADDRESSES: 'true' },
  });
  const owner = await signIn('owner');
  await call(owner.access_token, 'POST', '/operators', { name: 'vera', password: PASSWORD, role: 'viewer', apps: null });
  admin = owner.access_token;
  viewer = (await signIn('vera')).access_token;
});
afterEach(() => {
  for (const console of open) console.close();
  open.clear();
  server.disconnectClients();
});
after(() => server?.stop());

async function call(token, method, path, body) {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const answer = await fetch(`${server.url}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  return { status: answer.status, ...(text && JSON.parse(text)) };
}

const signIn = (name) => call('', 'POST', '/sessions', { name, password: PASSWORD });

async function watching(query = {}, token = admin) {
  const console = watch(server, token, query);
  open.add(console);
  const { statusCode } = await console.opened;
  assert.equal(statusCode, 200);
  await until('a console greets', () => console.hello());
  return console;
}

/** The parts of a line that are the same in every run. */
const shape = ({ id, time_ms, node, ...line }) => line;

test('a console shows a client that comes, subscribes, sends and goes, and what a backend publishes', async () => {
  const console = await watching({ recent: 0 });
  assert.deepEqual(console.hello(), { payloads: true, payloads_hidden_because: null, nodes: 1 });
  const client = server.client({ user: { user_id: 'ada' } });
  const room = await subscribe(client, 'presence-room');
  const { socket_id } = client.connection;
  room.trigger('client-typing', { in: 'field' });
  await until('the client event is shown', () => console.lines('client_event').length);
  await server.sdk().trigger('presence-room', 'said', { text: 'hello' });
  await until('the publish is shown', () => console.lines('publish').length);
  client.disconnect();
  await until('the client has gone', () => console.lines('unsubscribed').length);
  const channel = 'presence-room';
  const [connected, ...rest] = console.lines().map(shape);
  const { client: library, ...rest_of_it } = connected;
  assert.deepEqual(rest_of_it, { kind: 'connected', socket_id, key: server.app.key, transport: 'websocket', address: '127.0.0.1' });
  assert.match(library, /^js \d+\.\d+/);
  const expected = [
    { kind: 'occupied', channel },
    { kind: 'member_added', channel, user_id: 'ada' },
    { kind: 'subscribed', channel, socket_id, user_id: 'ada', subscribers: 1 },
    { kind: 'client_event', channel, event: 'client-typing', data: '{"in":"field"}', data_bytes: 14, socket_id, user_id: 'ada', subscribers: 1 },
    { kind: 'publish', channel, event: 'said', data: '{"text":"hello"}', data_bytes: 16, subscribers: 1 },
    { kind: 'disconnected', socket_id },
    { kind: 'vacated', channel },
    { kind: 'member_removed', channel, user_id: 'ada' },
    { kind: 'unsubscribed', channel, socket_id, reason: 'the connection has ended' },
  ];
  assert.deepEqual(rest, expected);
  const ids = console.lines().map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
  assert.ok(console.lines().every(({ time_ms, node }) => Math.abs(Date.now() - time_ms) < 60_000 && node));
});

test('filters are the server\'s, and what is wrong with one is said', async () => {
  const console = await watching({ recent: 0, kinds: 'publish,refused', channel: 'room-*', text: 'lamp' });
  const sdk = server.sdk();
  await sdk.trigger('room-1', 'said', 'a chair');
  await sdk.trigger('hall', 'said', 'a lamp');
  await sdk.trigger('room-2', 'said', 'a lamp');
  await until('the one that matches is shown', () => console.lines().length);
  assert.deepEqual(console.lines().map(({ channel, data }) => [channel, data]), [['room-2', 'a lamp']]);
  for (const [query, words] of [
    ['kinds=publish,other', 'there is no kind "other"'],
    ['rate=0', 'rate must be 1 to 200'],
    ['recent=1001', 'recent must be 0 to 1000'],
    ['channel=a%20b', 'no channel matches'],
    ['socket_id=12', 'like 123.456'],
  ]) {
    const refused = await call(admin, 'GET', `/apps/${server.app.id}/events/live?${query}`);
    assert.equal(refused.status, 400);
    assert.match(refused.detail, new RegExp(words));
  }
});

test('a wrong signature is found in the console, also by whoever opens it afterwards', async () => {
  await assert.rejects(server.sdk({ secret: 'wrong' }).trigger('news', 'said', {}));
  const console = await watching({ kinds: 'refused' });
  await until('the refusal was kept', () => console.lines().some(({ refusal }) => refusal === 'api_signature'));
  const { reason } = console.lines().find(({ refusal }) => refusal === 'api_signature');
  assert.match(reason, /signature/i);
  assert.ok(!reason.includes(server.app.secret));
});

test('a client and a backend with a revoked key are told when it was revoked, and the console says who came', async () => {
  const path = `/apps/${server.app.id}/keys`;
  const { key, secret } = await call(admin, 'POST', path, { label: 'former' });
  await call(admin, 'DELETE', `${path}/${key}`);
  const words = new RegExp(`App key ${key} is no longer active: it was revoked at \\d{4}-\\d\\d-\\d\\dT[\\d:]+Z`);
  const errors = [];
  const client = server.client({ key });
  client.connection.bind('error', ({ error }) => errors.push(error.data));
  await until('the client is told', () => errors.length);
  assert.equal(errors[0].code, 4001);
  assert.match(errors[0].message, words);
  await until('the client stays away', () => client.connection.state === 'disconnected');
  const refused = await server.sdk({ key, secret }).get({ path: '/channels' }).catch((error) => error);
  assert.equal(refused.status, 401);
  assert.match(refused.body, words);
  const console = await watching({ kinds: 'refused' });
  const lines = () => console.lines().filter((line) => line.key === key);
  await until('both were kept', () => lines().length === 2);
  assert.deepEqual(lines().map(({ refusal }) => refusal), ['unknown_key', 'api_key']);
  assert.ok(lines().every(({ reason }) => words.test(reason)), JSON.stringify(lines()));
});

test('a viewer sees names and sizes, no data, and cannot search it either', async () => {
  const console = await watching({ recent: 0 }, viewer);
  assert.equal(console.hello().payloads, false);
  assert.match(console.hello().payloads_hidden_because, /your role is viewer/);
  const searching = await watching({ recent: 0, text: 'a secret' }, viewer);
  await server.sdk().trigger('news', 'said', { text: 'a secret' });
  await until('the publish is shown', () => console.lines('publish').length);
  const [line] = console.lines('publish');
  assert.equal(line.data, undefined);
  assert.equal(line.data_bytes, 19);
  // Its user's data stands in the text that a wrong signature was to sign.
  await subscribeWrongly();
  await until('the refusal is shown', () => console.lines('refused').length);
  const { reason } = console.lines('refused')[0];
  assert.match(reason, /of "…" with the secret/);
  assert.ok(!reason.includes('private detail'));
  assert.deepEqual(searching.lines(), []);
  const audit = await call(admin, 'GET', `/audit?action=console.open&app_id=${server.app.id}`);
  // Vera's two openings are one entry, and the owner's are others.
  const ofVera = audit.items.filter(({ actor }) => actor.name === 'vera');
  assert.deepEqual(ofVera.map(({ details }) => details.payloads), [false]);
});

/** Subscribes to a presence channel with a wrong signature. */
async function subscribeWrongly() {
  const sdk = server.sdk({ secret: 'wrong' });
  const client = server.client({ sdk, user: { user_id: 'ada', user_info: { note: 'private detail' } } });
  await assert.rejects(subscribe(client, 'presence-room'));
}

test('lines and counts add up to all that was published, however fast', async () => {
  const [all, some] = [await watching({ recent: 0, kinds: 'publish' }), await watching({ recent: 0, kinds: 'publish', channel: 'flood-1', rate: 10 })];
  const total = 20_000;
  const began = Date.now();
  await flood(total);
  const took = Date.now() - began;
  await until('everything is accounted for', () => all.lines().length + all.more() === total && some.lines().length + some.more() === total / 2);
  // A second's lines at once, and the rate after that.
  const most = (rate) => rate * (2 + took / 1000);
  assert.ok(all.lines().length <= most(50) && some.lines().length <= most(10), `${all.lines().length} ${some.lines().length} lines in ${took} ms`);
  assert.ok(all.lines().length >= 50 && some.lines().length >= 10);
});

/** Publishes so many events, in batches of ten, half of them on `flood-1`. */
async function flood(total, data = 'x') {
  const sdk = server.sdk();
  const batch = Array.from({ length: 10 }, (_, index) => ({ channel: `flood-${index % 2}`, name: 'said', data }));
  let left = total / batch.length;
  const publish = async () => {
    while (left > 0) {
      left -= 1;
      await sdk.triggerBatch(batch);
    }
  };
  await Promise.all(Array.from({ length: 8 }, publish));
}

test('a console that does not read holds nobody up, and gets the count of what it missed', async () => {
  const slow = await watching({ recent: 0, kinds: 'publish', rate: 200 });
  await slow.pause();
  const total = 5000;
  await flood(total, 'x'.repeat(8000));
  const quick = await watching({ recent: 0, kinds: 'publish' });
  await server.sdk().trigger('news', 'said', 'after');
  await until('others are served', () => quick.lines().length);
  await slow.resume();
  await until('everything is accounted for', () => slow.lines().length + slow.more() >= total + 1);
  assert.equal(slow.lines().length + slow.more(), total + 1);
  assert.ok(slow.more() > total / 2);
});

test('a console ends with its session', async () => {
  const session = await signIn('vera');
  const console = await watching({}, session.access_token);
  const ended = await call(session.access_token, 'DELETE', '/sessions/current');
  assert.equal(ended.status, 204);
  await console.ended;
  assert.match(console.end().reason, /the session has ended/);
});

test('a console ends with its app', async () => {
  const other = await call(admin, 'POST', '/apps', { name: 'Another' });
  const console = watch(server, admin, {}, { app: other.id });
  open.add(console);
  await until('a console greets', () => console.hello());
  await call(admin, 'DELETE', `/apps/${other.id}?confirm=Another`);
  await console.ended;
  assert.match(console.end().reason, /was deleted/);
});

test('an app has at most a hundred viewers, twenty of them of one operator', async () => {
  const consoles = [];
  const refused = async (token, words) => {
    const { status, detail } = await call(token, 'GET', `/apps/${server.app.id}/events/live`);
    assert.equal(status, 429);
    assert.match(detail, words);
  };
  for (const name of ['ada', 'bea', 'cleo', 'dora', 'eve']) {
    await call(admin, 'POST', '/operators', { name, password: PASSWORD, role: 'viewer', apps: null });
    const { access_token } = await signIn(name);
    for (let count = 0; count < 20; count += 1) consoles.push(await watching({ recent: 0 }, access_token));
    if (name === 'ada') await refused(access_token, /you watch this app 20 times/);
  }
  await refused(admin, /100 viewers watch this app/);
  consoles[0].close();
  await until('there is room again', async () => {
    const again = await fetch(`${server.url}/api/v1/apps/${server.app.id}/events/live?follow=false`, { headers: { authorization: `Bearer ${admin}` } });
    return again.status === 200;
  });
});

test('webhooks are shown with their results', async () => {
  const receiver = await startReceiver({ app: server.app, answer: () => 500 });
  const webhooks = `/apps/${server.app.id}/webhooks`;
  const created = await call(admin, 'POST', webhooks, { name: 'shown', url: receiver.url, events: ['channel_occupied'] });
  const console = await watching({ recent: 0, kinds: 'webhook' });
  const client = server.client();
  await subscribe(client, 'orders');
  await until('an attempt is shown', () => console.lines().length);
  const [{ channel, webhook_id, status, took_ms, reason, delivery, event }] = console.lines();
  assert.deepEqual({ channel, webhook_id, status, delivery }, { channel: 'orders', webhook_id: created.id, status: 500, delivery: 1 });
  assert.ok(took_ms >= 0 && reason, JSON.stringify(console.lines()[0]));
  assert.equal(event, 'channel_occupied');
  await call(admin, 'DELETE', `${webhooks}/${created.id}`);
  await receiver.stop();
});

test('fanfare tail prints lines for people and for programs', async () => {
  const made = await call(admin, 'POST', '/tokens', { name: 'tail', role: 'admin' });
  const flags = ['tail', '--server', server.url, '--app', server.app.id];
  const env = { ...process.env, FANFARE_TOKEN: made.secret };
  const child = spawn(binary(), [...flags, '--kinds', 'publish', '--channel', 'tailed', '--recent', '0', '--json'], { env });
  let [printed, said] = ['', ''];
  child.stderr.on('data', (part) => (said += part));
  child.stdout.on('data', (part) => (printed += part));
  await until('a line is printed', async () => {
    await server.sdk().trigger('tailed', 'said', 'a line');
    return printed.includes('\n');
  }, { explain: () => said }).catch((error) => {
    child.kill('SIGKILL');
    throw error;
  });
  const [line] = printed.split('\n');
  const { kind, channel, data } = JSON.parse(line);
  assert.deepEqual({ kind, channel, data }, { kind: 'publish', channel: 'tailed', data: 'a line' });
  child.kill('SIGINT');
  const [code] = await once(child, 'exit');
  assert.equal(code, 0);
  const { stdout } = await run(binary(), [...flags, '--kinds', 'publish', '--channel', 'tailed', '--no-follow'], { env });
  assert.match(stdout, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ {2}publish {9}tailed {2}said {2}subscribers=0 {2}data_bytes=6 {2}a line\n/);
});

test('a server that stops ends its consoles', async () => {
  const console = await watching();
  await server.end();
  await console.ended;
  assert.match(console.end().reason, /this node is stopping/);
});
