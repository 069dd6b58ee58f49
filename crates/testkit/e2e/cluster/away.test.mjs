// What nodes share stands still, then dies and comes back without its memory.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { now } from './history.mjs';
import { DRAIN, report, startCluster } from './topology.mjs';
import { until } from './until.mjs';

const [ROOM, NEWS] = ['presence-room', 'news'];
const FROZEN = 20_000;
/** Within this a publish that cannot be taken is answered: the 3.5 s that a node waits, and as much again for a machine that is busy. */
const FAST = 7_000;
/** Reconnecting, closing what may have missed something, and coming back. */
const RECOVERED = { within: 20_000 + DRAIN * 1000 };

let cluster, clients, publishers;
before(async () => (cluster = await startCluster()));
after(() => cluster?.stop());

test('while it is away nothing is taken, and after it is back nothing that was taken is missing', { timeout: 110_000 }, async (t) => {
  const { nodes } = cluster;
  clients = nodes.flatMap((node) => [
    ...Array.from({ length: 20 }, (_, n) => cluster.client(node, { user: `user-${node.name}-${n}` })),
    ...Array.from({ length: 3 }, (_, n) => cluster.pusherJs(node, { user: `pusher-js-${node.name}-${n}` })),
  ]);
  clients.forEach((client) => client.subscribe(ROOM, NEWS));
  await allAreBack();
  publishers = [NEWS, ROOM].flatMap((channel) => nodes.map((node) => cluster.publisher(channel, () => [node])));
  await eventsAreTaken();

  await standStill(t);
  const resets = [await dieWithMemory(t)];

  await Promise.all(publishers.map((publisher) => publisher.stop()));
  await Promise.all([NEWS, ROOM].map((channel) => cluster.flush(channel)));
  const { unknown } = cluster.judge(t);
  // Each publisher has a request under way when it dies, and one or two while nobody knows yet that it stands still.
  assert.ok(unknown <= publishers.length * 3, `${unknown} publishes have an unknown outcome`);
  // One that was between its two subscriptions when the connection was lost again gets 4100 for the second.
  const whole = sentAway(0).filter(({ subscriptions }) => subscriptions === 2);
  assert.deepEqual([...new Set(whole.map(({ code }) => code))], [4101]);
  await cluster.judgeNotices(t, { resets });
});

async function standStill(t) {
  const { history, shared } = cluster;
  const [since, closings] = [now(), history.closings.length];
  shared.freeze();
  comeAndGo('while it stood still', since);
  await delay(FROZEN);
  assert.deepEqual(sentAway(closings), [], 'connections were closed while it stood still');
  const during = history.publishes.filter(({ sentAt }) => sentAt > since + 500);
  assert.ok(during.length > publishers.length * 3, `only ${during.length} publishes were answered`);
  report(during.filter(({ outcome }) => outcome === 'accepted').map(({ id, node }) => `${node} took ${id} while it stood still`));
  shared.thaw();
  await cluster.ready(RECOVERED);
  await eventsAreTaken();
  await allAreBack();
  refusedFast(since);
  t.diagnostic(`it stood still: ${during.length} publishes were answered, ${sentAway(closings).length} clients sent away`);
}

/** The span in which notices count for nothing. */
async function dieWithMemory(t) {
  const { history, shared } = cluster;
  const [since, closings, from] = [now(), history.closings.length, Date.now()];
  const disturbed = [...history.open(NEWS), ...history.open(ROOM)];
  await shared.kill();
  const refused = () => history.publishes.filter(({ outcome, sentAt }) => outcome === 'refused' && sentAt > since);
  await until('publishes are refused', () => refused().length > 20);
  comeAndGo('while it was dead', since);
  await shared.start();
  await cluster.ready(RECOVERED);
  const to = Date.now();
  await eventsAreTaken();
  const untold = () => disturbed.filter(({ end }) => end === 'open');
  await until('all who may have missed something are sent away', () => untold().length === 0, RECOVERED);
  await allAreBack();
  refusedFast(since);
  soon(new Set(disturbed.map(({ socketId }) => socketId)));
  t.diagnostic(`it died: ready again after ${to - from} ms, ${sentAway(closings).length} clients sent away`);
  return { from, to };
}

/** Nobody can be told now; afterwards all must know. Those who go may have missed what was accepted shortly before `since`. */
function comeAndGo(when, since) {
  for (const node of cluster.nodes) {
    const going = clients.filter((client) => client.node === node.name).slice(0, 2);
    cluster.leave(going, { wholeUntil: since });
    clients = clients.filter((client) => !going.includes(client));
    clients.push(cluster.client(node, { user: `came-to-${node.name}-${when.replaceAll(' ', '-')}` }).subscribe(ROOM, NEWS));
  }
}

/** Whoever had no subscription had nothing to miss. */
function sentAway(since) {
  return cluster.history.closings.slice(since).filter(({ subscriptions }) => subscriptions > 0);
}

async function allAreBack() {
  await until('all are subscribed', () => clients.every((client) => client.session(ROOM) && client.session(NEWS)), RECOVERED);
  await cluster.viewsAreRight(RECOVERED);
  await cluster.countsAreRight(ROOM, RECOVERED);
}

async function eventsAreTaken() {
  const before = publishers.map(({ accepted }) => accepted);
  await until('events are taken at every node', () => publishers.every(({ accepted }, n) => accepted > before[n] + 10), RECOVERED);
}

function refusedFast(since) {
  for (const { id, sentAt, took, status, outcome, retryAfter, text } of cluster.history.publishes) {
    if (sentAt < since) continue;
    assert.ok(took < FAST, `${id} was answered after ${Math.round(took)} ms`);
    if (outcome === 'accepted') continue;
    assert.equal(status, 503, `${id}: ${status} ${text}`);
    assert.match(retryAfter ?? '', /^\d+$/, `${id}: no Retry-After`);
  }
}

/**
 * A 200 of this time reaches only who has come back, so that the others are told soon after each other. pusher-js says a second later
 * that it was sent away.
 */
function soon(sockets) {
  const closings = sentAway(0).filter(({ socketId }) => sockets.has(socketId));
  for (const { name } of cluster.nodes) {
    const times = closings.filter(({ node }) => node === name).map(({ at }) => at).sort((one, other) => one - other);
    const [first, last] = [0.1, 0.75].map((part) => times[Math.floor(times.length * part)]);
    assert.ok(last - first < 1000, `most of ${times.length} clients of ${name} were sent away within ${Math.round(last - first)} ms`);
  }
}
