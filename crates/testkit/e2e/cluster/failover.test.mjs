// Nodes that share a Postgres: it is restarted, and it fails over to a standby that has followed it.
import { after, afterEach, before, test } from 'node:test';
import { startCable } from './cable.mjs';
import { DRAIN, startCluster } from './topology.mjs';
import { until } from './until.mjs';

const [ROOM, NEWS] = ['presence-room', 'news'];
const RECOVERED = { within: 20_000 + DRAIN * 1000 };
const TIME_LIMIT = { timeout: 90_000 };

let cluster, cable;
before(async () => {
  const sharedPort = async (_name, port) => (cable ??= await startCable(port)).port;
  // The store goes with it.
  const ownEnv = (_name, { url }) => ({ DATABASE_URL: Object.assign(new URL(url), { port: cable.port }).href });
  cluster = await startCluster({ sharedPort, ownEnv, onPostgres: true });
});
afterEach(() => cluster.rest());
after(async () => {
  await cluster?.stop();
  await cable?.stop();
});

test('a restart of Postgres loses nothing without telling', TIME_LIMIT, (t) =>
  survives(t, async () => {
    await cluster.shared.end();
    await cluster.shared.start();
  }));

test('a standby that takes over has nothing of what nodes share, and nothing is lost without telling', TIME_LIMIT, async (t) => {
  const standby = await cluster.keep(cluster.shared.standby());
  await survives(t, async () => {
    await cluster.shared.kill();
    await standby.promote();
    cable.redirect(standby.port);
    cable.reset();
  });
});

async function survives(t, fault) {
  const { nodes } = cluster;
  const clients = nodes.flatMap((node) => [
    ...Array.from({ length: 10 }, (_, n) => cluster.client(node, { user: `${node.name}-${n}` })),
    ...Array.from({ length: 3 }, (_, n) => cluster.pusherJs(node, { user: `pusher-js-${node.name}-${n}` })),
  ]);
  clients.forEach((client) => client.subscribe(ROOM, NEWS));
  const allAreBack = async () => {
    await until('all are subscribed', () => clients.every((client) => client.session(ROOM) && client.session(NEWS)), RECOVERED);
    await cluster.viewsAreRight(RECOVERED);
    await cluster.countsAreRight(ROOM, RECOVERED);
  };
  await allAreBack();
  const publishers = [NEWS, ROOM].flatMap((channel) => nodes.map((node) => cluster.publisher(channel, () => [node])));
  const eventsAreTaken = async () => {
    const before = publishers.map(({ accepted }) => accepted);
    await until('events are taken at every node', () => publishers.every(({ accepted }, n) => accepted > before[n] + 10), RECOVERED);
  };
  await eventsAreTaken();

  const from = Date.now();
  await fault();
  await cluster.ready(RECOVERED);
  await eventsAreTaken();
  const to = Date.now();
  t.diagnostic(`events are taken again after ${to - from} ms`);
  await allAreBack();

  await Promise.all(publishers.map((publisher) => publisher.stop()));
  await Promise.all([NEWS, ROOM].map((channel) => cluster.flush(channel)));
  cluster.judge(t);
  await cluster.judgeNotices(t, { resets: [{ from, to }] });
}
