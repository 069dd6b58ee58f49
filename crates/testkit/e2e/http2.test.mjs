// HTTP/2 of the server itself: browsers with many tabs, and clients that misuse it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import http2 from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import tls from 'node:tls';
import { startBrowser } from './browser.mjs';
import { eventually, freePort, next, startServer, subscribe } from './harness.mjs';
import { makeCertificate } from './proxy.mjs';
import { startSite } from './site.mjs';
import { useTwelveTabs } from './tabs.mjs';

const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR, HTTP2_HEADER_PATH: PATH, HTTP2_HEADER_METHOD: METHOD } = http2.constants;
const [HEADERS, RST_STREAM, SETTINGS] = [1, 3, 4];
const [END_STREAM, END_HEADERS] = [1, 4];
const LARGE = '/docs/api/swagger-ui-bundle.js';

let folder;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fanfare-http2-'));
  await makeCertificate(folder);
});

after(() => rm(folder, { recursive: true, force: true }));

async function start(t, env = {}) {
  const port = await freePort();
  const certificate = { FANFARE_TLS_CERTIFICATE: join(folder, 'fullchain.pem'), FANFARE_TLS_KEY: join(folder, 'privkey.pem') };
  const server = await startServer({ env: { ...certificate, FANFARE_TLS_LISTEN: `127.0.0.1:${port}`, ...env } });
  t.after(() => server.stop());
  return Object.assign(server, { tlsPort: port, tlsUrl: `https://127.0.0.1:${port}` });
}

/** A connection of HTTP/2, once the server has said what it allows. */
async function connect(t, server, options = {}) {
  const session = http2.connect(server.tlsUrl, options);
  session.on('error', () => {});
  t.after(() => session.destroy());
  await once(session, 'remoteSettings');
  return session;
}

function request(session, path, headers = {}) {
  const stream = session.request({ [PATH]: path, ...headers });
  stream.on('error', () => {});
  return stream;
}

async function answer(stream) {
  const [headers] = await once(stream, 'response');
  let text = '';
  for await (const chunk of stream.setEncoding('utf8')) text += chunk;
  return { status: headers[':status'], text };
}

test('twelve tabs of one browser use the streaming fallback over one connection', async (t) => {
  const server = await start(t);
  const options = { ...server.clientOptions(), ...server.fallbackOptions('xhr_streaming'), forceTLS: true, httpsPort: server.tlsPort };
  await useTwelveTabs(t, server, { options, watcher: server.client(), sdk: server.sdk() });
  // Tabs that start at once open more, of which one carries all requests. The server ends the others, which have none, after
  // http.first_head_timeout and two seconds.
  await eventually(async () => assert.equal(await connections(server.tlsPort), 1), 30_000);
});

test('without HTTP/2 twelve tabs over TLS share the connections that their browser opens', async (t) => {
  const server = await start(t, { FANFARE_HTTP_MAX_STREAMS: '0' });
  const options = { ...server.clientOptions(), ...server.fallbackOptions('xhr_streaming'), forceTLS: true, httpsPort: server.tlsPort };
  await useTwelveTabs(t, server, { options, watcher: server.client(), sdk: server.sdk() });
});

/** How many connections a port has, by the kernel's table. */
async function connections(port) {
  const [ESTABLISHED, own] = ['01', `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`];
  const table = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map((line) => line.trim().split(/\s+/));
  return table.filter(([, local, , state]) => local === own && state === ESTABLISHED).length;
}

test('a browser that speaks HTTP/2 with the server opens WebSockets beside it', async (t) => {
  const server = await start(t);
  const site = await startSite('http://127.0.0.1:9');
  t.after(() => site.stop());
  const browser = await startBrowser({ ignoreHTTPSErrors: true });
  t.after(() => browser.stop());
  const page = await browser.open(site.url);
  const protocol = await page.evaluate(async (url) => {
    await fetch(`${url}/sdk/fanfare.js`);
    return url;
  }, server.tlsUrl);
  assert.equal(protocol, server.tlsUrl);
  const transport = await page.evaluate(
    async ([key, port]) => {
      const options = { cluster: 'x', wsHost: '127.0.0.1', wssPort: port, forceTLS: true, enabledTransports: ['ws', 'wss'] };
      const client = new globalThis.Pusher(key, options);
      const channel = client.subscribe('news');
      globalThis.heard = new Promise((resolve) => channel.bind('headline', resolve));
      await new Promise((resolve) => channel.bind('pusher:subscription_succeeded', resolve));
      return client.connection.connection.transport.socket.url;
    },
    [server.app.key, server.tlsPort],
  );
  assert.match(transport, /^wss:/);
  await server.sdk().trigger('news', 'headline', { over: 'wss' });
  assert.deepEqual(await page.evaluate(() => globalThis.heard), { over: 'wss' });
  browser.assertQuiet();
});

