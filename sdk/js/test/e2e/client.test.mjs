// The client in Node, on a real server.
import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { after, afterEach, test } from 'node:test';
import WebSocket from 'ws';
import { freePort, seconds, startAuthEndpoint, startHttp, startServer } from '../../../../crates/testkit/e2e/harness.mjs';
import { encryption } from '../../dist/es/encrypted.js';
import { Fanfare } from '../../dist/es/index.js';
import { until } from '../support/wait.mjs';

const SECRET = 'a secret that is shared with the identity provider';
const PASSWORD = 'a-long-password';
const encryptionMasterKeyBase64 = randomBytes(32).toString('base64');
const server = await startServer({
  settings: { watchlists: true, subscription_count: true },
  env: { FANFARE_OWNER_PASSWORD: PASSWORD },
});
const sdk = server.sdk({ encryptionMasterKeyBase64 });
const clients = new Set();

after(() => server.stop());
afterEach(() => {
  clients.forEach((client) => client.disconnect());
  clients.clear();
});

function client({ user = 'ada', ...options } = {}) {
  const member = { user_id: user, user_info: { name: user } };
  const made = new Fanfare(server.app.key, {
    url: server.url,
    WebSocket,
    encryption,
    auth: {
      channel: ({ socketId, channelName }) =>
        sdk.authorizeChannel(socketId, channelName, channelName.startsWith('presence-') ? member : undefined),
      user: ({ socketId }) => sdk.authenticateUser(socketId, { id: user, watchlist: ['bob'] }),
    },
    ...options,
  });
  made.on('error', () => {});
  clients.add(made);
  return made;
}

async function joined(made, name) {
  const channel = made.channel(name);
  await channel.ready();
  return channel;
}

const nextEvent = async (channel) => (await channel.events().next()).value;
const told = (emitter, name) => new Promise((resolve) => emitter.on(name, resolve, { once: true }));

for (const transport of ['websocket', 'streaming', 'polling']) {
  const over = (options) => client({ transports: [transport], ...options });

  test(`${transport}: a channel of each kind gets what is published`, async () => {
    const made = over();
    const names = ['news', 'private-news', 'presence-news', 'cache-news', 'private-encrypted-news'];
    for (const name of names) {
      const heard = nextEvent(await joined(made, name));
      await sdk.trigger(name, 'headline', { text: 'Zürich 漢 🎉\n"quoted"' });
      assert.deepEqual(await heard, { event: 'headline', data: { text: 'Zürich 漢 🎉\n"quoted"' } });
    }
    assert.equal(made.transport, transport);
    assert.match(made.socketId, /^\d+\.\d+$/);
  });

  test(`${transport}: client events go both ways, in order`, async () => {
    const [here, there] = [
      await joined(over(), 'presence-chat'),
      await joined(client({ user: 'bob' }), 'presence-chat'),
    ];
    const events = there.events();
    for (let n = 0; n < 8; n += 1) assert.equal(here.trigger('client-n', n), true);
    for (let n = 0; n < 8; n += 1) {
      assert.deepEqual((await events.next()).value, { event: 'client-n', data: n, userId: 'ada' });
    }
    const back = nextEvent(here);
    there.trigger('client-back', { text: 'Zürich 🎉' });
    assert.deepEqual(await back, { event: 'client-back', data: { text: 'Zürich 🎉' }, userId: 'bob' });
  });

  test(`${transport}: of a megabyte of events none is lost, doubled or out of order`, async () => {
    const made = over();
    const events = (await joined(made, 'flood')).events();
    const rest = 'Zürich 漢🎉 '.repeat(300);
    const total = 200;
    for (let n = 0; n < total; n += 10) {
      const batch = Array.from({ length: 10 }, (_, k) => ({
        channel: 'flood',
        name: 'part',
        data: { n: n + k, rest },
      }));
      await sdk.triggerBatch(batch);
    }
    for (let n = 0; n < total; n += 1) assert.deepEqual((await events.next()).value.data, { n, rest });
    assert.equal(made.state, 'connected');
  });

  test(`${transport}: an unknown key is told, and nothing is tried again`, async () => {
    const made = new Fanfare('no-such-key', { url: server.url, WebSocket, transports: [transport] });
    clients.add(made);
    await assert.rejects(made.channel('news').ready(), { code: 'connection_refused', closeCode: 4001 });
    assert.equal(made.state, 'disconnected');
  });

  test(`${transport}: a server that restarts is found again`, async () => {
    const made = over();
    const channel = await joined(made, 'private-restart');
    const gap = told(channel, 'gap');
    await server.end();
    await server.start();
    assert.equal(typeof (await gap).reason, 'string');
    const heard = nextEvent(channel);
    await sdk.trigger('private-restart', 'e', 1);
    assert.deepEqual(await heard, { event: 'e', data: 1 });
  });

  test(`${transport}: who leaves without a word is announced as gone`, async () => {
    const watcher = await joined(client({ user: 'bob' }), 'presence-door');
    const joins = told(watcher, 'join');
    const made = over();
    await joined(made, 'presence-door');
    assert.deepEqual(await joins, { id: 'ada', info: { name: 'ada' } });
    const leaves = told(watcher, 'leave');
    made.disconnect();
    assert.equal((await leaves).id, 'ada');
  });

  test(`${transport}: who signs in gets what is sent to them, and hears of the watchlist`, async () => {
    const made = over();
    assert.equal((await made.signin()).id, 'ada');
    const online = told(made.user, 'online');
    await client({ user: 'bob' }).signin();
    assert.deepEqual(await online, ['bob']);
    const heard = new Promise((resolve) => made.user.bind('hello', resolve));
    await sdk.sendToUser('ada', 'hello', { to: 'ada' });
    assert.deepEqual(await heard, { to: 'ada' });
  });

  test(`${transport}: a sign-in that the server refuses rejects at once with its words`, async () => {
    const forge = () => ({ auth: `${server.app.key}:${'0'.repeat(64)}`, user_data: '{"id":"ada"}' });
    const made = over({ auth: { user: forge } });
    await assert.rejects(made.signin(), { code: 'signin_refused', message: /Invalid signature/ });
  });

  test(`${transport}: a subscription that the server refuses rejects with its words`, async () => {
    const forge = () => ({ auth: `${server.app.key}:${'0'.repeat(64)}` });
    const made = over({ auth: { channel: forge } });
    const refusal = { code: 'subscription_refused', status: 401, message: /Invalid signature/ };
    await assert.rejects(made.channel('private-a').ready(), refusal);
  });
}

