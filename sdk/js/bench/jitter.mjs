// Clients whose network is cut again and again, while events come: what each library receives of them.
//
//   FANFARE_BIN=target/release/fanfare node sdk/js/bench/jitter.mjs [--clients 500] [--seconds 60] [--nodes 1]
//
// Each client's TCP connection is cut every five seconds, and its network is away for one. With `--nodes 2` both nodes are restarted, one
// after the other, in the middle. Ends with an error where the SDK or a wrapped pusher-js missed, doubled or swapped anything.
import { parseArgs } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import Pusher from 'pusher-js';
import { WebSocket } from 'ws';
import { Fanfare } from '../dist/es/index.js';
import { recover } from '../dist/es/recover.js';
import { Network } from './network.mjs';
import { startServers } from './servers.mjs';

const CHANNEL = 'room-jitter';
const EVENTS_PER_SECOND = 2;
/** How long clients may take to have everything after the last event. */
const TIMEOUT = 30_000;

const { values } = parseArgs({
  options: {
    clients: { type: 'string', default: '500' },
    seconds: { type: 'string', default: '60' },
    nodes: { type: 'string', default: '1' },
  },
});
const [clients, seconds, nodes] = [values.clients, values.seconds, values.nodes].map(Number);

const libraries = {
  '@fanfare/client': (key, port, received) => {
    const client = new Fanfare(key, { url: `http://127.0.0.1:${port}`, transports: ['websocket'], WebSocket });
    client.channel(CHANNEL).bind('tick', ({ id }) => received.push(id));
    return () => client.disconnect();
  },
  'pusher-js with recover()': (key, port, received) => {
    const pusher = recover(pusherJs(key, port));
    pusher.subscribe(CHANNEL).bind('tick', ({ id }) => received.push(id));
    return () => pusher.disconnect();
  },
  'pusher-js': (key, port, received) => {
    const pusher = pusherJs(key, port);
    pusher.subscribe(CHANNEL).bind('tick', ({ id }) => received.push(id));
    return () => pusher.disconnect();
  },
};

function pusherJs(key, wsPort) {
  return new Pusher(key, { cluster: 'x', wsHost: '127.0.0.1', wsPort, forceTLS: false, enabledTransports: ['ws'] });
}

/** Clients of a library, each behind a network of its own. */
async function start(library, servers) {
  const all = [];
  for (let number = 0; number < clients; number += 1) {
    const network = await Network.start(() => servers.port());
    const received = [];
    const stop = libraries[library](servers.app.key, network.port, received);
    all.push({ network, received, stop });
  }
  return all;
}

function judge(all, sent) {
  const counts = { received: 0, doubled: 0, swapped: 0 };
  for (const { received } of all) {
    counts.received += new Set(received).size;
    counts.doubled += received.length - new Set(received).size;
    counts.swapped += received.filter((id, index) => index > 0 && id < received[index - 1]).length;
  }
  return { ...counts, expected: all.length * sent };
}

async function until(condition) {
  const deadline = performance.now() + TIMEOUT;
  while (!condition() && performance.now() < deadline) await delay(100);
}

const servers = await startServers(nodes, CHANNEL);
let failed = false;
try {
  const running = {};
  for (const library of Object.keys(libraries)) running[library] = await start(library, servers);
  // Everybody is there before the first event.
  await servers.settled(CHANNEL, 3 * clients);
  const everyone = Object.values(running).flat();
  everyone.forEach(({ network }, number) => network.jitter({ every: 5000, away: 1000, first: (number * 5000) / everyone.length }));
  const restarting = nodes > 1 ? delay((seconds * 1000) / 3).then(() => servers.restartAll()) : undefined;
  const total = seconds * EVENTS_PER_SECOND;
  const begin = performance.now();
  for (let id = 1; id <= total; id += 1) {
    await delay(Math.max(0, begin + (id * 1000) / EVENTS_PER_SECOND - performance.now()));
    await servers.publish(CHANNEL, 'tick', { id });
  }
  await restarting;
  everyone.forEach(({ network }) => network.calm());
  const complete = (library) => running[library].every(({ received }) => new Set(received).size === total);
  await until(() => complete('@fanfare/client') && complete('pusher-js with recover()'));
  console.log(`${clients} clients of each library, ${total} events, ${nodes} node(s)${nodes > 1 ? ', each restarted once' : ''}`);
  for (const [library, all] of Object.entries(running)) {
    const { received, expected, doubled, swapped } = judge(all, total);
    const share = ((100 * received) / expected).toFixed(2);
    console.log(`${library.padEnd(26)} ${share.padStart(6)} %   missing ${expected - received}, doubled ${doubled}, swapped ${swapped}`);
    if (library !== 'pusher-js' && (received !== expected || doubled + swapped > 0)) failed = true;
  }
  everyone.forEach(({ stop, network }) => {
    stop();
    network.stop();
  });
} finally {
  await servers.stop();
}
process.exit(failed ? 1 : 0);
