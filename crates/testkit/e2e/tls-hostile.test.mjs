// Strangers at a port of TLS: whatever they send or leave out, their connections end by a deadline and cost a bounded amount, and
// clients of other addresses notice little. All addresses of 127.0.0.0/8 are this machine.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import tls from 'node:tls';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { handshake } from './frames.mjs';

const HOST = '127.0.0.1';
const STRANGER = '127.0.0.4';
const MIB = 1024 * 1024;
const PASSWORD = 'correct horse battery staple';
const SOCKETS = Number(process.env.FANFARE_TLS_CONNECTIONS ?? 2_000);
/** How long each storm goes on, in ms. */
const LASTS = 3_000;
/**
 * The server promises others a p99 of 50 ms. Here the strangers, the clients and the server share the cores of the machine that runs
 * the tests, often with other tests, and the server may be a debug build, so the test allows ten times as much.
 */
const P99 = 10 * 50;
/** Seconds that a client may take, which the tests wait for. */
const DEADLINE = 2;
/** Longest content of a record, and of one that is encrypted (RFC 8446 sections 5.1 and 5.2). */
const MAX_CONTENT = 2 ** 14;
const MAX_ENCRYPTED = MAX_CONTENT + 256;
const ALERT = 21;
const HANDSHAKE = 22;
const DATA = 23;

function record(type, content, length = content.length) {
  return Buffer.concat([Buffer.from([type, 3, 3, length >> 8, length & 255]), Buffer.from(content)]);
}

/** What storms are made of: `sent` begins each connection, and `whole` ones make a handshake. Each is closed again after `stays` ms. */
const STORMS = {
  'whole handshakes': { whole: true, stays: 100 },
  'hellos of clients that then say nothing': { sent: ({ hello }) => hello, stays: LASTS },
  'hellos of clients that leave': { sent: ({ hello }) => hello, stays: 0 },
  'half hellos': { sent: ({ hello }) => hello.subarray(0, hello.length / 2), stays: LASTS },
  'records that announce all they may and bring little': { sent: () => record(HANDSHAKE, [1], MAX_CONTENT), stays: LASTS },
  'sockets that say nothing': { sent: () => Buffer.alloc(0), stays: LASTS },
  garbage: { sent: () => Buffer.alloc(1024, 0x80), stays: LASTS },
};

if (isMainThread) {
  await runTests();
} else {
  storm(workerData);
}

/** Opens so many connections at once and goes on until the worker is ended; what ends is opened again. */
function storm({ port, hello, way, sockets }) {
  const { sent, whole, stays } = STORMS[way];
  const address = { port, host: HOST, localAddress: STRANGER };
  for (let number = 0; number < sockets; number += 1) open();
  parentPort.postMessage('begun');

  function open() {
    const socket = whole ? tls.connect({ ...address, rejectUnauthorized: false }) : connect(address);
    socket.on('error', () => {});
    socket.on('close', () => setTimeout(open, 100));
    socket.once(whole ? 'secureConnect' : 'connect', () => {
      if (sent) socket.write(sent({ hello: Buffer.from(hello) }));
      setTimeout(() => socket.destroy(), stays);
    });
    socket.resume();
  }
}

