// Judges the notices of all nodes together: each edge of a channel, and of a user on a channel, once and in turn.

const ON = new Set(['occupied', 'member_added']);

/**
 * What is wrong with the notices of one app. A notice is `{ at, node, channel, user_id, notice }`.
 *
 * `skew`: two nodes write down what happened one after the other at almost the same moment; within so many milliseconds their order
 * says nothing.
 * `resets`: spans `{ from, to }` in which the nodes' common memory was lost. What is said within one counts for nothing, and the first
 * notice after it may be of either kind.
 * `losses`: moments at which a node was killed, which may have taken one notice of each key with it, `lossWindow` milliseconds around.
 * `left`: what is still occupied or there on purpose, as `channel` or `channel user`.
 */
export function judgeNotices(notices, { skew = 100, resets = [], losses = [], lossWindow = 1000, left = [] } = {}) {
  const problems = [];
  const excused = [];
  const groups = grouped(notices);
  for (const key of left.filter((one) => !groups.has(one))) problems.push(`${key}: somebody is there, and nobody said so`);
  for (const [key, ofKey] of groups) {
    const within = ({ at }) => resets.some(({ from, to }) => at >= from && at <= to);
    const lossIn = (from, to) => losses.some((at) => at + lossWindow >= from && at - lossWindow <= to);
    const resetIn = (from, to) => resets.some((reset) => reset.from <= to && reset.to >= from);
    let previous;
    for (const notice of inTurn(ofKey.filter((one) => !within(one)), skew)) {
      const expected = previous ? !isOn(previous) : true;
      if (isOn(notice) !== expected) {
        const [from, to] = [previous?.at ?? -Infinity, notice.at];
        if (lossIn(from, to)) excused.push(key);
        else if (!resetIn(from, to)) problems.push(`${key}: ${said(notice)} after ${previous ? said(previous) : 'nothing'}`);
      }
      previous = notice;
    }
    const on = previous !== undefined && isOn(previous);
    if (on === left.includes(key)) continue;
    if (resetIn(previous?.at ?? -Infinity, Infinity) || lossIn(previous?.at ?? -Infinity, Infinity)) excused.push(key);
    else problems.push(on ? `${key}: never ended after ${said(previous)}` : `${key}: is not on, though somebody is there`);
  }
  return { problems, excused };
}

/** The order in which alternating notices can have happened: within the skew, the one that is due comes first. */
function inTurn(notices, skew) {
  const waiting = notices.toSorted((a, b) => a.at - b.at);
  const ordered = [];
  let due = true;
  while (waiting.length > 0) {
    const found = waiting.findIndex((one) => isOn(one) === due && one.at <= waiting[0].at + skew);
    const [next] = waiting.splice(Math.max(found, 0), 1);
    ordered.push(next);
    due = !isOn(next);
  }
  return ordered;
}

function grouped(notices) {
  const groups = new Map();
  for (const notice of notices) {
    const key = notice.user_id === undefined ? notice.channel : `${notice.channel} ${notice.user_id}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(notice);
  }
  return groups;
}

function isOn({ notice }) {
  return ON.has(notice);
}

function said({ notice, node, at }) {
  return `${notice} (${node}, ${new Date(at).toISOString().slice(11, 23)})`;
}
