// A stranger who knows an app's key and has 100 connections from one address, against a node of a cluster. All nodes share Redis,
// so clients of every node notice what holds it up.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { handshake, message } from '../frames.mjs';

const CONNECTIONS = 100;
const STRANGER = '127.0.0.1';
const MIB = 1024 * 1024;
/** How long the strangers go on. */
const LASTS = Number(process.env.FANFARE_HOSTILE_SECONDS ?? 5) * 1000;
/** As in ../hostile.test.mjs: ten times what is promised, because everything shares the cores of one machine. */
const P99 = 10 * 50;
/** Histories of the largest size: one of as many events as there may be, one of more bytes than one subscription is sent. */
const HISTORIES = {
  'deep-small': { events: 10_000, bytes: 20 },
  'deep-large': { events: 500, bytes: 10 * 1024 },
};

if (isMainThread) {
  await runTests();
} else {
  beStranger(workerData);
}

/** Subscribes with each of 100 connections to a history, unsubscribes when all of it has come, and begins again. */
function beStranger({ port, key }) {
  let answered = 0;
  const channels = Object.keys(HISTORIES);
  for (let number = 0; number < CONNECTIONS; number += 1) open(number);
  setInterval(() => parentPort.postMessage({ answered }), 100).unref();

  function open(number) {
    const channel = channels[number % channels.length];
    const { events, bytes } = HISTORIES[channel];
    const subscribe = message('pusher:subscribe', { channel, recover: true, rewind: events });
    const again = Buffer.concat([message('pusher:unsubscribe', { channel }), subscribe]);
    const socket = connect({ port, host: '127.0.0.1', localAddress: STRANGER });
    // Most of what fits into one answer.
    const enough = Math.min(events * bytes, 3.5 * MIB);
    let received = 0;
    socket.on('error', () => {});
    socket.on('close', () => setTimeout(open, 100, number));
    socket.once('connect', () => socket.write(Buffer.concat([Buffer.from(handshake(key)), subscribe])));
    socket.on('data', (chunk) => {
      received += chunk.length;
      if (received < enough) return;
      received = 0;
      answered += 1;
      socket.write(again);
    });
  }
}

async function runTests() {
  const { startCluster } = await import('./topology.mjs');
  const { Others } = await import('../others.mjs');
  let cluster;
  before(async () => {
    cluster = await startCluster({
      nodes: 2,
      settings: {
        history: JSON.stringify([{ channels: 'deep-*', size: 10_000, ttl: 3600 }]),
        'limits.batch_events': 50,
      },
      env: { FANFARE_NETWORK_EXEMPT: 'none', FANFARE_MEMORY_LIMIT: String(2048 * MIB), FANFARE_LOG_FILTER: 'error' },
    });
    for (const [channel, { events, bytes }] of Object.entries(HISTORIES)) await fill(channel, events, bytes);
  });
  after(() => cluster?.stop());

  test('reads of the longest histories cost others little and a node a bounded amount', { timeout: 60_000 + 3 * LASTS }, async (t) => {
    const [node, elsewhere] = cluster.nodes;
    const [here, there] = [node, elsewhere].map(({ port, pid }) => new Others({ port, pid, app: cluster.app }));
    const calm = await here.measure(LASTS / 4);
    const before = await here.resident();
    const worker = new Worker(new URL(import.meta.url), { workerData: { port: node.port, key: cluster.app.key } });
    let answered = 0;
    worker.on('message', (said) => ({ answered } = said));
    try {
      await once(worker, 'message');
      const [busy, other] = await Promise.all([here.measureBelow(P99, LASTS), there.measureBelow(P99, LASTS)]);
      const grown = (busy.peak - before) / MIB;
      const times = ({ p50, p99 }) => `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`;
      t.diagnostic(
        `${answered} histories read, memory grew by ${grown.toFixed(1)} MiB; events ${times(busy)}, on the other node ` +
          `${times(other)}; without strangers ${times(calm)}`,
      );
      assert.ok(answered > 0, 'the strangers read nothing');
      assert.ok(grown <= 64, `the node's memory grew by ${grown} MiB`);
      for (const { p99 } of [busy, other]) assert.ok(p99 < P99, `p99 ${p99} ms`);
    } finally {
      await worker.terminate();
      for (const others of [here, there]) others.stop();
    }
  });

  async function fill(channel, events, bytes) {
    const batch = Array.from({ length: Math.min(events, 50) }, () => ({ name: 'e', channel, data: 'x'.repeat(bytes) }));
    for (let filled = 0; filled < events; filled += batch.length) {
      const answer = await cluster.backend.send(cluster.nodes[0], 'POST', '/batch_events', { body: { batch } });
      assert.equal(answer.status, 200, answer.text);
    }
  }
}
