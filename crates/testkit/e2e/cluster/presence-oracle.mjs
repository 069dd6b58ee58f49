// Judges what subscribers of presence channels were told: each view with the edges after it.
import { name } from './oracle.mjs';
import { viewOf } from './history.mjs';

/** What is wrong with any one subscriber's story, finished or not. */
export function judgeEdges({ sessions }) {
  return presence(sessions).flatMap(wrongEdges);
}

/**
 * What is wrong when nothing moves any more: whoever is subscribed must see exactly those who are, and must have seen everybody who
 * was there meanwhile.
 */
export function judgeViews({ sessions }) {
  const problems = [];
  for (const channel of new Set(presence(sessions).map((session) => session.channel))) {
    const all = sessions.filter((session) => session.channel === channel);
    const open = all.filter(({ end }) => end === 'open');
    const there = new Set(open.map(({ user }) => user));
    for (const session of open) problems.push(...wrongView(session, there), ...unseen(session, all));
  }
  return problems;
}

/** What is wrong with the answers of one node to GET users, GET channel and GET channels while exactly `expected` are there. */
export function judgeCounts(channel, expected, { users, one, list }) {
  const ids = users.users.map(({ id }) => id);
  const there = new Set(expected);
  const told = new Set(ids);
  const problems = [
    ...ids.filter((id) => !there.has(id)).map((id) => `users has ${id}, who is not there: a ghost`),
    ...expected.filter((id) => !told.has(id)).map((id) => `users does not have ${id}, who is there`),
  ];
  if (told.size !== ids.length) problems.push(`users has somebody twice: ${ids}`);
  if (one.occupied !== expected.length > 0) problems.push(`occupied is ${one.occupied} with ${expected.length} there`);
  if ((one.user_count ?? 0) !== expected.length) problems.push(`user_count is ${one.user_count}, and ${expected.length} are there`);
  const listed = list.channels[channel]?.user_count;
  if (listed !== (expected.length || undefined)) problems.push(`channels says ${listed}, and ${expected.length} are there`);
  return problems;
}

function wrongEdges(session) {
  const problems = [];
  const view = new Set(session.members);
  if (view.size !== session.members.length) problems.push(`${name(session)} was told the same member twice: ${session.members}`);
  if (!view.has(session.user)) problems.push(`${name(session)} is not in its own view`);
  for (const { kind, id } of session.edges) {
    if (kind === 'added' && view.has(id)) problems.push(`${name(session)} was told that ${id} came, who was there`);
    if (kind === 'removed' && !view.has(id)) problems.push(`${name(session)} was told that ${id} went, who was not there`);
    if (kind === 'removed' && id === session.user) problems.push(`${name(session)} was told that it went itself`);
    if (kind === 'added') view.add(id);
    else view.delete(id);
  }
  return problems;
}

function wrongView(session, there) {
  const view = new Set(viewOf(session));
  return [
    ...[...view].filter((id) => !there.has(id)).map((id) => `${name(session)} sees ${id}, who is not there: a ghost`),
    ...[...there].filter((id) => !view.has(id)).map((id) => `${name(session)} does not see ${id}, who is there`),
  ];
}

function unseen(session, all) {
  const seen = new Set([...session.members, ...session.edges.map(({ id }) => id)]);
  const meanwhile = all.filter(({ until }) => until > session.from).map(({ user }) => user);
  return [...new Set(meanwhile)].filter((id) => !seen.has(id)).map((id) => `${name(session)} never saw ${id}, who was there meanwhile`);
}

function presence(sessions) {
  return sessions.filter(({ channel }) => channel.startsWith('presence-'));
}
