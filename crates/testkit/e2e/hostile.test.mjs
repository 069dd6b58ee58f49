// A stranger who knows an app's key and has 100 connections from one address, against the built server with bounds for every
// address. Whatever they do, the server's memory grows by at most 64 MiB, and clients of another address connect, subscribe and
// get events. All addresses of 127.0.0.0/8 are this machine.
import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { after, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

const CONNECTIONS = 100;
const STRANGER = '127.0.0.1';
const CLIENT = '127.0.0.2';
const BACKEND = '127.0.0.3';
const MIB = 1024 * 1024;
/** How long each way goes on. */
const LASTS = 2000;
const EVERY = 20;
/**
 * The server promises others a p99 of 50 ms. Here the strangers, the clients and the server share the cores of the machine that runs
 * the tests, often with other tests, and the server may be a debug build, so the test allows ten times as much.
 */
const P99 = 10 * 50;

/** A WebSocket frame of a client; with a mask of zeros the payload stands as it is. `length` announces more than comes. */
function frame(first, payload, length = payload.length) {
  const head = length < 126 ? [first, 0x80 | length] : length < 65536 ? [first, 0xfe, length >> 8, length & 255] : [first, 0xff];
  const long = Buffer.alloc(length < 65536 ? 0 : 8);
  if (long.length) long.writeBigUInt64BE(BigInt(length));
  return Buffer.concat([Buffer.from(head), long, Buffer.alloc(4), Buffer.from(payload)]);
}

/** The first frame of a server, if it is whole. */
function split(bytes) {
  if (bytes.length < 2) return undefined;
  const [head, length] = bytes[1] < 126 ? [2, bytes[1]] : [4, bytes.length < 4 ? Infinity : bytes.readUInt16BE(2)];
  if (bytes.length < head + length) return undefined;
  return { text: bytes.toString('utf8', head, head + length), rest: bytes.subarray(head + length) };
}

const message = (event, data) => frame(0x81, JSON.stringify({ event, data }));

const handshake = (key) =>
  `GET /app/${key}?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

/** The ways of a stranger: each begins with one of the sockets, and may say something again and again. */
const WAYS = {
  'sessions of the fallback': {
    again: (key, number, turn) =>
      Array.from({ length: 50 }, (_, i) => post(`/pusher/app/${key}/1/s${number}x${turn}x${i}/xhr?protocol=7`, 0)).join(''),
  },
  'WebSockets that read nothing': {
    begin: (key) => [handshake(key), message('pusher:subscribe', { channel: 'news' })],
    again: () => frame(0x89, 'x'.repeat(125)).toString('latin1').repeat(500),
    reads: false,
  },
  'subscriptions with long names': {
    begin: (key, number) => [
      handshake(key),
      ...Array.from({ length: 2000 }, (_, i) => message('pusher:subscribe', { channel: `${number}-${i}-`.padEnd(200, 'x') })),
    ],
  },
  'heads without an end': { begin: () => [`GET / HTTP/1.1\r\nHost: x\r\nx: ${'y'.repeat(16_000)}`] },
  'sockets that say nothing': { begin: () => [] },
  'bodies without an end': {
    begin: (key, number) => [
      post(`/pusher/app/${key}/1/b${number}/xhr?protocol=7`, 0),
      post(`/pusher/app/${key}/1/b${number}/xhr_send`, 250_000),
      'x'.repeat(249_990),
    ],
  },
  'messages without an end': { begin: (key) => [handshake(key), frame(0x81, 'x'.repeat(120_000), 130_000)] },
  'messages in pieces without an end': {
    begin: (key) => [handshake(key), frame(0x01, 'x'.repeat(60_000))],
    again: () => frame(0x00, 'x'.repeat(1000)).toString('latin1'),
  },
  'long messages on sockets that then say nothing': {
    begin: (key) => [handshake(key), ...Array.from({ length: 5 }, () => frame(0x81, 'x'.repeat(130_000)))],
  },
  'nonsense messages': { begin: (key) => [handshake(key)], again: () => frame(0x81, '{}').toString('latin1').repeat(500) },
  pings: { begin: (key) => [handshake(key)], again: () => frame(0x89, 'x'.repeat(125)).toString('latin1').repeat(500) },
  'wrong signatures over long queries': {
    // A known key, the right time and the form of a signature, so that every text that a client may have signed is tried.
    again: (key, number, turn, id) => {
      const query = Array.from({ length: 60 }, (_, i) => `a${60 - i}[]=%41%2B+${'x'.repeat(100)}`).join('&');
      const auth = `auth_key=${key}&auth_timestamp=${Math.floor(Date.now() / 1000)}&auth_version=1.0&auth_signature=${'0'.repeat(64)}`;
      const path = `/apps/%${id.charCodeAt(0).toString(16)}${id.slice(1)}/channels`;
      return `GET ${path}?${query}&${auth} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(20);
    },
  },
};

function post(path, length) {
  return `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n`;
}

if (isMainThread) {
  await runTests();
} else {
  beStranger(workerData);
}

