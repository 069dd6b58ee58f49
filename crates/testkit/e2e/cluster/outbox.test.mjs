// Events that an application publishes in its own transactions: its Postgres is not that of the nodes.
import assert from 'node:assert/strict';
import pg from 'pg';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startCable } from './cable.mjs';
import { now } from './history.mjs';
import { Writers, torn } from './outbox-writer.mjs';
import { startDatabase } from './postgres.mjs';
import { report, startCluster } from './topology.mjs';
import { until } from './until.mjs';

const CHANNELS = ['orders', 'private-orders', 'stock'];
/** Events of the first test; docs/benchmarks.md has figures of more. */
const PER_SECOND = Number(process.env.FANFARE_TEST_EVENTS_PER_SECOND ?? 600);
/** A lease, and what it takes to notice. */
const TAKEN_OVER = { within: 15_000 };
/** A subscription that ends within this may be without what was committed before: it waited for the next reader. */
const CAUGHT_UP = 15_000;

let cluster, database, session;
/** Between each node and what nodes share, by the node's name. */
const cables = {};
before(async () => {
  database = await startDatabase({ own: true });
  cluster = await startCluster({ sharedPort: async (name, port) => (cables[name] = await startCable(port)).port });
  await cluster.command('outbox', 'install', '--database', database.url);
  await cluster.command('outbox', 'set', cluster.app.id, '--url', database.url);
  await connect();
});
afterEach(() => cluster.rest());
after(async () => {
  await session?.end().catch(() => {});
  await cluster?.stop();
  for (const cable of Object.values(cables)) await cable.stop();
  await database?.stop();
});

test('whichever node is killed or stopped, committed events come once in the order of commits, and others never', { timeout: 100_000 }, async (t) => {
  const { history } = cluster;
  await everybodySubscribes();
  const writers = new Writers(database.url, CHANNELS, history, PER_SECOND > 1000 ? 48 : 12, PER_SECOND);
  await until('events are committed', () => writers.committed > 2 * PER_SECOND);
  // What was committed a moment before the fault comes after it.
  const calm = now() - 200;
  for (const how of ['kill', 'stop']) {
    const [holder, reader] = await whoReads();
    const since = Date.now();
    await reader[how](10_000);
    await until('another node reads', async () => (await whoReads())[0] !== holder, TAKEN_OVER);
    t.diagnostic(`${how}: another node reads after ${Date.now() - since} ms`);
    const committed = writers.committed;
    await reader.start();
    await reader.ready();
    await until('more events are committed', () => writers.committed > committed + 300);
  }
  await everythingHasCome(writers);
  cluster.judge(t, { grace: CAUGHT_UP });
  report(history.sessions.flatMap(torn));
  t.diagnostic(speed(history, calm));
  assert.ok(history.published('refused').length > 20, 'hardly any transaction was rolled back');
});

test('while the database is away a node says so, and goes on where it stopped', { timeout: 100_000 }, async (t) => {
  const { history } = cluster;
  await everybodySubscribes();
  const writers = new Writers(database.url, CHANNELS, history, 6, PER_SECOND / 2);
  await until('events are committed', () => writers.committed > 100);
  const [, reader] = await whoReads();
  await session.end();
  await database.kill();
  await until('a node says that it cannot read', () => reader.log.includes('the outbox is not read'), TAKEN_OVER);
  const state = async () => JSON.parse(await cluster.command('outbox', 'show', cluster.app.id, '--json')).state;
  await until('its state says so', async () => (await state())?.connected === false, TAKEN_OVER);
  assert.match((await state()).last_error, /^Postgres: /);
  await database.start();
  await connect();
  const committed = writers.committed;
  await until('events are committed again', () => writers.committed > committed + 100, TAKEN_OVER);
  await everythingHasCome(writers);
  await until('its state says that it reads', async () => (await state())?.connected === true, TAKEN_OVER);
  assert.match(cluster.nodes.map(({ log }) => log).join(''), /the outbox is read again/);
  cluster.judge(t, { grace: CAUGHT_UP });
  report(history.sessions.flatMap(torn));
});

