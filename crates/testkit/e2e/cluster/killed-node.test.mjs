// A node dies without a word.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { DEAD_WITHIN, startCluster } from './topology.mjs';
import { until } from './until.mjs';

const TIME_LIMIT = { timeout: 60_000 };

let cluster;
before(async () => (cluster = await startCluster()));
afterEach(() => cluster.rest());
after(() => cluster?.stop());

test('who was on a killed node is gone once within ten seconds, and the others lose nothing', TIME_LIMIT, async (t) => {
  const [ROOM, NEWS, LONELY] = ['presence-room', 'news', 'only-on-the-dead'];
  const [a, b, dead] = cluster.nodes;
  const survivors = [a, b];
  const doomed = (user) => cluster.client(dead, { user, returns: false });
  const stays = survivors.flatMap((node) => Array.from({ length: 5 }, (_, n) => cluster.client(node, { user: `stays-${node.name}-${n}` })));
  const gone = Array.from({ length: 10 }, (_, n) => doomed(`gone-${n}`));
  const tabs = Array.from({ length: 5 }, (_, n) => [doomed(`both-${n}`), cluster.client(survivors[n % 2], { user: `both-${n}` })]).flat();
  // They look for another node as soon as they have lost theirs, long before the others know that it is dead.
  const moving = Array.from({ length: 5 }, (_, n) => {
    const nodes = [dead, a];
    return cluster.client(() => (nodes.length > 1 ? nodes.shift() : nodes[0]), { user: `moves-${n}` });
  });
  const all = [...stays, ...gone, ...tabs, ...moving];
  await Promise.all(all.flatMap((client) => [client.subscribes(ROOM), client.subscribes(NEWS)]));
  await gone[0].subscribes(LONELY);
  await cluster.viewsAreRight();
  await cluster.areOccupied(ROOM, NEWS, LONELY);
  const watching = stays.map((client) => client.session(ROOM));

  let nodes = cluster.nodes;
  const publishers = [NEWS, ROOM].map((channel) => cluster.publisher(channel, () => nodes));
  await until('some events are published', () => publishers.every(({ accepted }) => accepted > 30));
  const killedAt = Date.now();
  await dead.kill();
  nodes = survivors;
  const names = gone.map(({ user }) => user);
  const removed = (session, id) => session.edges.filter((edge) => edge.kind === 'removed' && edge.id === id).length;
  await until('those who were only there are gone', () => watching.every((one) => names.every((id) => removed(one, id) > 0)), {
    within: DEAD_WITHIN,
  });
  t.diagnostic(`gone after ${Date.now() - killedAt} ms`);
  await cluster.viewsAreRight({ within: DEAD_WITHIN });
  await cluster.countsAreRight(ROOM, { nodes: survivors });
  for (const node of survivors) {
    const { channels } = await cluster.backend.get(node, '/channels');
    assert.deepEqual(Object.keys(channels).sort(), [NEWS, ROOM].sort());
  }
  await cluster.ready({ nodes: survivors });
  const before = publishers.map(({ accepted }) => accepted);
  await until('events are taken again', () => publishers.every(({ accepted }, n) => accepted > before[n] + 30));

  await dead.start();
  await dead.ready();
  nodes = cluster.nodes;
  const returned = Array.from({ length: 5 }, (_, n) => cluster.client(dead, { user: `gone-${n}` }));
  await Promise.all(returned.map((client) => client.subscribes(ROOM)));
  await cluster.viewsAreRight();
  await cluster.countsAreRight(ROOM);

  await Promise.all(publishers.map((publisher) => publisher.stop()));
  await Promise.all([NEWS, ROOM].map((channel) => cluster.flush(channel)));
  cluster.judge(t);
  for (const session of watching) {
    assert.equal(session.end, 'open', 'clients of other nodes were disturbed');
    names.forEach((id) => assert.equal(removed(session, id), 1, `${id} was removed more than once`));
    tabs.forEach(({ user }) => assert.equal(removed(session, user), 0, `${user} is still there on another node`));
  }
  // Nobody came or went at that moment, so that no notice can have died with the node.
  const told = cluster.notices.filter(({ notice, at }) => at > killedAt && ['member_removed', 'vacated'].includes(notice));
  for (const id of names) assert.equal(told.filter(({ user_id }) => user_id === id).length, 1, `notices of ${id}`);
  assert.equal(told.filter(({ channel }) => channel === LONELY).length, 1);
  await cluster.judgeNotices(t);
});

test('who is back on a node that was started again at once has never left, and who is not is gone', TIME_LIMIT, async (t) => {
  const [room, news] = ['presence-again', 'news-again'];
  const [a, b, dead] = cluster.nodes;
  const observers = [a, b].map((node) => cluster.client(node, { user: `observer-${node.name}` }));
  const back = Array.from({ length: 10 }, (_, n) => cluster.client(dead, { user: `back-${n}` }));
  const gone = Array.from({ length: 10 }, (_, n) => cluster.client(dead, { user: `gone-${n}`, returns: false }));
  const all = [...observers, ...back, ...gone];
  await Promise.all(all.flatMap((client) => [client.subscribes(room), client.subscribes(news)]));
  await cluster.viewsAreRight();
  await cluster.areOccupied(room, news);
  await dead.kill();
  await dead.start();
  await dead.ready();
  await until('they are back', () => back.every((client) => client.session(room)));
  await cluster.viewsAreRight({ within: DEAD_WITHIN });
  await cluster.countsAreRight(room);
  await cluster.flush(news);
  cluster.judge(t);
  const removed = observers.flatMap((observer) => observer.session(room).edges).filter(({ kind }) => kind === 'removed');
  assert.deepEqual([...new Set(removed.map(({ id }) => id))].sort(), gone.map(({ user }) => user).sort());
  await cluster.judgeNotices(t);
});

test('when all nodes die at once, the next ones find nobody there who is not', TIME_LIMIT, async (t) => {
  const [room, news] = ['presence-all', 'news-all'];
  const going = (node, n) => cluster.client(node, { user: `gone-${node.name}-${n}`, returns: false });
  const doomed = cluster.nodes.flatMap((node) => Array.from({ length: 5 }, (_, n) => going(node, n)));
  const back = cluster.nodes.map((node) => cluster.client(node, { user: `back-${node.name}` }));
  await Promise.all([...doomed, ...back].flatMap((client) => [client.subscribes(room), client.subscribes(news)]));
  await cluster.viewsAreRight();
  // What a node was about to tell dies with it.
  await cluster.areOccupied(room, news);
  await Promise.all(cluster.nodes.map((node) => node.kill()));
  await Promise.all(cluster.nodes.map((node) => node.start()));
  await cluster.ready();
  await until('they are back', () => back.every((client) => client.session(room) && client.session(news)));
  await cluster.viewsAreRight({ within: DEAD_WITHIN });
  await cluster.countsAreRight(room);
  await cluster.flush(news);
  cluster.judge(t);
  await cluster.judgeNotices(t);
});
