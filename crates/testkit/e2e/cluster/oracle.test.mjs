// The oracles find what they are there to find. A history is made up for each kind of mistake, and one without any.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { judgeNotices } from './notice-oracle.mjs';
import { judgeDelivery } from './oracle.mjs';
import { judgeCounts, judgeEdges, judgeViews } from './presence-oracle.mjs';

const REQUEST = { channel: 'news', node: 'A', status: 200, outcome: 'accepted' };
// Publish n is sent at 10n and answered at 10n + 5.
const accepted = (n, more) => ({ ...REQUEST, id: `e${n}`, sentAt: 10 * n, answeredAt: 10 * n + 5, ...more });
const refused = (n) => accepted(n, { status: 503, outcome: 'refused' });
const unknown = (n) => accepted(n, { status: 503, outcome: 'unknown' });

/** A subscriber of the whole time who got these events. */
function session(numbers, more = {}) {
  const events = numbers.map((n) => ({ id: `e${n}`, at: 10 * n + 6 }));
  return { channel: 'news', socketId: '1.1', node: 'A', from: 0, until: Infinity, end: 'open', events, edges: [], ...more };
}

function delivery(sessions, publishes, options) {
  return judgeDelivery({ sessions, publishes }, options).problems;
}

describe('what subscribers received', () => {
  const three = [accepted(1), accepted(2), accepted(3)];

  test('is right when everybody got everything once and in order', () => {
    const { problems, tally } = judgeDelivery({ sessions: [session([1, 2, 3]), session([1, 2, 3])], publishes: [...three, refused(4)] });
    assert.deepEqual(problems, []);
    assert.deepEqual(tally, { accepted: 3, refused: 1, unknown: 0, unknownDelivered: 0, sessions: 2, deliveries: 6 });
  });

  test('is wrong when an event is lost at the end, in the middle or at the beginning', () => {
    assert.match(delivery([session([1, 2])], three)[0], /did not get e3 and is still connected: lost/);
    assert.match(delivery([session([1, 3])], three)[0], /did not get e2, .* a hole/);
    assert.match(delivery([session([2, 3])], three)[0], /did not get e1, .* a hole/);
  });

  test('is wrong when nobody got an accepted event', () => {
    assert.equal(delivery([session([1, 2]), session([1, 2])], three).length, 2);
  });

  test('is wrong when an event came twice', () => {
    assert.ok(delivery([session([1, 2, 2, 3])], three).some((problem) => /got e2 twice/.test(problem)));
    assert.ok(delivery([session([1, 2, 3, 1])], three).some((problem) => /got e1 twice/.test(problem)));
  });

  test('is wrong when one that was sent after the answer to another came before it', () => {
    assert.match(delivery([session([1, 3, 2])], three)[0], /got e3 before e2/);
  });

  test('is wrong when a refused event came, or one that nobody sent', () => {
    assert.match(delivery([session([1, 2, 3, 4])], [...three, refused(4)])[0], /e4, which A had refused with 503/);
    assert.match(delivery([session([1, 2, 3, 9])], three)[0], /e9, which nobody published/);
  });

  test('is wrong when two subscribers saw events that were sent at the same time in different orders', () => {
    const same = [1, 2].map((n) => accepted(n, { sentAt: 10, answeredAt: 30 }));
    assert.deepEqual(delivery([session([2, 1]), session([2, 1])], same), []);
    assert.ok(delivery([session([1, 2]), session([2, 1])], same).length > 0);
  });

  test('may or may not hold an event whose outcome is unknown, but once, and for all or for nobody', () => {
    const publishes = [accepted(1), unknown(2), accepted(3)];
    assert.deepEqual(delivery([session([1, 2, 3]), session([1, 2, 3])], publishes), []);
    assert.deepEqual(delivery([session([1, 3]), session([1, 3])], publishes), []);
    assert.ok(delivery([session([1, 2, 2, 3])], publishes).length > 0);
    assert.ok(delivery([session([1, 2, 3]), session([1, 3])], publishes).length > 0);
  });

  test('may hold an event whose outcome is unknown late, but not before what was accepted before it was sent', () => {
    assert.deepEqual(delivery([session([1, 3, 2]), session([1, 3, 2])], [accepted(1), unknown(2), accepted(3)]), []);
    assert.match(delivery([session([2, 1, 3])], [accepted(1), unknown(2), accepted(3)])[0], /got e2 before e1/);
  });

  test('begins with what was sent after the subscription, and may begin earlier, without a hole', () => {
    assert.deepEqual(delivery([session([2, 3], { from: 18 }), session([1, 2, 3])], three), []);
    assert.deepEqual(delivery([session([3], { from: 22 }), session([1, 2, 3])], three), []);
    assert.deepEqual(delivery([session([2, 3], { from: 22 }), session([1, 2, 3])], three), []);
    assert.ok(delivery([session([3], { from: 18 }), session([1, 2, 3])], three).length > 0);
    assert.ok(delivery([session([1, 3], { from: 22 }), session([1, 2, 3])], three).length > 0);
  });

  test('may end early where the connection was told that something is missing, or broke', () => {
    for (const end of [4101, 'lost', 4100]) {
      assert.deepEqual(delivery([session([1], { end, until: 5000 }), session([1, 2, 3])], three), []);
      assert.ok(delivery([session([1, 3], { end, until: 5000 }), session([1, 2, 3])], three).length > 0);
    }
  });

  test('reaches until the end where the connection was closed in an orderly way', () => {
    for (const end of [4200, 'left', 'gone']) {
      assert.deepEqual(delivery([session([1, 2], { end, until: 40 })], three, { grace: 20 }), []);
      assert.match(delivery([session([1, 2], { end, until: 100 })], three, { grace: 20 })[0], /did not get e3, answered 65 ms before/);
    }
  });

  test('reaches until the fault where a client left before it could be told', () => {
    const gone = (wholeUntil) => session([1, 2], { end: 'gone', until: 5000, wholeUntil });
    assert.deepEqual(delivery([gone(40)], three, { grace: 20 }), []);
    assert.match(delivery([gone(100)], three, { grace: 20 })[0], /did not get e3, .* lost/);
  });

  test('leaves out who was to be left out, and nobody else', () => {
    const publishes = [accepted(1), accepted(2, { except: '7.7' }), accepted(3)];
    assert.deepEqual(delivery([session([1, 3], { socketId: '7.7' }), session([1, 2, 3])], publishes), []);
    assert.match(delivery([session([1, 2, 3], { socketId: '7.7' })], publishes)[0], /from which it was left out/);
    assert.match(delivery([session([1, 3])], publishes)[0], /a hole/);
  });

  test('is judged for each channel by itself', () => {
    const publishes = [accepted(1), accepted(2, { channel: 'sports' })];
    assert.deepEqual(delivery([session([1]), session([2], { channel: 'sports' })], publishes), []);
    assert.ok(delivery([session([1, 2])], publishes).length > 0);
  });
});

