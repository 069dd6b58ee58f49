// What nodes share, and what they keep: two nodes with clients at both, 500 events a second, five silent minutes, and a fault under load.
import { setTimeout as delay } from 'node:timers/promises';
import { judgeDelivery } from '../e2e/cluster/oracle.mjs';
import { startCluster } from '../e2e/cluster/topology.mjs';
import { until } from '../e2e/cluster/until.mjs';

const NEWS = 'news';
const FLOOD = 'flood';
const CLIENTS = 3;
/** Each has one event on its way: together 500 events a second and more, if the machine lets them. */
const PUBLISHERS = 50;
const PAUSE = 60;
/** Eight seconds, and less where only a row's definition is tried. */
const loadTime = (idle) => Math.min(8_000, 1_000 + idle * 1_000);
/** How long what is found after a fault may take. */
const RECOVERED = { within: 90_000, every: 50 };

export const steps = {
  serve: { title: 'serves', needed: true },
  load: { title: 'events a second', needed: true },
  idle: { title: 'idle 300 s', needed: true },
  fault: { title: 'nothing lost unseen', needed: true },
  back: { title: 'takes events again', needed: true },
};

/**
 * Makes a row. `start(temporary)` returns `version`; `url`, what nodes share, or `onPostgres`; `env` of the nodes; `fault`, which gets the
 * nodes, and `stop`.
 */
export function storeRow({ start, ...row }) {
  return { ...row, run: async (context) => runStore(start, context) };
}

async function runStore(install, { idle, say, temporary }) {
  const begun = {};
  try {
    const steps = await alone(async () => {
      begun.store = await install(temporary);
      say(`runs with ${begun.store.version}`);
      return begin(begun, loadTime(idle));
    });
    const { store, cluster, clients } = begun;
    steps.idle = await idleFor(cluster, clients, idle);
    Object.assign(steps, await alone(() => faulty(cluster, clients, store)));
    return { version: store.version, steps, seen: seen(cluster.history) };
  } catch (error) {
    for (const { name, log } of begun.cluster?.nodes ?? []) say(`the log of ${name} ends:\n${log.slice(-1500)}`);
    throw error;
  } finally {
    await begun.cluster?.stop();
    await begun.store?.stop();
  }
}

/** Starts the nodes and their clients, and publishes for a while. */
async function begin(begun, time) {
  const { store } = begun;
  const ownEnv = () => (store.url ? { FANFARE_CLUSTER_URL: store.url } : (store.shared ?? {}));
  const env = { FANFARE_LOG_FILTER: 'info', ...store.env };
  begun.cluster = await startCluster({ nodes: 2, env, ownEnv, onPostgres: Boolean(store.onPostgres) });
  const { cluster } = begun;
  begun.clients = cluster.nodes.flatMap((node) => Array.from({ length: CLIENTS }, () => cluster.client(node)));
  for (const client of begun.clients) await client.subscribes(NEWS);
  // Nobody judges these events: they are there to be many.
  await cluster.client(cluster.nodes[1]).subscribes(FLOOD);
  return { serve: 'yes', load: await load(cluster, time) };
}

/** What has become of all events, and how clients were told. */
function seen(history) {
  const count = (outcome) => history.published(outcome).length;
  const codes = [...new Set(history.closings.map(({ code }) => code ?? 'lost'))].sort();
  const told = history.closings.length > 0 ? `${history.closings.length} connections were closed to tell so, with ${codes.join(', ')}` : 'no connection was closed';
  return `${count('accepted')} events were answered with 200, ${count('refused')} refused, ${count('unknown')} not answered; ${told}.`;
}

let before = Promise.resolve();

/** One after the other: what is under load wants the machine. Rows that are silent meanwhile don't. */
function alone(work) {
  const turn = before.then(work);
  before = turn.catch(() => {});
  return turn;
}

function publish(cluster) {
  const { nodes } = cluster;
  return Array.from({ length: PUBLISHERS }, (_, n) => cluster.publisher(NEWS, () => [nodes[n % nodes.length]], { pause: PAUSE }));
}

async function stopAll(publishers) {
  await Promise.all(publishers.map((publisher) => publisher.stop()));
}

const accepted = (publishers) => publishers.reduce((sum, publisher) => sum + publisher.accepted, 0);

async function load(cluster, time) {
  const publishers = publish(cluster);
  const began = performance.now();
  await delay(time);
  const rate = Math.round(accepted(publishers) / ((performance.now() - began) / 1000));
  await stopAll(publishers);
  await cluster.flush(NEWS, RECOVERED);
  const { problems } = judgeDelivery(cluster.history);
  return problems.length === 0 ? `yes, ${rate}` : `no: ${problems[0]}`;
}

async function idleFor(cluster, clients, idle) {
  const before = cluster.history.closings.length;
  await delay(idle * 1000);
  const ended = cluster.history.closings.length - before;
  await cluster.flush(NEWS, RECOVERED);
  return ended === 0 && clients.every(({ connected }) => connected) ? 'yes' : `no: ${ended} connections ended`;
}

async function faulty(cluster, clients, { fault }) {
  const { nodes } = cluster;
  const publishers = publish(cluster);
  await delay(2000);
  await fault({ nodes, flood: (done) => flood(cluster, done), refused: () => publishers.some(({ publishes }) => publishes.at(-1)?.outcome === 'refused') });
  const ended = performance.now();
  const marks = publishers.map((publisher) => publisher.accepted);
  await until('events are taken at every node', () => publishers.every((publisher, n) => publisher.accepted > marks[n] + 3), RECOVERED);
  const after = ((performance.now() - ended) / 1000).toFixed(1);
  await cluster.ready({ within: RECOVERED.within });
  await until('all are subscribed', () => clients.every((client) => client.session(NEWS)), RECOVERED);
  await delay(2000);
  await stopAll(publishers);
  await cluster.flush(NEWS, RECOVERED);
  const { problems } = judgeDelivery(cluster.history);
  return {
    fault: problems.length === 0 ? 'yes' : `no: ${problems.length}, such as ${problems[0]}`,
    back: `yes, after ${after} s`,
  };
}

/** Large events that only the second node's clients want, until `done()`. */
async function flood(cluster, done) {
  const [first] = cluster.nodes;
  const body = { batch: Array(10).fill({ name: 'flood', channel: FLOOD, data: 'x'.repeat(10_000) }) };
  const deadline = Date.now() + 15_000;
  while (!done() && Date.now() < deadline) {
    await Promise.all(Array.from({ length: 20 }, () => cluster.backend.send(first, 'POST', '/batch_events', { body })));
  }
}