test('HTTP/2 is offered, chosen and can be switched off', async (t) => {
  const chosen = async (server, ALPNProtocols) => {
    const socket = tls.connect({ port: server.tlsPort, host: '127.0.0.1', ALPNProtocols });
    await once(socket, 'secureConnect');
    socket.destroy();
    return socket.alpnProtocol;
  };
  const server = await start(t);
  assert.equal(await chosen(server, ['http/1.1', 'h2']), 'h2');
  assert.equal(await chosen(server, ['http/1.1']), 'http/1.1');
  assert.equal(await chosen(server, undefined), false);
  const version = (url) => execFileSync('curl', ['-sk', '--http2', '-o', '/dev/null', '-w', '%{http_version}', url], { encoding: 'utf8' });
  assert.equal(version(`${server.tlsUrl}/healthz`), '2');
  const without = await start(t, { FANFARE_HTTP_MAX_STREAMS: '0' });
  assert.equal(await chosen(without, ['h2', 'http/1.1']), 'http/1.1');
  assert.equal(version(`${without.tlsUrl}/healthz`), '1.1');
});

test('a stream gets events as they come, and requests beside it are answered', async (t) => {
  const server = await start(t);
  const session = await connect(t, server);
  const at = `/pusher/app/${server.app.key}/123/abcdefgh`;
  const stream = request(session, `${at}/xhr_streaming?protocol=7`, { [METHOD]: 'POST' });
  let lines = '';
  stream.setEncoding('utf8').on('data', (chunk) => (lines += chunk));
  await eventually(() => assert.match(lines, /connection_established/));
  const send = request(session, `${at}/xhr_send`, { [METHOD]: 'POST' });
  send.end(JSON.stringify([JSON.stringify({ event: 'pusher:subscribe', data: { channel: 'news' } })]));
  assert.equal((await answer(send)).status, 204);
  await eventually(() => assert.match(lines, /subscription_succeeded/));
  for (const number of [1, 2, 3]) {
    await server.sdk().trigger('news', 'tick', { number });
    await eventually(() => assert.ok(lines.includes(`{\\\\\\"number\\\\\\":${number}}`), lines));
  }
  // A node that stops ends the stream in words, and tells the client to open no others.
  const goodbye = once(session, 'goaway');
  const ended = once(stream, 'close');
  const stopped = server.end();
  await ended;
  assert.match(lines, /c\[4200/);
  assert.equal((await goodbye)[0], NGHTTP2_NO_ERROR);
  assert.equal((await stopped).code, 0);
  assert.doesNotMatch(server.log, /cut off/);
  await server.start();
});

test('a node that becomes a newer program finishes requests, and serves new connections', async (t) => {
  const server = await start(t);
  const session = await connect(t, server);
  const stream = request(session, `/pusher/app/${server.app.key}/123/abcdefgh/xhr_streaming?protocol=7`, { [METHOD]: 'POST' });
  let lines = '';
  stream.setEncoding('utf8').on('data', (chunk) => (lines += chunk));
  await eventually(() => assert.match(lines, /connection_established/));
  const [goodbye, ended] = [once(session, 'goaway'), once(stream, 'close')];
  process.kill(server.pid, 'SIGUSR2');
  assert.equal((await goodbye)[0], NGHTTP2_NO_ERROR);
  await ended;
  assert.match(lines, /c\[4200/);
  const { status } = await answer(request(await connect(t, server), '/healthz'));
  assert.equal(status, 200);
});

test('a WebSocket over HTTP/2 is refused with the reason', async (t) => {
  const server = await start(t);
  const session = await connect(t, server);
  assert.ok(!session.remoteSettings.enableConnectProtocol);
  const { status, text } = await answer(request(session, `/app/${server.app.key}`));
  assert.equal(status, 400);
  assert.match(text, /it came over HTTP\/2, and WebSockets are opened over HTTP\/1.1 here/);
});

test('requests at a time, and the heads of requests, are bounded', async (t) => {
  const server = await start(t, { FANFARE_HTTP_MAX_STREAMS: '4' });
  const session = await connect(t, server);
  assert.equal(session.remoteSettings.maxConcurrentStreams, 4);
  const { status } = await answer(request(session, '/healthz', { 'x-padding': 'x'.repeat(20_000) }));
  assert.equal(status, 431);
  assert.equal((await answer(request(session, '/healthz'))).status, 200);
});

test('the requests of a network count as its sockets', async (t) => {
  const server = await start(t, { FANFARE_NETWORK_EXEMPT: '10.0.0.0/8', FANFARE_NETWORK_MAX_SOCKETS: '8' });
  const session = await connect(t, server);
  const streams = Array.from({ length: 16 }, (_, number) =>
    request(session, `/pusher/app/${server.app.key}/123/session${number}/xhr_streaming?protocol=7`, { [METHOD]: 'POST' }).end(),
  );
  const statuses = await Promise.all(streams.map(async (stream) => (await once(stream, 'response'))[0][':status']));
  const refused = statuses.filter((status) => status === 429).length;
  assert.equal(statuses.filter((status) => status === 200).length + refused, 16);
  assert.ok(refused >= 16 - 8, `${statuses}`);
  streams.forEach((stream) => stream.close(NGHTTP2_CANCEL));
  await eventually(async () => assert.equal((await answer(request(session, '/healthz'))).status, 200));
});

test('a connection without requests is closed, and one without a first request sooner', async (t) => {
  const server = await start(t, { FANFARE_HTTP_FIRST_HEAD_TIMEOUT: '1', FANFARE_HTTP_HEADER_TIMEOUT: '2' });
  const silent = tls.connect({ port: server.tlsPort, host: '127.0.0.1', ALPNProtocols: ['h2'] });
  await once(silent, 'secureConnect');
  const closed = hasClosed(silent.resume());
  const early = await connect(t, server);
  const told = once(early, 'goaway');
  const session = await connect(t, server);
  assert.equal((await answer(request(session, '/healthz'))).status, 200);
  const begun = performance.now();
  const goodbye = once(session, 'goaway');
  await closed;
  assert.equal((await told)[0], NGHTTP2_NO_ERROR);
  assert.equal((await goodbye)[0], NGHTTP2_NO_ERROR);
  assert.ok(performance.now() - begun > 1_900);
});

test('an answer that is not read is ended, and others on its connection go on', async (t) => {
  const server = await start(t, { FANFARE_HTTP_HEADER_TIMEOUT: '1' });
  // Without windows of its own the client has room for 64 KiB of each answer.
  const session = await connect(t, server, { settings: { initialWindowSize: 65_535 } });
  session.setLocalWindowSize(16 * 1024 * 1024);
  const stuck = request(session, LARGE);
  await once(stuck, 'response');
  const ended = once(stuck, 'close');
  let reads = true;
  const reading = (async () => {
    while (reads) {
      const { status, text } = await answer(request(session, LARGE));
      assert.ok(status === 200 && text.length > 1_000_000);
      await delay(50);
    }
  })();
  await ended;
  reads = false;
  await reading;
  assert.equal(stuck.rstCode, NGHTTP2_CANCEL);
});

test('a client that opens and abandons requests as fast as it can is disconnected', async (t) => {
  const server = await start(t);
  const channel = await subscribe(server.client(), 'news');
  // Frames by hand, because Node's own client waits between them.
  const socket = tls.connect({ port: server.tlsPort, host: '127.0.0.1', ALPNProtocols: ['h2'] });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  const closed = hasClosed(socket.resume());
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(SETTINGS, 0, 0)]));
  let opened = 0;
  while (!socket.closed && opened < 20_000) {
    // Few enough at a time that each is begun before it is abandoned.
    const frames = [];
    for (let number = 0; number < 8; number += 1, opened += 1) {
      const path = `/pusher/app/${server.app.key}/123/flood${opened}/xhr_streaming?protocol=7`;
      frames.push(frame(HEADERS, END_STREAM | END_HEADERS, 2 * opened + 1, post(path)));
    }
    socket.write(Buffer.concat(frames));
    await delay(1);
    const first = opened - frames.length;
    socket.write(Buffer.concat(frames.map((_, number) => frame(RST_STREAM, 0, 2 * (first + number) + 1, Buffer.from([0, 0, 0, NGHTTP2_CANCEL])))));
    if (opened === 80) {
      const heard = next(channel, 'tick');
      await server.sdk().trigger('news', 'tick', {});
      await heard;
    }
  }
  await closed;
  assert.ok(opened < 20_000, `${opened} were possible`);
});

