// What happened, as the outside saw it: plain data that the oracles judge. Times are of one clock on which no two moments are equal,
// so what has the greater time was written down later.
//
// session:  one subscription of one connection, from its success until it ended
//           { channel, socketId, node, user, from, until, end, wholeUntil, events: [{ id, at }], members: [id],
//             edges: [{ kind, id, at }] }
//           end: 'open', a close code, 'lost' (no close frame came), or what we did: 'left', 'gone'
//           wholeUntil: until when it must have got everything; before `until` only where we ended it while nobody could be told
// publish:  one request to one node about one channel
//           { id, channel, node, sentAt, answeredAt, status, outcome, except }
//           outcome: 'accepted', 'refused', or 'unknown' where nobody can tell
// closing:  the end of one connection
//           { socketId, node, code, at, subscriptions }

let last = 0;

export function now() {
  last = Math.max(performance.now(), last + 0.001);
  return last;
}

export class History {
  sessions = [];
  publishes = [];
  closings = [];

  subscribed({ channel, socketId, node, user, members }) {
    const session = { channel, socketId, node, user, members, from: now(), until: Infinity, end: 'open', events: [], edges: [] };
    this.sessions.push(session);
    return session;
  }

  closed({ socketId, node, code, sessions, end = code ?? 'lost' }) {
    sessions.forEach((session) => ended(session, end));
    this.closings.push({ socketId, node, code, at: now(), subscriptions: sessions.length });
  }

  /** Subscriptions that stand. */
  open(channel) {
    return this.sessions.filter((session) => session.end === 'open' && session.channel === channel);
  }

  /** Users who are on a presence channel now, as far as their own subscriptions say. */
  present(channel) {
    return [...new Set(this.open(channel).map(({ user }) => user))].sort();
  }

  published(outcome) {
    return this.publishes.filter((publish) => publish.outcome === outcome);
  }
}

export function ended(session, how, wholeUntil = Infinity) {
  if (session.end !== 'open') return;
  session.end = how;
  session.until = now();
  session.wholeUntil = Math.min(session.until, wholeUntil);
}

/** Who is there according to what one subscriber was told. */
export function viewOf(session) {
  const view = new Set(session.members);
  for (const { kind, id } of session.edges) {
    if (kind === 'added') view.add(id);
    else view.delete(id);
  }
  return [...view].sort();
}