/** Opens 100 sockets and goes on until the worker is ended; what the server closes is opened again. */
function beStranger({ port, key, id, way }) {
  const { begin = () => [], again, reads = true } = WAYS[way];
  let turn = 0;
  for (let number = 0; number < CONNECTIONS; number += 1) open(number);

  function open(number) {
    const socket = connect({ port, host: '127.0.0.1', localAddress: STRANGER });
    socket.on('error', () => {});
    socket.on('close', () => setTimeout(open, 100, number));
    socket.once('connect', () => {
      for (const part of begin(key, number)) socket.write(part);
      if (again) repeat(socket, number);
    });
    if (reads) socket.resume();
    else socket.pause();
  }

  function repeat(socket, number) {
    if (socket.destroyed) return;
    turn += 1;
    const taken = socket.write(again(key, number, turn, id), 'latin1');
    // As fast as the server reads; other sockets get their turn.
    if (taken) setTimeout(repeat, 5, socket, number);
    else socket.once('drain', () => setImmediate(repeat, socket, number));
  }
  parentPort.postMessage('begun');
}

async function runTests() {
  const { startServer } = await import('./harness.mjs');
  const server = await startServer({
    env: { FANFARE_NETWORK_EXEMPT: 'none', FANFARE_MEMORY_LIMIT: String(2048 * MIB), FANFARE_LOG_FILTER: 'error' },
  });
  after(() => server.stop());
  const agent = new Agent({ keepAlive: true, maxSockets: 20 });
  after(() => agent.destroy());
  const pid = server.pid;

  // What the first clients and events need is no growth.
  await measure(500);
  const before = await resident();

  for (const way of Object.keys(WAYS)) {
    test(`${way} cost others little and the server a bounded amount`, async (t) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: { port: server.port, ...server.app, way } });
      try {
        await once(worker, 'message');
        const { took, connects, peak } = await measure(LASTS);
        const [p50, p99] = [0.5, 0.99].map((part) => took[Math.floor(took.length * part)]);
        const grown = (peak - before) / MIB;
        t.diagnostic(
          `memory grew by ${grown.toFixed(1)} MiB; events p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms; ` +
            `${connects.length} new clients within ${Math.max(...connects).toFixed(0)} ms`,
        );
        assert.ok(grown <= 64, `the server's memory grew by ${grown} MiB`);
        assert.ok(p99 < P99, `p99 ${p99} ms`);
      } finally {
        await worker.terminate();
      }
    });
  }

  /** Publishes, connects new clients and looks at the memory for a while, from addresses of others. */
  async function measure(time) {
    const [took, connects] = [[], []];
    let peak = 0;
    const client = await subscriber();
    const arrived = new Map();
    client.on('event', (data) => arrived.get(data.id)?.());
    const end = performance.now() + time;
    const publishing = (async () => {
      const all = [];
      for (let id = 0; performance.now() < end; id += 1) {
        const start = performance.now();
        const seen = new Promise((resolve) => arrived.set(id, resolve));
        all.push(Promise.all([publish({ id, text: 'x'.repeat(5000) }), seen]).then(() => took.push(performance.now() - start)));
        await delay(EVERY);
      }
      await Promise.all(all);
    })();
    const connecting = (async () => {
      while (performance.now() < end) {
        const start = performance.now();
        const newcomer = await subscriber();
        connects.push(performance.now() - start);
        newcomer.destroy();
        await delay(10 * EVERY);
      }
    })();
    while (performance.now() < end) {
      peak = Math.max(peak, await resident());
      await delay(5 * EVERY);
    }
    await withTime(Promise.all([publishing, connecting]), 'all events and new clients');
    client.destroy();
    took.sort((a, b) => a - b);
    return { took, connects, peak };
  }

  /** A subscriber to the channel that everybody is on. Emits `event` with its data. */
  async function subscriber() {
    const socket = connect({ port: server.port, host: '127.0.0.1', localAddress: CLIENT });
    const subscribed = new Promise((resolve, reject) => {
      let unread = Buffer.alloc(0);
      socket.on('error', reject);
      socket.on('close', () => reject(new Error(`a client was closed: ${unread.toString('latin1').slice(-500)}`)));
      socket.on('data', (chunk) => {
        unread = Buffer.concat([unread, chunk]);
        if (unread[0] === 0x48) unread = unread.subarray(unread.indexOf('\r\n\r\n') + 4);
        for (let next; (next = split(unread)); unread = next.rest) {
          if (next.text.includes('subscription_succeeded')) resolve();
          if (next.text.startsWith('{"event":"e"')) socket.emit('event', JSON.parse(JSON.parse(next.text).data));
        }
      });
    });
    subscribed.catch(() => {});
    socket.write(handshake(server.app.key));
    socket.write(message('pusher:subscribe', { channel: 'news' }));
    await withTime(subscribed, 'a subscription');
    return socket;
  }

  async function publish(data) {
    const body = JSON.stringify({ name: 'e', channel: 'news', data: JSON.stringify(data) });
    const path = `/apps/${server.app.id}/events`;
    const query =
      `auth_key=${server.app.key}&auth_timestamp=${Math.floor(Date.now() / 1000)}&auth_version=1.0` +
      `&body_md5=${createHash('md5').update(body).digest('hex')}`;
    const signature = createHmac('sha256', server.app.secret).update(`POST\n${path}\n${query}`).digest('hex');
    const options = { port: server.port, host: '127.0.0.1', localAddress: BACKEND, agent, method: 'POST' };
    const sent = request({ ...options, path: `${path}?${query}&auth_signature=${signature}` });
    sent.end(body);
    const [response] = await once(sent, 'response');
    response.resume();
    assert.equal(response.statusCode, 200);
    await once(response, 'end');
  }

  async function withTime(promise, what) {
    const late = delay(10_000, undefined, { ref: false }).then(() => assert.fail(`no ${what} within 10 s`));
    return Promise.race([promise, late]);
  }

  async function resident() {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) * 1024;
  }
}