test('without a WebSocket class, Node takes the HTTP transports by itself', async () => {
  const native = globalThis.WebSocket;
  delete globalThis.WebSocket;
  try {
    const made = client({ WebSocket: undefined });
    await joined(made, 'news');
    assert.equal(made.transport, 'streaming');
  } finally {
    if (native) globalThis.WebSocket = native;
  }
});

test('an address where no server of this kind answers is in the error, with what Node says and what to check', async (t) => {
  const site = await startHttp((_, response) => response.writeHead(404).end());
  t.after(() => site.stop());
  const problem = async (options) => {
    const made = new Fanfare(server.app.key, { WebSocket, ...options });
    clients.add(made);
    made.connect();
    const { message } = await told(made, 'error');
    made.disconnect();
    return message;
  };
  const free = `http://127.0.0.1:${await freePort()}`;
  const tls = server.url.replace('http:', 'https:');
  for (const transports of [['websocket'], ['streaming'], ['polling'], undefined]) {
    assert.match(await problem({ url: free, transports }), new RegExp(`^No connection to ${free}, .*ECONNREFUSED.*Check host and port`));
    assert.match(await problem({ url: tls, transports }), new RegExp(`^No connection to ${tls}, [^]*without TLS needs http://$`));
    assert.match(await problem({ url: site.url, transports }), new RegExp(`^No connection to ${site.url}, .*404.*Check host and port`));
  }
});

test('an auth endpoint that refuses later, and lets in again, is heard of each time', async (t) => {
  let session = { user_id: 'ada' };
  const endpoint = await startAuthEndpoint(server, () => session);
  t.after(() => endpoint.stop());
  const made = client({ auth: { endpoint: endpoint.url } });
  const channel = await joined(made, 'private-orders');
  session = undefined;
  const refused = told(channel, 'error');
  await server.end();
  await server.start();
  assert.equal((await refused).status, 403);
  assert.equal(channel.state, 'failed');
  session = { user_id: 'ada' };
  channel.subscribe();
  await channel.ready();
});

test("the app's own tokens open channels and sign in, and one that has expired is renewed", async () => {
  await setIdentity();
  const asked = [];
  const token = ({ expired }) => {
    asked.push(expired);
    return jwt({ sub: 'ada', exp: seconds() + (asked.length === 1 ? -3600 : 60) });
  };
  const made = client({ auth: { token } });
  await joined(made, 'private-user-ada');
  assert.deepEqual(asked, [false, true]);
  await assert.rejects(made.channel('private-user-bob').ready(), { code: 'auth_failed', status: 403 });
  assert.equal((await made.signin()).id, 'ada');
});

test('a fixed token that has expired is refused with its reason', async () => {
  await setIdentity();
  const made = client({ auth: { token: jwt({ sub: 'ada', exp: seconds() - 3600 }) } });
  await assert.rejects(made.channel('private-user-ada').ready(), { code: 'auth_failed', status: 401 });
});

test('counts of subscriptions and empty caches are told', async () => {
  const channel = client().channel('cache-counted');
  const [miss, count] = [told(channel, 'cacheMiss'), told(channel, 'count')];
  await miss;
  assert.equal(await count, 1);
});

test('the CommonJS build is the same client', async () => {
  const require = createRequire(import.meta.url);
  const cjs = require('../../dist/cjs/index.js');
  const made = new cjs.Fanfare(server.app.key, { url: server.url, WebSocket });
  clients.add(made);
  await joined(made, 'news');
  const Pusher = require('../../dist/cjs/pusher.js');
  assert.equal(typeof Pusher, 'function');
  assert.equal(Pusher.default, Pusher);
  assert.equal(typeof require('../../dist/cjs/recover.js').recover, 'function');
  assert.equal(typeof require('../../dist/cjs/encrypted.js').encryption, 'function');
});

test('a client that is disconnected leaves nothing that keeps the process alive', async () => {
  const before = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const made = client();
  await joined(made, 'news');
  made.disconnect();
  await until(() => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length <= before);
});

function jwt(claims) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const text = `${encode({ typ: 'JWT', alg: 'HS256' })}.${encode(claims)}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

async function setIdentity() {
  const { access_token: owner } = await admin('POST', '/sessions', { name: 'owner', password: PASSWORD });
  const identity = {
    providers: [{ algorithms: ['HS256'], secret: SECRET }],
    grants: [{ channels: 'private-user-{sub}' }],
    sign_in: {},
  };
  await admin('PUT', `/apps/${server.app.id}/identity`, identity, owner);
}

async function admin(method, path, body, bearer) {
  const headers = { 'content-type': 'application/json', ...(bearer && { authorization: `Bearer ${bearer}` }) };
  const response = await fetch(`${server.url}/api/v1${path}`, { method, headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  const text = await response.text();
  return text && JSON.parse(text);
}