describe('what members were told', () => {
  const added = (id) => ({ kind: 'added', id });
  const removed = (id) => ({ kind: 'removed', id });
  const member = (user, members, edges = [], more = {}) => session([], { channel: 'presence-room', user, members, edges, ...more });
  const edges = (...sessions) => judgeEdges({ sessions });
  const views = (...sessions) => judgeViews({ sessions });

  test('is right when each view and the edges after it are who is there', () => {
    const cy = [added('cy'), removed('cy')];
    const sessions = [member('ada', ['ada'], [added('bob'), ...cy]), member('bob', ['ada', 'bob'], cy)];
    assert.deepEqual([...edges(...sessions), ...views(...sessions)], []);
  });

  test('is wrong when somebody came who was there already', () => {
    assert.match(edges(member('ada', ['ada'], [added('bob'), added('bob')]))[0], /bob came, who was there/);
    assert.match(edges(member('ada', ['ada', 'bob'], [added('bob')]))[0], /bob came, who was there/);
    assert.match(edges(member('ada', ['ada', 'bob', 'bob']))[0], /same member twice/);
  });

  test('is wrong when somebody went who was not there, or twice', () => {
    assert.match(edges(member('ada', ['ada'], [removed('bob')]))[0], /bob went, who was not there/);
    assert.match(edges(member('ada', ['ada', 'bob'], [removed('bob'), removed('bob')]))[0], /bob went, who was not there/);
  });

  test('is wrong when a member does not see itself', () => {
    assert.match(edges(member('ada', []))[0], /not in its own view/);
    assert.match(edges(member('ada', ['ada'], [removed('ada')]))[0], /it went itself/);
  });

  test('is wrong when somebody is still seen who is gone', () => {
    const gone = member('bob', ['ada', 'bob'], [], { end: 'lost', until: 50 });
    assert.match(views(member('ada', ['ada', 'bob']), gone)[0], /sees bob, .* ghost/);
  });

  test('is wrong when somebody who is there is not seen', () => {
    assert.match(views(member('ada', ['ada']), member('bob', ['ada', 'bob']))[0], /does not see bob/);
  });

  test('is wrong when somebody came and went unseen', () => {
    const passing = member('bob', ['ada', 'bob'], [], { from: 10, until: 50, end: 'left' });
    assert.match(views(member('ada', ['ada']), passing)[0], /never saw bob/);
    assert.deepEqual(views(member('ada', ['ada'], [], { from: 60 }), passing), []);
  });
});

