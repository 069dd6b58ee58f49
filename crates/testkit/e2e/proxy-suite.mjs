// What every proxy with its configuration from deploy/ must do; only ports, paths and the operators' network are others. A proxy that
// is not installed is skipped; scripts/check-deploy installs them.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:http2';
import { request } from 'node:https';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { io } from 'socket.io-client';
import { connected, eventually, freePort, next, nextErrorCode, startServer, subscribe } from './harness.mjs';
import { PROXIES, missing, startProxy } from './proxy.mjs';
import { join, nextEvent, socketConnected } from './socket-io.mjs';
import { useTwelveTabs } from './tabs.mjs';

const PASSWORD = 'correct horse battery';
// All of these are this machine. Proxies speak to the server from 127.0.0.1.
const OPERATOR = '127.0.0.5';
const STRANGER = '127.0.0.9';
// The example of RFC 6455: HAProxy looks whether there are such.
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

/** Unmodified clients over TLS, through a proxy. */
export function testClients(name) {
  const proxy = PROXIES[name];
  describe(name, { skip: missing(name) }, () => {
    let server, front;
    const through = (overrides) => server.client({ forceTLS: true, wssPort: front.https, ...overrides });
    const streaming = (overrides) =>
      through({ enabledTransports: ['xhr_streaming'], httpHost: '127.0.0.1', httpsPort: front.https, ...overrides });

    before(async () => {
      server = await startServer({
        settings: { tls_only: true },
        env: { FANFARE_HTTP_TRUSTED_PROXIES: '127.0.0.1', FANFARE_OWNER_PASSWORD: PASSWORD },
      });
      front = await startProxy(proxy, [server]);
    });
    afterEach(() => server.disconnectClients());
    after(async () => {
      server.disconnectClients();
      await front?.stop();
      await server?.stop();
    });

    test('a client over wss subscribes, sends and receives, also where its app wants TLS', async () => {
      const [one, two] = [through(), through()];
      const [here, there] = await Promise.all([one, two].map((client) => subscribe(client, 'private-news')));
      assert.match(one.connection.connection.transport.socket.url, /^wss:/);
      const received = next(here, 'headline');
      await backend().trigger('private-news', 'headline', { text: 'Zürich 🎉' });
      assert.deepEqual(await received, { text: 'Zürich 🎉' });
      const heard = next(there, 'client-hello');
      here.trigger('client-hello', { from: 'here' });
      assert.deepEqual(await heard, { from: 'here' });
      // And who is not behind the proxy is not taken for one that is.
      assert.equal(await nextErrorCode(server.client()), 4000);
    });

    test('a client of the streaming fallback receives at once what is sent, and is gone when it goes', async () => {
      const client = streaming({ user: { user_id: 'ada' } });
      const channel = await subscribe(client, 'presence-news');
      assert.equal(client.connection.connection.transport.name, 'xhr_streaming');
      for (const n of [1, 2, 3]) {
        const received = next(channel, 'part');
        await backend().trigger('presence-news', 'part', { n });
        assert.deepEqual(await received, { n });
      }
      // Some learn that a client has left when they next send something to it, after 25 seconds at most.
      if (proxy.noticesLate) return;
      const watching = await subscribe(through({ user: { user_id: 'bob' } }), 'presence-news');
      const gone = next(watching, 'pusher:member_removed');
      client.disconnect();
      assert.equal((await gone).id, 'ada');
    });

    test('a stream of Server-Sent Events receives at once what is sent', async () => {
      const asked = request({ host: '127.0.0.1', port: front.https, path: `/sse/${server.app.key}?channels=stream` });
      asked.end();
      const [response] = await once(asked, 'response');
      assert.equal(response.headers['content-type'], 'text/event-stream; charset=utf-8');
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
      await eventually(() => assert.match(text, /subscription_succeeded/));
      for (const n of [1, 2, 3]) {
        await backend().trigger('stream', 'part', { n });
        await eventually(() => assert.ok(text.endsWith(`event: part\ndata: {"n":${n}}\n\n`), text));
      }
      asked.destroy();
    });

    test('a client of Socket.IO polls, changes to a WebSocket, and receives at once what is sent', async (t) => {
      for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
        const socket = io(`https://127.0.0.1:${front.https}/${server.app.key}`, { transports, forceNew: true, rejectUnauthorized: false });
        t.after(() => socket.disconnect());
        await socketConnected(socket);
        await join(socket, 'rooms');
        if (transports.length === 2) await eventually(() => assert.equal(socket.io.engine.transport.name, 'websocket'));
        for (const n of [1, 2, 3]) {
          const received = nextEvent(socket, 'part');
          await backend().trigger('rooms', 'part', { n });
          assert.deepEqual(await received, [{ n }, { channel: 'rooms' }]);
        }
      }
    });

    test('the address in the audit log is the client’s, whatever it says of itself', async () => {
      const token = await signIn({ headers: { 'x-forwarded-for': '203.0.113.1' } });
      const listed = await ask('/api/v1/audit?limit=100', { token });
      const entry = JSON.parse(listed.text).items.find(({ action }) => action.startsWith('session.'));
      assert.equal(entry?.actor.address, OPERATOR, listed.text);
    });

    test('an export of the audit log arrives whole', async () => {
      const { status, text } = await ask('/api/v1/audit/export', { token: await signIn() });
      assert.equal(status, 200);
      const lines = text.trimEnd().split('\n').map((line) => JSON.parse(line));
      assert.equal(lines.at(-1).id, 1);
    });

    test('strangers reach what clients and backends need, and nothing else', async () => {
      const as = (path, options) => ask(path, { from: STRANGER, ...options }).then(({ status }) => status);
      const open = ['/healthz', '/readyz', '/up', '/ready', '/sdk/fanfare.js', '/sdk/fanfare-encrypted.js', '/sdk/fanfare.js?v=1'];
      for (const path of open) assert.equal(await as(path), 200, path);
      assert.equal(await as('/app/x'), 426);
      assert.equal(await as('/apps/1234567/channels'), 401);
      const closed = ['/', '/docs/', '/openapi.json', '/api/v1/me', '/metrics', '/application', '/docs/..%2fapp/', '/sdk/..%2fdocs/', '/app/../api/v1/me'];
      for (const path of closed) {
        const status = await as(path);
        // Where the proxy resolves dots before it looks, Fanfare gets what is left, and that is no document.
        assert.ok(status === 403 || (path.includes('..') && [404, 426].includes(status)), `${path}: ${status}`);
      }
      assert.equal((await ask('/docs/')).status, 200);
    });

    test('a request that is no handshake is answered in words over HTTP/2 as well', async (t) => {
      const session = connect(`https://127.0.0.1:${front.https}`);
      t.after(() => session.close());
      const asked = session.request({ ':path': '/app/x' });
      const [headers] = await once(asked, 'response');
      let text = '';
      for await (const chunk of asked.setEncoding('utf8')) text += chunk;
      assert.equal(headers[':status'], 426);
      assert.match(text, /This is a WebSocket endpoint/);
    });

    test('a body that is too large is refused by the server, in its words', async () => {
      const { status, text } = await ask('/apps/1234567/events', { method: 'POST', body: 'x'.repeat(1024 * 1024 + 1) });
      // Nobody has signed it, which is the first thing that is wrong with it.
      assert.equal(status, 401, text);
      assert.doesNotMatch(text, /<html/i);
    });

    test('who comes without TLS is sent to it', async () => {
      const { status, headers } = await fetch(`http://127.0.0.1:${front.http}/app/x`, { redirect: 'manual' });
      assert.equal(status, 308);
      assert.match(headers.get('location'), /^https:\/\/.*\/app\/x$/);
    });

    const tabs = 'twelve tabs of one browser on the streaming fallback all receive and send';
    test(tabs, { skip: proxy.tooFewStreams }, async (t) => {
      let [node, proxied] = [server, front];
      if (proxy.fewStreams) {
        node = await startServer({ env: { FANFARE_HTTP_TRUSTED_PROXIES: '127.0.0.1' } });
        t.after(() => node.stop());
        proxied = await startProxy({ ...proxy, changes: (places) => [...proxy.changes(places), proxy.fewStreams] }, [node]);
        t.after(() => proxied.stop());
      }
      const tls = { forceTLS: true, wssPort: proxied.https };
      const options = { ...node.clientOptions(), ...tls, httpHost: '127.0.0.1', httpsPort: proxied.https };
      delete options.enabledTransports;
      await useTwelveTabs(t, node, { options, watcher: node.client(tls), sdk: node.sdk({ port: proxied.https, useTLS: true }) });
    });

    const backend = () => server.sdk({ port: front.https, useTLS: true });

    async function signIn(options) {
      const body = JSON.stringify({ name: 'owner', password: PASSWORD });
      const { status, text } = await ask('/api/v1/sessions', { method: 'POST', body, ...options });
      assert.equal(status, 201, text);
      return JSON.parse(text).access_token;
    }

    /** A request through the proxy as it stands, from an address of this machine. */
    function ask(path, { method = 'GET', from = OPERATOR, token, body, headers = {} } = {}) {
      const credentials = token ? { authorization: `Bearer ${token}` } : {};
      const options = { host: '127.0.0.1', port: front.https, path, method, localAddress: from };
      return new Promise((resolve, reject) => {
        const asked = request({ ...options, headers: { 'content-type': 'application/json', ...credentials, ...headers } });
        asked.on('error', reject);
        asked.on('response', async (response) => {
          let text = '';
          try {
            for await (const chunk of response.setEncoding('utf8')) text += chunk;
          } catch (error) {
            reject(error);
          }
          resolve({ status: response.statusCode, text });
        });
        asked.end(body);
      });
    }
  });
}

