// Judges what a receiver of webhooks was told against who was there. Knows nothing of how the server works.

/** Coming and going as hosted Pusher names it, with what is true afterwards. */
const STATES = { channel_occupied: true, channel_vacated: false, member_added: true, member_removed: false };

/**
 * `events` as they came, each delivery once; `stayed` are the channels and members that were there all the time from their first
 * subscription on; `present` says who is there at the end, as `channel` or `channel user`.
 */
export function judgeWebhooks(events, { stayed, present }) {
  const problems = [];
  const told = new Map();
  for (const { name, channel, user_id } of events.filter(({ name }) => name in STATES)) {
    const subject = user_id === undefined ? channel : `${channel} ${user_id}`;
    const state = STATES[name];
    if ((told.get(subject) ?? false) === state) problems.push(`${subject}: ${name}, but that was told already`);
    if (!state && stayed.has(subject)) problems.push(`${subject}: ${name}, but it was there`);
    told.set(subject, state);
  }
  for (const [subject, state] of told) {
    if (state && !present.has(subject)) problems.push(`${subject} has gone, and that was not told`);
    if (!state && present.has(subject)) problems.push(`${subject} is there, and the last that was told is that it has gone`);
  }
  for (const subject of present) if (!told.has(subject)) problems.push(`${subject} is there, and that was never told`);
  return problems;
}

/** Whether requests of one webhook came in order per channel, and only the same delivery twice. */
export function judgeOrder(requests) {
  const problems = [];
  const bodies = new Map();
  const last = new Map();
  for (const { id, sequence, status, events, replay } of requests) {
    const text = JSON.stringify(events);
    if ((bodies.get(id) ?? text) !== text) problems.push(`${id} came with other events`);
    const isNew = !bodies.has(id);
    bodies.set(id, text);
    if (replay || !(status >= 200 && status < 300)) continue;
    for (const { channel } of events) {
      if (isNew && (last.get(channel) ?? 0) > sequence) problems.push(`${channel}: ${sequence} came after ${last.get(channel)}`);
      last.set(channel, Math.max(sequence, last.get(channel) ?? 0));
    }
  }
  return problems;
}