describe('what a node answers about a presence channel', () => {
  const answers = (ids, count = ids.length) => ({
    users: { users: ids.map((id) => ({ id })) },
    one: { occupied: count > 0, user_count: count },
    list: { channels: count > 0 ? { 'presence-room': { user_count: count } } : {} },
  });
  const judge = (expected, given) => judgeCounts('presence-room', expected, given);

  test('is right when it names who is there and counts them', () => {
    assert.deepEqual(judge(['ada', 'bob'], answers(['bob', 'ada'])), []);
    assert.deepEqual(judge([], answers([])), []);
  });

  test('is wrong when it has a ghost, somebody twice or not at all', () => {
    assert.match(judge(['ada'], answers(['ada', 'bob']))[0], /users has bob, .* ghost/);
    assert.ok(judge(['ada'], answers(['ada', 'ada'], 1)).length > 0);
    assert.match(judge(['ada', 'bob'], answers(['ada']))[0], /does not have bob/);
  });

  test('is wrong when a count does not return to zero', () => {
    assert.equal(judge([], answers([], 1)).length, 3);
  });
});

describe('the notices of all nodes', () => {
  const notice = (at, kind, more) => ({ at, node: 'A', app: '1', channel: 'news', notice: kind, ...more });
  const judge = (all, options) => judgeNotices(all, options).problems;
  const [on, off] = [(at, more) => notice(at, 'occupied', more), (at, more) => notice(at, 'vacated', more)];

  test('are right when each edge is told once, in turn, and all has ended', () => {
    assert.deepEqual(judge([on(1000), off(2000), on(3000, { node: 'B' }), off(4000)]), []);
    const bob = { channel: 'presence-room', user_id: 'bob' };
    assert.deepEqual(judge([notice(1000, 'member_added', bob), notice(2000, 'member_removed', bob)]), []);
  });

  test('are wrong when two nodes told the same edge', () => {
    assert.match(judge([on(1000), on(1010, { node: 'B' }), off(2000)])[0], /occupied .* after occupied/);
    assert.match(judge([on(1000), off(2000), off(2001, { node: 'B' })])[0], /vacated .* after vacated/);
    const bob = { channel: 'presence-room', user_id: 'bob' };
    const twice = [notice(1000, 'member_added', bob), notice(2000, 'member_removed', bob), notice(2001, 'member_removed', bob)];
    assert.equal(judge(twice).length, 1);
  });

  test('are wrong when nobody told an edge', () => {
    assert.match(judge([off(1000)])[0], /vacated .* after nothing/);
    assert.match(judge([on(1000)])[0], /never ended/);
    assert.match(judge([on(1000), off(2000), on(3000)])[0], /never ended/);
  });

  test('may be out of order by a moment when two nodes write them down, and by no more', () => {
    assert.deepEqual(judge([on(1000), on(2000, { node: 'B' }), off(2050), off(3000)]), []);
    assert.ok(judge([on(1000), on(2000, { node: 'B' }), off(2150), off(3000)]).length > 0);
  });

  test('are wrong when what is left on purpose is said to have ended, or was never told', () => {
    assert.deepEqual(judge([on(1000)], { left: ['news'] }), []);
    assert.match(judge([on(1000), off(2000)], { left: ['news'] })[0], /is not on/);
    assert.match(judge([], { left: ['news'] })[0], /nobody said so/);
  });

  test('start anew after the memory was lost, and count for nothing while it is away', () => {
    const resets = [{ from: 5000, to: 6000 }];
    assert.deepEqual(judge([on(1000), on(7000), off(8000)], { resets }), []);
    assert.deepEqual(judge([on(1000), on(5500), off(5501), on(5502), off(8000)], { resets }), []);
    assert.ok(judge([on(1000), on(4000), off(8000)], { resets }).length > 0);
    assert.ok(judge([on(1000), on(7000), on(7500), off(8000)], { resets }).length > 0);
    assert.ok(judge([on(1000), on(7000)], { resets }).length > 0);
  });

  test('may miss one edge of each key where a node was killed, and only then', () => {
    const losses = [5000];
    assert.deepEqual(judge([on(1000), on(8000), off(20_000)], { losses }), []);
    assert.deepEqual(judge([on(2000)], { losses }), []);
    assert.ok(judge([on(1000), on(2000), off(20_000)], { losses }).length > 0);
    assert.ok(judge([on(20_000), on(21_000), off(22_000)], { losses }).length > 0);
    assert.ok(judge([on(20_000)], { losses }).length > 0);
  });
});