/** PINGs keep a connection through a proxy that waits three seconds, with `shorter` as changes to its configuration. */
export function testIdleConnections(name, shorter) {
  const proxy = PROXIES[name];
  const impatient = { ...proxy, changes: (places) => [...proxy.changes(places), ...shorter] };
  describe(`${name} that ends idle connections`, { skip: missing(name) }, () => {
    for (const [interval, stays] of [['1', true], ['0', false]]) {
      test(`${stays ? 'none is with' : 'one is without'} PINGs of the server`, async (t) => {
        const env = { FANFARE_HTTP_TRUSTED_PROXIES: '127.0.0.1', FANFARE_WEBSOCKET_PING_INTERVAL: interval };
        const server = await startServer({ env });
        t.after(() => server.stop());
        const front = await startProxy(impatient, [server]);
        t.after(() => front.stop());
        const client = server.client({ forceTLS: true, wssPort: front.https });
        await connected(client);
        const closed = once(client.connection.connection.transport.socket, 'close').then(() => 'closed');
        // Three times as long as the proxy waits.
        assert.equal(await Promise.race([closed, delay(9_000, 'open')]), stays ? 'open' : 'closed');
      });
    }
  });
}

/** What a proxy does with several nodes, which these are as far as it can see. */
export function testSeveralNodes(name) {
  const proxy = PROXIES[name];
  describe(`${name}, several nodes`, { skip: missing(name) }, () => {
    let nodes, front;
    before(async () => {
      nodes = await Promise.all([0, 1, 2].map(startNode));
      front = await startProxy(proxy, nodes);
    });
    after(async () => {
      await front?.stop();
      for (const node of nodes ?? []) node.stop();
    });

    /** Which node a request reaches; 0 if none. With `upgrade`, the connection stays until the node ends. */
    function reach(path, { method = 'POST', upgrade = false, from = '127.0.0.1' } = {}) {
      const headers = upgrade ? { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-key': KEY } : {};
      return new Promise((resolve, reject) => {
        const asked = request({ host: '127.0.0.1', port: front.https, path, method, headers, agent: false, localAddress: from });
        // A proxy that ends a connection without a word has reached nobody either.
        asked.on('error', ({ code }) => (code === 'ECONNRESET' ? resolve(0) : reject(new Error(code))));
        asked.on('response', (response) => {
          response.on('error', () => {}).resume();
          resolve(Number(response.headers['x-node'] ?? 0));
        });
        asked.on('upgrade', ({ headers }, socket) => {
          socket.on('error', () => {});
          resolve(Number(headers['x-node']));
        });
        asked.end(method === 'POST' ? '[]' : undefined);
      });
    }
    const socket = () => reach('/app/key?protocol=7', { method: 'GET', upgrade: true });
    const publish = () => reach('/apps/1234567/events');
    const all = (count, what) => Promise.all(Array.from({ length: count }, (_, index) => what(index)));
    const portsOf = (list) => list.map(({ port }) => port).sort();
    const distinct = (reached) => [...new Set(reached)].sort();
    const session = (index, part = 'xhr_send?t=1') => {
      const path = index % 2 ? '/app' : '/pusher/app';
      return reach(`${path}/key/${100 + index}/${(index * 7919 + 1e6).toString(36)}${index}q/${part}`);
    };

    test('connections and publishes go to all of them', async () => {
      assert.deepEqual(distinct(await all(60, socket)), portsOf(nodes));
      assert.deepEqual(distinct(await all(60, publish)), portsOf(nodes));
    });

    test('all requests of a session reach one node, and sessions are on all of them', async () => {
      const homes = await all(60, (index) => session(index, 'xhr_streaming?t=1'));
      // All of these are of one network.
      if (proxy.sessionsByNetwork) assert.ok(!homes.includes(0));
      else assert.deepEqual(distinct(homes), portsOf(nodes));
      for (const part of ['xhr_send?t=2', 'xhr?t=3']) assert.deepEqual(await all(60, (index) => session(index, part)), homes);
    });

    test('all requests of a client of Socket.IO reach one node until it has a WebSocket', async () => {
      const ask = (index, method, sid = '') => reach(`/socket.io/?EIO=4&transport=polling${sid}`, { method, from: `127.0.1.${index + 1}` });
      const homes = await all(20, (index) => ask(index, 'GET'));
      assert.ok(!homes.includes(0));
      for (const method of ['GET', 'POST']) assert.deepEqual(await all(20, (index) => ask(index, method, `&sid=s${index}`)), homes);
    });

    test('a publish that a node may have taken is not sent again', async () => {
      nodes.forEach((node) => (node.breaksOff = true));
      const before = nodes.reduce((sum, { taken }) => sum + taken, 0);
      assert.equal(await publish(), 0);
      assert.equal(nodes.reduce((sum, { taken }) => sum + taken, 0), before + 1);
      nodes.forEach((node) => (node.breaksOff = false));
    });

    test('a node that drains gets nothing new, and keeps its sessions', { skip: !proxy.asksReadyz }, async () => {
      const [draining, ...others] = nodes;
      const homes = await all(60, (index) => session(index));
      draining.ready = false;
      await until(async () => !(await all(20, publish)).includes(draining.port));
      assert.deepEqual(distinct(await all(20, socket)), portsOf(others));
      assert.deepEqual(await all(60, (index) => session(index)), homes);
    });

    test('where no node is ready, those that live are asked', { skip: proxy.onlyReady }, async () => {
      nodes.forEach((node) => (node.ready = false));
      await until(async () => (await all(20, publish)).includes(nodes[0].port));
      assert.ok(!(await all(20, socket)).includes(0));
      nodes.forEach((node) => (node.ready = true));
      await until(async () => distinct(await all(20, publish)).length === 3);
    });

    test('connections of a node that is gone are taken by the others at once, and sessions of the others stay', async () => {
      const [, , gone] = nodes;
      const homes = await all(60, (index) => session(index));
      gone.stop();
      // Varnish asks no other node for a connection that it passes on as it is: that takes until the next probe.
      if (proxy.waitsForProbe) await until(async () => !(await all(60, socket)).includes(0));
      const reached = await all(6, socket);
      assert.ok(!reached.includes(0) && !reached.includes(gone.port), String(reached));
      await until(async () => !(await all(60, (index) => session(index))).includes(0));
      const now = await all(60, (index) => session(index));
      homes.forEach((home, index) => assert.ok(home === gone.port || now[index] === home));
    });
  });
}

async function until(done) {
  const deadline = Date.now() + 15_000;
  while (!(await done())) {
    if (Date.now() > deadline) throw new Error('it did not happen within 15 s');
    await delay(100);
  }
}

/** As much of a node as a proxy sees. */
async function startNode() {
  const node = { ready: true, breaksOff: false, taken: 0 };
  const http = createServer(async (request, response) => {
    if (request.url === '/readyz' && !node.ready) return response.writeHead(503).end();
    if (request.method === 'POST') {
      node.taken += 1;
      try {
        for await (const _ of request);
      } catch {
        return; // The proxy has gone.
      }
      if (node.breaksOff) return request.socket.destroy();
    }
    response.writeHead(200, { 'x-node': node.port }).end();
  });
  http.on('upgrade', (request, socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${ACCEPT}\r\nX-Node: ${node.port}\r\n\r\n`);
  });
  const sockets = new Set();
  // As the server has it: a proxy that takes up a connection which is closed in that moment can only answer 502.
  http.keepAliveTimeout = 75_000;
  node.port = await freePort();
  http.listen(node.port, '127.0.0.1');
  await once(http, 'listening');
  node.stop = () => {
    sockets.forEach((socket) => socket.destroy());
    http.closeAllConnections();
    http.close();
  };
  return node;
}
