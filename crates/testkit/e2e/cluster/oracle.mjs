// Judges what subscribers received against what was published. Knows nothing of how the server works.

/** Codes of closes that a node in good health sends when it is told to stop: until then nothing may be missing. */
const ORDERLY = new Set(['left', 'gone', 4200]);

/**
 * Everything that is wrong, as sentences, and what was counted. `grace` is how many milliseconds before an orderly end an event must
 * have been answered for its absence to be a loss.
 */
export function judgeDelivery({ sessions, publishes }, { grace = 1000 } = {}) {
  const problems = [];
  for (const channel of new Set([...sessions, ...publishes].map((one) => one.channel))) {
    const of = (all) => all.filter((one) => one.channel === channel);
    problems.push(...judgeChannel(of(sessions), of(publishes), grace));
  }
  return { problems, tally: tally(sessions, publishes) };
}

function judgeChannel(sessions, publishes, grace) {
  const byId = new Map(publishes.map((publish) => [publish.id, publish]));
  const excepted = new Set(publishes.map(({ except }) => except));
  return [
    ...sessions.flatMap((session) => [
      ...wrongEvents(session, byId),
      ...swaps(session, byId),
      ...losses(session, publishes, grace),
    ]),
    // Whoever was left out of an event says nothing about its place.
    ...disagreements(sessions.filter(({ socketId }) => !excepted.has(socketId))),
  ];
}

function wrongEvents(session, byId) {
  const problems = [];
  const seen = new Set();
  for (const { id } of session.events) {
    const publish = byId.get(id);
    if (seen.has(id)) problems.push(`${name(session)} got ${id} twice`);
    if (!publish) problems.push(`${name(session)} got ${id}, which nobody published`);
    else if (publish.outcome === 'refused') {
      problems.push(`${name(session)} got ${id}, which ${publish.node} had refused with ${publish.status}`);
    } else if (publish.except === session.socketId) problems.push(`${name(session)} got ${id}, from which it was left out`);
    seen.add(id);
  }
  return problems;
}

/** What was sent after another event was accepted must come after it. */
function swaps(session, byId) {
  const problems = [];
  let earliest;
  for (const { id } of session.events.toReversed()) {
    const publish = byId.get(id);
    if (!publish) continue;
    if (earliest && earliest.answeredAt < publish.sentAt) {
      problems.push(`${name(session)} got ${id} before ${earliest.id}, which had been accepted when ${id} was sent`);
    }
    // One whose outcome is unknown may have been under way still.
    if (publish.outcome === 'accepted' && !(earliest?.answeredAt < publish.answeredAt)) earliest = publish;
  }
  return problems;
}

/** An accepted event that was sent while somebody was subscribed, and is not among what they got. */
function losses(session, publishes, grace) {
  const sentAt = new Map(publishes.map((publish) => [publish.id, publish.sentAt]));
  const got = new Set(session.events.map(({ id }) => id));
  const lastSent = Math.max(-Infinity, ...[...got].map((id) => sentAt.get(id) ?? -Infinity));
  const problems = [];
  for (const { id, outcome, sentAt: sent, answeredAt, except } of publishes) {
    if (outcome !== 'accepted' || got.has(id) || except === session.socketId || sent < session.from) continue;
    if (lastSent > answeredAt) problems.push(`${name(session)} did not get ${id}, but got what was sent after it: a hole`);
    else if (session.end === 'open') problems.push(`${name(session)} did not get ${id} and is still connected: lost`);
    else if (ORDERLY.has(session.end) && answeredAt + grace < (session.wholeUntil ?? session.until)) {
      problems.push(`${name(session)} did not get ${id}, answered ${Math.round(session.until - answeredAt)} ms before its end: lost`);
    }
  }
  return problems;
}

/**
 * All subscribers see unbroken runs of one order exactly if no event has two successors or two predecessors, and there is no circle.
 * That also finds holes around events whose outcome nobody knows: who got one must not be alone with it.
 */
function disagreements(sessions) {
  const problems = [];
  const after = new Map();
  const before = new Map();
  const note = (map, key, value, session, word) => {
    const known = map.get(key);
    if (!known) map.set(key, { value, session });
    else if (known.value !== value) {
      problems.push(`${word} ${key} came ${known.value} on ${name(known.session)}, but ${value} on ${name(session)}`);
    }
  };
  for (const session of sessions) {
    for (const [n, { id }] of session.events.entries()) {
      if (n === 0) continue;
      note(after, session.events[n - 1].id, id, session, 'after');
      note(before, id, session.events[n - 1].id, session, 'before');
    }
  }
  const inChains = new Set();
  for (const id of after.keys()) {
    if (before.has(id)) continue;
    for (let at = id; at !== undefined && !inChains.has(at); at = after.get(at)?.value) inChains.add(at);
  }
  const circle = [...after.keys()].filter((id) => !inChains.has(id));
  if (circle.length > 0 && problems.length === 0) problems.push(`subscribers saw these in a circle: ${circle.slice(0, 10).join(', ')}`);
  return problems;
}

function tally(sessions, publishes) {
  const received = new Set(sessions.flatMap(({ events }) => events.map(({ id }) => id)));
  const count = (outcome) => publishes.filter((publish) => publish.outcome === outcome).length;
  return {
    accepted: count('accepted'),
    refused: count('refused'),
    unknown: count('unknown'),
    unknownDelivered: publishes.filter(({ id, outcome }) => outcome === 'unknown' && received.has(id)).length,
    sessions: sessions.length,
    deliveries: sessions.reduce((sum, { events }) => sum + events.length, 0),
  };
}

export function name({ channel, socketId, node, user }) {
  return `${user ?? 'somebody'} (${socketId}${node ? ` on ${node}` : ''}) on ${channel}`;
}
