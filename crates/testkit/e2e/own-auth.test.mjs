import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { after, afterEach, test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { Stream } from './event-stream.mjs';
import { eventually, next, seconds, signedIn, startHttp, startServer, subscribe } from './harness.mjs';
import { PlainClient } from './plain-client.mjs';

const ISSUER = 'https://id.example/';
const SECRET = 'a secret that is shared with the identity provider';
const PASSWORD = 'a-long-password';

const server = await startServer({
  env: { FANFARE_OWNER_PASSWORD: PASSWORD, FANFARE_IDENTITY_ALLOW_INNER_ADDRESSES: 'true' },
});
const owner = await signInToAdmin();
const sdk = server.sdk();
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
// The identity provider, as far as it can be seen: the keys that it publishes.
const provider = await startHttp((request, response) => {
  const key = { ...publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'ES256', use: 'sig' };
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ keys: [key] }));
});
after(() => Promise.all([provider.stop(), server.stop()]));
afterEach(() => server.disconnectClients());

const KINDS = {
  HS256: {
    provider: { issuer: ISSUER, algorithms: ['HS256'], secret: SECRET },
    sign: (text) => createHmac('sha256', SECRET).update(text).digest('base64url'),
  },
  ES256: {
    provider: { issuer: ISSUER, algorithms: ['ES256'], jwks_url: `${provider.url}/keys.json` },
    sign: (text) => sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url'),
  },
};

for (const [algorithm, kind] of Object.entries(KINDS)) {
  test(`an app without an auth endpoint lets in who has a token of its identity provider (${algorithm})`, async () => {
    await setIdentity(kind.provider);
    const client = server.client(withToken(token(algorithm, { sub: 'ada', team: 'red', name: 'Ada L.' })));

    const own = await subscribe(client, 'private-user-ada');
    const heard = next(own, 'mail');
    await sdk.trigger('private-user-ada', 'mail', { text: 'for Ada' });
    assert.deepEqual(await heard, { text: 'for Ada' });

    const refused = client.subscribe('private-user-bob');
    assert.equal((await next(refused, 'pusher:subscription_error')).status, 403);
    assert.equal((await next(client.subscribe('presence-team-blue'), 'pusher:subscription_error')).status, 403);

    const team = await subscribe(client, 'presence-team-red');
    assert.deepEqual(team.members.me, { id: 'ada', info: { name: 'Ada L.' } });
    const joined = next(team, 'pusher:member_added');
    const bob = server.client(withToken(token(algorithm, { sub: 'bob', team: 'red', name: 'Bob' })));
    await subscribe(bob, 'presence-team-red');
    assert.deepEqual(await joined, { id: 'bob', info: { name: 'Bob' } });
  });
}

test('who has a token signs in with it, and gets what is sent to them', async () => {
  await setIdentity(KINDS.ES256.provider);
  const client = await signedIn(server.client(withToken(token('ES256', { sub: 'ada', name: 'Ada L.' }))));
  assert.equal(client.user.user_data.id, 'ada');
  assert.deepEqual(client.user.user_data.user_info, { name: 'Ada L.' });
  const heard = next(client.user, 'hello');
  await sdk.sendToUser('ada', 'hello', { text: 'Ada' });
  assert.deepEqual(await heard, { text: 'Ada' });
});

test('a token that is not of the provider, or of yesterday, lets nobody in', async () => {
  await setIdentity(KINDS.HS256.provider);
  const claims = { sub: 'ada' };
  const good = token('HS256', claims);
  for (const bad of [
    token('ES256', claims),
    token('HS256', { ...claims, iss: 'https://other.example/' }),
    token('HS256', { ...claims, exp: seconds() - 60 }),
    good.slice(0, -4) + 'AAAA',
    'nonsense',
  ]) {
    const channel = server.client(withToken(bad)).subscribe('private-user-ada');
    assert.equal((await next(channel, 'pusher:subscription_error')).status, 401);
  }
  await subscribe(server.client(withToken(good)), 'private-user-ada');
});

/** How clients without a library show a token: where they set headers, and where they can't. */
const SHOWN = {
  'a header': (bearer) => ({ authorization: `Bearer ${bearer}`, query: '' }),
  'the URL': (bearer) => ({ query: `&token=${bearer}` }),
};

function streamWith({ authorization, query }, channels) {
  const headers = authorization && { authorization };
  return Stream.open(`/sse/${server.app.key}?channels=${channels}${query}`, { port: server.port, headers });
}

function socketWith({ authorization, query }, channels) {
  const headers = authorization && [`Authorization: ${authorization}`];
  return new PlainClient(server.port, `/ws/${server.app.key}?channels=${channels}${query}`, headers);
}