test('a client that abandons one answer after the other is disconnected', async (t) => {
  const server = await start(t);
  // A little of each answer, so that a machine that is busy can abandon them faster than a client may.
  const session = await connect(t, server, { settings: { initialWindowSize: 1024 } });
  // Node counts what has come of an abandoned answer as unread.
  session.setLocalWindowSize(64 * 1024 * 1024);
  // Asked of the kernel: a session of Node 20 sometimes does not say that its socket is gone.
  let isGone = false;
  const gone = eventually(async () => assert.equal(await connections(server.tlsPort), 0), 60_000).then(() => (isGone = true));
  let abandoned = 0;
  const abandon = async () => {
    abandoned += 1;
    const stream = request(session, LARGE);
    await Promise.race([once(stream, 'response'), once(stream, 'close'), gone]);
    stream.close(NGHTTP2_CANCEL);
  };
  // All of a page that is closed are no flood.
  await Promise.all(Array.from({ length: 100 }, abandon));
  assert.equal((await answer(request(session, '/healthz'))).status, 200);
  while (!isGone && !session.closed && !session.destroyed && abandoned < 2_000) await Promise.all(Array.from({ length: 50 }, abandon));
  await gone;
  assert.ok(abandoned < 2_000, `${abandoned} were possible`);
});

/** A frame of HTTP/2. */
function frame(type, flags, stream, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** The head of a POST: two entries of the static table, and two texts for names of it. */
function post(path) {
  const text = (index, value) => Buffer.concat([Buffer.from([index, value.length]), Buffer.from(value)]);
  return Buffer.concat([Buffer.from([0x83, 0x87]), text(0x04, path), text(0x01, 'localhost')]);
}

/** Not `once`, which fails with an error, and an end in the middle of a write is one. */
function hasClosed(emitter) {
  return new Promise((resolve) => emitter.once('close', resolve));
}