async function runTests() {
  const { connected, eventually, freePort, startServer, subscribe } = await import('./harness.mjs');
  const { Others } = await import('./others.mjs');
  const { makeCertificate } = await import('./proxy.mjs');
  let folder, hello;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fanfare-tls-hostile-'));
    await makeCertificate(folder);
    hello = await clientHello();
  });
  after(() => rm(folder, { recursive: true, force: true }));

  async function start(t, env = {}) {
    const tlsPort = await freePort();
    const server = await startServer({
      env: {
        FANFARE_TLS_CERTIFICATE: join(folder, 'fullchain.pem'),
        FANFARE_TLS_KEY: join(folder, 'privkey.pem'),
        FANFARE_TLS_LISTEN: `${HOST}:${tlsPort}`,
        FANFARE_OWNER_PASSWORD: PASSWORD,
        ...env,
      },
    });
    t.after(() => server.stop());
    const headers = { 'content-type': 'application/json' };
    const signIn = { method: 'POST', headers, body: JSON.stringify({ name: 'owner', password: PASSWORD }) };
    const { access_token: token } = await (await fetch(`${server.url}/api/v1/sessions`, signIn)).json();
    const metric = async (name) => {
      const text = await (await fetch(`${server.url}/metrics`, { headers: { authorization: `Bearer ${token}` } })).text();
      return Number(text.split('\n').find((line) => line.startsWith(`${name} `))?.split(' ')[1] ?? 0);
    };
    const outcome = (name) => metric(`fanfare_tls_handshakes_total{outcome="${name}"}`);
    return Object.assign(server, { tlsPort, metric, outcome });
  }

  /** Clients of the port are served. */
  async function isServing(server) {
    const client = server.client({ forceTLS: true, wssPort: server.tlsPort });
    await subscribe(client, 'news');
    client.disconnect();
  }

  test('a client that does not get on is ended by its deadline, however it stalls', async (t) => {
    const server = await start(t, { FANFARE_HTTP_FIRST_HEAD_TIMEOUT: String(DEADLINE) });
    const inPieces = hello.subarray(5);
    const stalls = {
      'nothing at all': raw(server, []),
      'a byte at a time': raw(server, [...hello].map((byte) => Buffer.from([byte]))),
      'half a hello': raw(server, [hello.subarray(0, hello.length / 2)]),
      'a record that announces all it may': raw(server, [record(HANDSHAKE, [1], MAX_CONTENT)]),
      'a hello in many records': raw(server, [...inPieces].map((byte) => record(HANDSHAKE, [byte]))),
      'a hello and no more': raw(server, [hello]),
    };
    const handshakes = Object.keys(stalls).length - 1;
    stalls['a handshake and no more'] = await secure(server);
    stalls['half a request'] = await secure(server, 'GET /healthz HTTP/1.1\r\nHost');
    stalls['half a record of a request'] = await relayed(server, record(DATA, Buffer.alloc(100), 1_000));
    for (const [way, { closed }] of Object.entries(stalls)) {
      const took = await inTime(closed, way);
      assert.ok(took > 0.9 * DEADLINE * 1000, `${way} was ended after ${took} ms`);
    }
    // Nothing is known of who says nothing, so it may have been a probe.
    await eventually(async () => assert.ok((await server.outcome('timed_out')) >= handshakes));
    await isServing(server);
  });

  test('a WebSocket that sends half a record is closed by its deadline', async (t) => {
    const server = await start(t, { FANFARE_WEBSOCKET_MESSAGE_TIMEOUT: String(DEADLINE) });
    const { closed, inject, client } = await relayed(server);
    client.write(handshake(server.app.key));
    await until(client, 'connection_established');
    inject(record(DATA, Buffer.alloc(8_000), MAX_CONTENT));
    const took = await inTime(closed, 'half a record');
    assert.ok(took > 0.9 * DEADLINE * 1000, `${took} ms`);
    await isServing(server);
  });

  test('what can become no handshake is ended at once, with an alert', async (t) => {
    const server = await start(t);
    const longHello = Buffer.from([1, 1, 0, 0, 3, 3]);
    for (const [what, bytes] of Object.entries({
      zeros: Buffer.alloc(64),
      'data before a handshake': record(DATA, Buffer.alloc(100)),
      'an oversized record': record(HANDSHAKE, Buffer.alloc(MAX_ENCRYPTED + 1, 1)),
      'the head of the largest record that there could be': record(HANDSHAKE, [1], 0xffff),
      'a record of another protocol version': Buffer.concat([Buffer.from([HANDSHAKE, 9, 9, 0, 4]), Buffer.alloc(4)]),
      'a hello without content': record(HANDSHAKE, [1, 0, 0, 0]),
      'a message that is none of a client': record(HANDSHAKE, [2, 0, 0, 0]),
      'a hello of 64 KiB': Buffer.concat([record(HANDSHAKE, Buffer.concat([longHello, Buffer.alloc(16_000)])), record(HANDSHAKE, Buffer.alloc(16_000))]),
    })) {
      const { closed, received } = raw(server, [bytes]);
      await inTime(closed, what);
      // A reset because of bytes that nobody read may overtake it.
      const alert = received();
      assert.ok(alert.length === 0 || alert[0] === ALERT, `${what} is answered with ${alert.toString('hex')}`);
    }
    assert.ok((await server.outcome('failed')) >= 8);
    await isServing(server);
  });

  test('after the handshake, an invalid record ends its connection and no other', async (t) => {
    const server = await start(t);
    const other = server.client({ forceTLS: true, wssPort: server.tlsPort });
    await connected(other);
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3']) {
      for (const [what, bytes] of Object.entries({
        'an oversized record': record(DATA, Buffer.alloc(MAX_CONTENT + 2_049)),
        'the head of an oversized record': record(DATA, [], 0xffff),
        'a record that was changed': record(DATA, Buffer.alloc(100)),
        'plain text': Buffer.from('GET / HTTP/1.1\r\n\r\n'),
        'a plain alert': record(ALERT, [2, 0x28]),
        'a plain hello': hello,
        'empty records without an end': Buffer.concat(Array.from({ length: 5_000 }, () => record(DATA, []))),
      })) {
        const { closed, inject, client } = await relayed(server, Buffer.alloc(0), { maxVersion });
        client.write(handshake(server.app.key));
        await until(client, 'connection_established');
        inject(bytes);
        await inTime(closed, `${what} in ${maxVersion}`);
      }
    }
    assert.equal(other.connection.state, 'connected');
    await eventually(async () => assert.equal(await server.metric('fanfare_connections{transport="websocket"}'), 1));
  });

  test('there is no renegotiation', async (t) => {
    const server = await start(t);
    const before = await server.outcome('full');
    const { client } = await secure(server, '', { maxVersion: 'TLSv1.2' });
    client.renegotiate({}, () => {});
    const error = await inTime(new Promise((resolve) => client.once('error', resolve)), 'renegotiation');
    assert.match(error.message, /no renegotiation/);
    assert.equal(await server.outcome('full'), before + 1);
    await isServing(server);
  });

  test('a connection that ends without a word of TLS is over', async (t) => {
    const server = await start(t);
    const { cut, client } = await relayed(server);
    client.write(handshake(server.app.key));
    await until(client, 'connection_established');
    const connections = () => server.metric('fanfare_connections{transport="websocket"}');
    assert.equal(await connections(), 1);
    cut();
    await eventually(async () => assert.equal(await connections(), 0));
    await isServing(server);
  });

  for (const way of Object.keys(STORMS)) {
    test(`${SOCKETS} ${way} cost others little and the server a bounded amount`, async (t) => {
      const server = await start(t, { FANFARE_LOG_FILTER: 'error' });
      const others = new Others(server);
      const encrypted = new Others(server, { tlsPort: server.tlsPort });
      t.after(() => others.stop());
      t.after(() => encrypted.stop());
      await others.measure(500);
      await encrypted.measure(500);
      const before = await others.resident();
      const worker = new Worker(new URL(import.meta.url), { workerData: { port: server.tlsPort, hello, way, sockets: SOCKETS } });
      try {
        await once(worker, 'message');
        const all = await Promise.all([others.measureBelow(P99, LASTS), encrypted.measureBelow(P99, LASTS)]);
        const grown = (Math.max(...all.map(({ peak }) => peak)) - before) / MIB;
        const counts = await Promise.all(['full', 'resumed', 'failed', 'left', 'timed_out'].map(async (name) => `${name} ${await server.outcome(name)}`));
        const shown = all.map(({ p50, p99, connects }) => `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, new clients within ${Math.max(...connects).toFixed(0)} ms`);
        t.diagnostic(`memory grew by ${grown.toFixed(1)} MiB; plain: ${shown[0]}; TLS: ${shown[1]}; handshakes: ${counts.join(', ')}`);
        assert.ok(grown <= 64, `the server's memory grew by ${grown} MiB`);
        for (const { p99 } of all) assert.ok(p99 < P99, `p99 ${p99} ms`);
      } finally {
        await worker.terminate();
      }
    });
  }

  /** Sends pieces, one every 100 ms, and says when the server ends the connection. */
  function raw({ tlsPort }, pieces) {
    const socket = connect({ port: tlsPort, host: HOST, localAddress: STRANGER, allowHalfOpen: false }).on('error', () => {});
    const chunks = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    const closed = ended(socket);
    socket.once('connect', async () => {
      for (const piece of pieces) {
        if (socket.destroyed) return;
        socket.write(piece);
        if (pieces.length > 1) await delay(100);
      }
    });
    return { closed, received: () => Buffer.concat(chunks) };
  }

  /** A connection whose handshake is complete. */
  async function secure({ tlsPort }, words = '', options = {}) {
    const client = tls.connect({ port: tlsPort, host: HOST, localAddress: STRANGER, rejectUnauthorized: false, ...options });
    client.on('error', () => {});
    await once(client, 'secureConnect');
    client.resume();
    client.write(words);
    return { client, closed: ended(client) };
  }

  /** The same through this process, which can then send what no library would. */
  async function relayed(server, bytes = Buffer.alloc(0), options = {}) {
    const listener = createServer().listen(0, HOST);
    await once(listener, 'listening');
    const client = tls.connect({ port: listener.address().port, host: HOST, rejectUnauthorized: false, ...options }).on('error', () => {});
    const [near] = await once(listener, 'connection');
    listener.close();
    const far = connect({ port: server.tlsPort, host: HOST, localAddress: STRANGER }).on('error', () => {});
    near.on('error', () => {}).pipe(far, { end: false });
    far.pipe(near);
    far.on('close', () => [near, client].forEach((socket) => socket.destroy()));
    await once(client, 'secureConnect');
    const inject = (more) => far.write(more);
    inject(bytes);
    return { client, inject, closed: ended(far), cut: () => (far.end(), client.destroy()) };
  }
}

/** How many ms it takes until the server ends a connection. */
async function ended(socket) {
  const start = performance.now();
  // `once` of a module would take a reset for a failure.
  await new Promise((resolve) => socket.once('close', resolve).once('end', resolve));
  return performance.now() - start;
}

/** Waits for the end of a connection, which has a deadline. */
async function inTime(closed, what) {
  const late = delay((DEADLINE + 3) * 1000, undefined, { ref: false }).then(() => assert.fail(`${what}: the connection was not ended`));
  return Promise.race([closed, late]);
}

async function until(socket, word) {
  let text = '';
  while (!text.includes(word)) {
    const [chunk] = await once(socket, 'data');
    text += chunk;
  }
}

/** The hello of a real client. */
async function clientHello() {
  const listener = createServer().listen(0, HOST);
  await once(listener, 'listening');
  const client = tls.connect({ port: listener.address().port, host: HOST, servername: 'localhost' }).on('error', () => {});
  const [socket] = await once(listener, 'connection');
  const [hello] = await once(socket, 'data');
  client.destroy();
  listener.close();
  return hello;
}