test('while what nodes share is away events wait', { timeout: 60_000 }, async () => {
  await everybodySubscribes();
  const [client] = cluster.clients;
  cluster.shared.freeze();
  await publish('"while-away"');
  await delay(1000);
  assert.deepEqual(client.session('orders')?.events ?? [], []);
  cluster.shared.thaw();
  await until('the event has come', () => has(cluster.nodes.map(({ name }) => name), '"while-away"'), TAKEN_OVER);
});

test('a node that is cut off from the others lets another one read', { timeout: 60_000 }, async () => {
  await everybodySubscribes();
  const [, reader] = await whoReads();
  const others = cluster.nodes.filter((node) => node !== reader).map(({ name }) => name);
  const cable = cables[reader.name];
  await cable.breakOff();
  try {
    await publish('"cut-off"');
    await until('the event has come to clients of other nodes', () => has(others, '"cut-off"'), TAKEN_OVER);
  } finally {
    await cable.heal();
  }
  await cluster.ready();
});

/** How fast events came that were committed before `end`, from the answer to their COMMIT to each subscriber, in words. */
function speed({ publishes, sessions }, end) {
  const committed = publishes.filter(({ outcome, answeredAt }) => outcome === 'accepted' && answeredAt < end);
  const answeredAt = new Map(committed.map((publish) => [publish.id, publish.answeredAt]));
  const events = sessions.flatMap((session) => session.events).filter(({ id }) => answeredAt.has(id));
  const late = events.map(({ id, at }) => at - answeredAt.get(id)).sort((one, other) => one - other);
  const [median, most] = [0.5, 0.99].map((part) => late[Math.floor(late.length * part)].toFixed(1));
  const rate = (1000 * committed.length) / (end - committed[0].answeredAt);
  return `${Math.round(rate)} events/s were committed; they came after ${median} ms, 99 of 100 within ${most} ms`;
}

async function connect() {
  session = new pg.Client({ connectionString: database.url });
  session.on('error', () => {});
  await session.connect();
}

async function publish(id, channel = CHANNELS[0]) {
  await session.query('SELECT fanfare.publish($1::text, $2, $3)', [channel, 'event', id]);
}

/** The holder of the lease, and its node. */
async function whoReads() {
  const { rows } = await session.query('SELECT holder FROM fanfare.reader');
  const [{ holder }] = rows;
  const name = holder?.split('/').slice(0, -1).join('/');
  return [holder, cluster.nodes.find((node) => name && node.log.includes(`"node":"${name}"`))];
}

async function everybodySubscribes() {
  // The tests themselves are the bound of a higher rate.
  const perNode = PER_SECOND > 1000 ? 1 : 2;
  const clients = cluster.nodes.flatMap((node) => Array.from({ length: perNode }, () => cluster.client(node)));
  await Promise.all(clients.flatMap((client) => CHANNELS.map((channel) => client.subscribes(channel))));
  await until('a node reads', async () => (await whoReads())[1], TAKEN_OVER);
}

function has(nodes, id) {
  const sessions = cluster.history.open(CHANNELS[0]).filter(({ node }) => nodes.includes(node));
  return sessions.length > 0 && sessions.every(({ events }) => events.some((event) => event.id === id));
}

/** Nothing is on its way any more: the outbox is empty, and an event that was committed last has come on every channel. */
async function everythingHasCome(writers) {
  await writers.stop();
  const { history } = cluster;
  const areBack = () => [...cluster.clients].every((client) => CHANNELS.every((channel) => client.session(channel)));
  await until('everybody is back', areBack, TAKEN_OVER);
  for (const channel of CHANNELS) {
    await publish('"last"', channel);
    const explain = () => JSON.stringify(history.open(channel).map(({ node, events }) => [node, events.at(-1)]));
    const is = ({ events }) => events.at(-1)?.id === '"last"';
    await until(`the last event on ${channel} has come`, () => history.open(channel).every(is), { ...TAKEN_OVER, explain });
    history.sessions.filter((one) => one.channel === channel).forEach(({ events }) => events.at(-1)?.id === '"last"' && events.pop());
  }
}
