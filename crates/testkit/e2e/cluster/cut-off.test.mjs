// The network between one node and what nodes share fails, in both ways that networks do.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { startCable } from './cable.mjs';
import { now } from './history.mjs';
import { DEAD_WITHIN, DRAIN, startCluster } from './topology.mjs';
import { until } from './until.mjs';

const RECOVERED = { within: 20_000 + DRAIN * 1000 };
const TIME_LIMIT = { timeout: 90_000 };

let cluster, cable;
before(async () => {
  const sharedPort = async (name, port) => (name === 'C' ? (cable = await startCable(port)).port : port);
  cluster = await startCluster({ sharedPort });
});
afterEach(async () => {
  await cable.heal();
  await cluster.rest();
});
after(async () => {
  await cluster?.stop();
  await cable?.stop();
});

test('a node that hears nothing any more refuses events until it does, and its clients are told', TIME_LIMIT, (t) =>
  cutOff(t, 'presence-silent', 'silent', () => cable.goSilent()));

test('a node whose connections break refuses events until it has new ones, and its clients are told', TIME_LIMIT, (t) =>
  cutOff(t, 'presence-broken', 'broken', () => cable.breakOff()));

async function cutOff(t, room, news, cut) {
  const { nodes, history } = cluster;
  const [a, b, c] = nodes;
  const others = [a, b];
  const clients = nodes.flatMap((node) => Array.from({ length: 10 }, (_, n) => cluster.client(node, { user: `${node.name}-${n}` })));
  clients.forEach((client) => client.subscribe(room, news));
  const allAreBack = async () => {
    await until('all are subscribed', () => clients.every((client) => client.session(room) && client.session(news)), RECOVERED);
    await cluster.viewsAreRight(RECOVERED);
    await cluster.countsAreRight(room, RECOVERED);
  };
  await allAreBack();
  const publishers = [news, room].flatMap((channel) => nodes.map((node) => cluster.publisher(channel, () => [node])));
  const eventsAreTaken = async (node) => {
    const some = () => history.publishes.filter((one) => one.node === node.name && one.outcome === 'accepted').length;
    const before = some();
    await until(`events are taken at ${node.name}`, () => some() > before + 20, RECOVERED);
  };
  await Promise.all(nodes.map(eventsAreTaken));

  const closings = history.closings.length;
  const watching = others.flatMap((node) => history.open(room).filter((session) => session.node === node.name));
  const cutAt = now();
  await cut();
  await until('the node is not ready', async () => (await c.probe()) === 503, { within: DEAD_WITHIN });
  const unreadyAt = now();
  const names = clients.filter(({ node }) => node === c.name).map(({ user }) => user);
  const isRemoval = (edge, id) => edge.kind === 'removed' && edge.id === id && edge.at > cutAt;
  const removals = (session, id) => session.edges.filter((edge) => isRemoval(edge, id)).length;
  await until('the others say that its users are gone', () => watching.every((one) => names.every((id) => removals(one, id) > 0)), {
    within: DEAD_WITHIN,
  });
  t.diagnostic(`unready after ${Math.round(unreadyAt - cutAt)} ms, its users gone after ${Math.round(now() - cutAt)} ms`);
  await cluster.ready({ nodes: others });
  await Promise.all(others.map(eventsAreTaken));
  const refused = history.publishes.filter(({ node, sentAt }) => node === c.name && sentAt > unreadyAt);
  assert.ok(refused.length > 10);
  for (const { status, retryAfter, text } of refused) {
    assert.equal(status, 503, text);
    assert.match(retryAfter ?? '', /^\d+$/);
  }
  assert.equal(history.closings.length, closings, 'clients were sent away before the node was back');

  for (const session of watching) {
    names.forEach((id) => assert.equal(removals(session, id), 1, `${id} was removed more than once`));
  }
  await cable.heal();
  await cluster.ready(RECOVERED);
  await until('its clients are sent away', () => history.closings.length >= closings + names.length, RECOVERED);
  await allAreBack();
  await Promise.all(nodes.map(eventsAreTaken));
  await Promise.all(publishers.map((publisher) => publisher.stop()));
  await Promise.all([news, room].map((channel) => cluster.flush(channel)));
  const { unknown } = cluster.judge(t);
  assert.ok(unknown <= 2 * 2, `${unknown} publishes have an unknown outcome`);
  const sentAway = history.closings.slice(closings).map(({ node, code }) => `${node} ${code}`);
  assert.deepEqual([...new Set(sentAway)], ['C 4101']);
  await cluster.judgeNotices(t);
}
