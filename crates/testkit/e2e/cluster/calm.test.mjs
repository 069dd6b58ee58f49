// A cluster to which nothing happens, but for many people who do things at the same moment.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { report, startCluster } from './topology.mjs';
import { until } from './until.mjs';

const USERS = 100;
const TIME_LIMIT = { timeout: 60_000 };

let cluster;
before(async () => (cluster = await startCluster({ settings: { 'limits.presence_members': 500 } })));
afterEach(() => cluster.rest());
after(() => cluster?.stop());

test('a hundred users who join over three nodes at the same moment all see each other, and leave no trace', TIME_LIMIT, async (t) => {
  const room = 'presence-storm';
  const { nodes, history } = cluster;
  const observers = nodes.map((node) => cluster.client(node, { user: `observer-${node.name}`, info: { role: 'observer' } }));
  await Promise.all(observers.map((observer) => observer.subscribes(room)));
  // Every fourth is unmodified pusher-js.
  const users = Array.from({ length: USERS }, (_, n) => {
    const [node, user] = [nodes[n % nodes.length], `user-${n}`];
    return n % 4 === 3 ? cluster.pusherJs(node, { user }) : cluster.client(node, { user });
  });
  await until('all are connected', () => users.every((user) => user.connected));
  users.forEach((user) => user.subscribe(room));
  await until('all are subscribed', () => users.every((user) => user.session(room)), { within: 20_000 });
  await cluster.viewsAreRight();
  await cluster.countsAreRight(room);
  for (const observer of observers) sawEachOnce(observer.session(room), 'added');

  // The same users again, on other nodes: nobody came.
  const before = edges(history);
  const tabs = users.slice(0, 20).map(({ user }, n) => cluster.client(nodes[(n + 1) % nodes.length], { user }));
  await Promise.all(tabs.map((tab) => tab.subscribes(room)));
  await cluster.flush(room);
  cluster.leave(tabs);
  await cluster.flush(room);
  assert.equal(edges(history), before);

  users.forEach((user, n) => n % 2 === 0 && user.unsubscribe(room));
  cluster.leave(users.filter((_, n) => n % 2 === 1));
  await cluster.viewsAreRight();
  await cluster.countsAreRight(room);
  for (const observer of observers) sawEachOnce(observer.session(room), 'removed');

  cluster.leave([...users, ...observers]);
  await cluster.countsAreRight(room);
  cluster.judge(t);
  await cluster.judgeNotices(t);
});

test('whoever comes and goes on all nodes at once, views and edges agree', TIME_LIMIT, async (t) => {
  const room = 'presence-coming-and-going';
  const { nodes } = cluster;
  const observers = nodes.map((node) => cluster.client(node, { user: `observer-${node.name}` }));
  await Promise.all(observers.map((observer) => observer.subscribes(room)));
  // Two tabs for each, on different nodes, so that the last one to go and the first one to come meet.
  const tabs = Array.from({ length: 60 }, (_, n) => cluster.client(nodes[n % nodes.length], { user: `user-${n % 30}` }));
  await Promise.all(tabs.map((tab) => tab.connects()));
  await Promise.all(
    tabs.map(async (tab, n) => {
      for (let round = 0; round < 5; round += 1) {
        await tab.subscribes(room);
        if (round < 4 || n % 3 === 0) tab.unsubscribe(room);
      }
    }),
  );
  await cluster.viewsAreRight();
  await cluster.countsAreRight(room);
  await cluster.flush(room);
  cluster.judge(t);
  cluster.leave([...tabs, ...observers]);
  await cluster.countsAreRight(room);
  await cluster.judgeNotices(t);
});

function sawEachOnce(session, kind) {
  const ids = session.edges.filter((edge) => edge.kind === kind && edge.id.startsWith('user-')).map(({ id }) => id);
  const missing = Array.from({ length: USERS }, (_, n) => `user-${n}`).filter((id) => !ids.includes(id));
  report(missing.map((id) => `the observer on ${session.node} was not told that ${id} was ${kind}`));
  assert.equal(ids.length, USERS, `${ids.length} edges on ${session.node}`);
}

function edges({ sessions }) {
  return sessions.reduce((sum, session) => sum + session.edges.length, 0);
}