for (const [where, shown] of Object.entries(SHOWN)) {
  test(`a token in ${where} opens its channels to streams and plain WebSockets, and shows their members`, async (t) => {
    await setIdentity(KINDS.ES256.provider);
    const of = (sub, name) => shown(token('ES256', { sub, team: 'red', name }));
    const team = await subscribe(server.client(withToken(token('ES256', { sub: 'bob', team: 'red', name: 'Bob' }))), 'presence-team-red');
    const members = [];
    team.bind('pusher:member_added', (member) => members.push(member));
    const stream = await streamWith(of('ada', 'Ada L.'), 'private-user-ada,presence-team-red');
    t.after(() => stream.close());
    await stream.subscribed(2);
    const socket = socketWith(of('cleo', 'Cleo'), 'private-user-cleo,presence-team-red');
    t.after(() => socket.close());
    await socket.got(({ event, channel }) => event === 'pusher:subscription_succeeded' && channel === 'presence-team-red');
    await eventually(() =>
      assert.deepEqual(members, [
        { id: 'ada', info: { name: 'Ada L.' } },
        { id: 'cleo', info: { name: 'Cleo' } },
      ]),
    );
    for (const user of ['ada', 'cleo']) await sdk.trigger(`private-user-${user}`, 'mail', `for ${user}`);
    assert.equal((await stream.has(1))[0].data, 'for ada');
    assert.equal((await socket.got(({ event }) => event === 'mail')).data, 'for cleo');
    const left = next(team, 'pusher:member_removed');
    socket.close();
    assert.equal((await left).id, 'cleo');
  });

  test(`a token in ${where} that is foreign, of yesterday or for other channels opens no stream and no plain WebSocket`, async (t) => {
    await setIdentity(KINDS.HS256.provider);
    const claims = { sub: 'ada' };
    for (const [bearer, status, reason] of [
      [token('ES256', claims), 401, /^Invalid token: /],
      [token('HS256', { ...claims, iss: 'https://other.example/' }), 401, /^Invalid token: its issuer/],
      [token('HS256', { ...claims, exp: seconds() - 60 }), 401, /^Invalid token: it has expired/],
      ['nonsense', 401, /^Invalid token: /],
      [token('HS256', { sub: 'bob' }), 403, /^No grant of the app opens private-user-ada/],
    ]) {
      const stream = await streamWith(shown(bearer), 'private-user-ada');
      t.after(() => stream.close());
      assert.equal(stream.response.statusCode, status);
      const { code, reason: told } = await socketWith(shown(bearer), 'private-user-ada').closed;
      assert.equal(code, 4009);
      assert.match(told, reason);
    }
  });
}

test('a page of another origin listens with its token, by EventSource, by fetch and by WebSocket', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const site = await startHttp((_, response) => {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>Test</title><link rel="icon" href="data:,">');
  });
  t.after(() => site.stop());
  await setIdentity(KINDS.ES256.provider);
  const tab = await browser.open(site.url);
  const bearer = token('ES256', { sub: 'ada', team: 'red', name: 'Ada L.' });
  await tab.evaluate(listen, [server.url, server.app.key, bearer]);
  await sdk.trigger('private-user-ada', 'mail', { for: 'Ada' });
  await tab.waitForFunction(() => Object.keys(globalThis.got).length === 3);
  const data = JSON.stringify({ for: 'Ada' });
  assert.deepEqual(await tab.evaluate(() => globalThis.got), { source: data, fetched: data, socket: data });
  browser.assertQuiet();
});

