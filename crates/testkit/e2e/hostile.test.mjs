// A stranger who knows an app's key and has 100 connections from one address, against the built server with bounds for every
// address. Whatever they do, the server's memory grows by at most 64 MiB, and clients of another address connect, subscribe and
// get events. All addresses of 127.0.0.0/8 are this machine.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, test } from 'node:test';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { frame, handshake, message } from './frames.mjs';

const CONNECTIONS = 100;
const STRANGER = '127.0.0.1';
const MIB = 1024 * 1024;
/** How long each way goes on. */
const LASTS = 2000;
/**
 * The server promises others a p99 of 50 ms. Here the strangers, the clients and the server share the cores of the machine that runs
 * the tests, often with other tests, and the server may be a debug build, so the test allows ten times as much.
 */
const P99 = 10 * 50;

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
  const { Others } = await import('./others.mjs');
  const server = await startServer({
    env: { FANFARE_NETWORK_EXEMPT: 'none', FANFARE_MEMORY_LIMIT: String(2048 * MIB), FANFARE_LOG_FILTER: 'error' },
  });
  after(() => server.stop());
  const others = new Others(server);
  after(() => others.stop());

  // What the first clients and events need is no growth.
  await others.measure(500);
  const before = await others.resident();

  for (const way of Object.keys(WAYS)) {
    test(`${way} cost others little and the server a bounded amount`, async (t) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: { port: server.port, ...server.app, way } });
      try {
        await once(worker, 'message');
        const { p50, p99, connects, peak } = await others.measureBelow(P99, LASTS);
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
}