/** Runs in the page: it is subscribed in all three ways once this returns. */
function listen([url, key, bearer]) {
  globalThis.got = {};
  const [succeeded, path] = ['pusher:subscription_succeeded', `${key}?channels=private-user-ada`];
  const bySource = new Promise((resolve) => {
    const source = new EventSource(`${url}/sse/${path}&token=${bearer}`);
    source.addEventListener(succeeded, resolve);
    source.addEventListener('mail', ({ data }) => (globalThis.got.source = data));
  });
  const bySocket = new Promise((resolve) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws/${path}&token=${bearer}`);
    socket.onmessage = (message) => {
      const { event, data } = JSON.parse(message.data);
      if (event === succeeded) resolve();
      if (event === 'mail') globalThis.got.socket = JSON.stringify(data);
    };
  });
  const byFetch = fetch(`${url}/sse/${path}`, { headers: { authorization: `Bearer ${bearer}` } }).then(({ body }) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    return new Promise((resolve) => {
      let text = '';
      const read = ({ value }) => {
        text += value;
        if (text.includes(succeeded)) resolve();
        const mail = text.match(/event: mail\ndata: (.*)\n\n/);
        if (mail) globalThis.got.fetched = mail[1];
        else reader.read().then(read);
      };
      reader.read().then(read);
    });
  });
  return Promise.all([bySource, bySocket, byFetch]).then(() => {});
}

test('a page of another origin subscribes, is refused and signs in with its token', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const script = await readFile(new URL('./node_modules/pusher-js/dist/web/pusher.js', import.meta.url));
  const page = '<!doctype html><title>Test</title><link rel="icon" href="data:,"><script src="/pusher.js"></script>';
  const site = await startHttp((request, response) => {
    if (request.url === '/pusher.js') response.writeHead(200, { 'content-type': 'text/javascript' }).end(script);
    else response.writeHead(200, { 'content-type': 'text/html' }).end(page);
  });
  t.after(() => site.stop());
  await setIdentity(KINDS.ES256.provider);
  t.after(() => setAllowedOrigins([]));

  const options = { ...server.clientOptions(), ...endpoints() };
  const ada = token('ES256', { sub: 'ada', team: 'red', name: 'Ada L.' });
  await setAllowedOrigins([new URL(site.url).origin]);
  const tab = await browser.open(site.url);
  assert.notEqual(new URL(site.url).origin, new URL(server.url).origin);
  const seen = await tab.evaluate(useToken, [server.app.key, options, ada]);
  assert.deepEqual(seen, {
    own: 'joined',
    other: 403,
    members: { ada: { name: 'Ada L.' } },
    user: { id: 'ada', user_info: { name: 'Ada L.' } },
  });

  // A page that may not ask does not even get to send its token.
  await setAllowedOrigins(['https://shop.example']);
  const status = await tab.evaluate(async ([url, bearer]) => {
    const headers = { authorization: `Bearer ${bearer}` };
    const body = new URLSearchParams({ socket_id: '1.1', channel_name: 'private-user-ada' });
    return fetch(url, { method: 'POST', headers, body }).then((answer) => answer.status, () => 'kept from asking');
  }, [`${server.url}/app/${server.app.key}/auth`, ada]);
  assert.equal(status, 'kept from asking');
  // What a browser says of the refusals: two of them were wanted.
  browser.assertQuiet({ expected: /403|CORS policy|net::ERR_FAILED/ });
});

/** Runs in the page. */
async function useToken([key, options, bearer]) {
  const headersProvider = () => ({ Authorization: `Bearer ${bearer}` });
  const client = new globalThis.Pusher(key, {
    ...options,
    channelAuthorization: { ...options.channelAuthorization, headersProvider },
    userAuthentication: { ...options.userAuthentication, headersProvider },
  });
  const subscribed = (name) =>
    new Promise((resolve) => {
      const channel = client.subscribe(name);
      channel.bind('pusher:subscription_succeeded', () => resolve([channel, 'joined']));
      channel.bind('pusher:subscription_error', ({ status }) => resolve([channel, status]));
    });
  const [, own] = await subscribed('private-user-ada');
  const [, other] = await subscribed('private-user-bob');
  const [team] = await subscribed('presence-team-red');
  client.signin();
  await client.user.signinDonePromise;
  return { own, other, members: team.members.members, user: client.user.user_data };
}

function endpoints() {
  const app = `${server.url}/app/${server.app.key}`;
  return {
    channelAuthorization: { endpoint: `${app}/auth`, transport: 'ajax' },
    userAuthentication: { endpoint: `${app}/user-auth`, transport: 'ajax' },
  };
}

/** What a page is configured with, where the token comes from its own sign-in. */
function withToken(bearer) {
  const headersProvider = () => ({ Authorization: `Bearer ${bearer}` });
  const { channelAuthorization, userAuthentication } = endpoints();
  return {
    channelAuthorization: { ...channelAuthorization, headersProvider },
    userAuthentication: { ...userAuthentication, headersProvider },
  };
}

function token(algorithm, claims) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const header = { typ: 'JWT', alg: algorithm, ...(algorithm === 'ES256' && { kid: 'one' }) };
  const text = `${encode(header)}.${encode({ iss: ISSUER, exp: seconds() + 60, ...claims })}`;
  return `${text}.${KINDS[algorithm].sign(text)}`;
}

function setIdentity(of) {
  return admin('PUT', `/apps/${server.app.id}/identity`, {
    providers: [of],
    grants: [
      { channels: 'private-user-{sub}' },
      { channels: 'presence-team-{team}', presence: { user_info: { name: 'name' } } },
    ],
    sign_in: { user_info: { name: 'name' } },
  });
}

function setAllowedOrigins(origins) {
  return admin('PATCH', `/apps/${server.app.id}`, { settings: { allowed_origins: origins } });
}

/** What the admin API answers is active on that server. */
async function admin(method, path, body, bearer = owner) {
  const headers = { 'content-type': 'application/json', ...(bearer && { authorization: `Bearer ${bearer}` }) };
  const response = await fetch(`${server.url}/api/v1${path}`, { method, headers, body: JSON.stringify(body) });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text && JSON.parse(text);
}

async function signInToAdmin() {
  const signedIn = await admin('POST', '/sessions', { name: 'owner', password: PASSWORD }, null);
  return signedIn.access_token;
}
