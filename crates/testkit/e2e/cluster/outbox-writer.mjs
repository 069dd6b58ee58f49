// What an application does to its own Postgres: transactions of all lengths that publish, each written down with what became of it.
import pg from 'pg';
import { setTimeout as delay } from 'node:timers/promises';
import { now } from './history.mjs';

/** Of a hundred transactions, this many are rolled back, and this many stay open for seconds. */
const [ROLLED_BACK, LONG] = [15, 1];
/** Channels, and events of one transaction at most. */
const MAX_EVENTS = 6;

/** Writers with a session each, until they are stopped. */
export class Writers {
  committed = 0;
  #stopping = false;
  #running;

  constructor(url, channels, history, count, perSecond) {
    Object.assign(this, { url, channels, history, perSecond });
    this.#running = Array.from({ length: count }, (_, n) => this.#write(n, count));
  }

  async stop() {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  async #write(writer, count) {
    const began = Date.now();
    let client;
    for (let n = 0; !this.#stopping; n += 1) {
      client ??= await connect(this.url);
      // As many as are due: one that was held up catches up.
      const due = began + (n * count * 1000 * (MAX_EVENTS + 1)) / 2 / this.perSecond;
      await delay(Math.max(0, due - Date.now()));
      const isWhole = client && (await this.#transaction(client, writer, n));
      if (isWhole) continue;
      client?.end().catch(() => {});
      client = undefined;
      await delay(200);
    }
    await client?.end().catch(() => {});
  }

  /** Whether the session can go on. */
  async #transaction(client, writer, n) {
    const chance = (n * 37 + writer * 11) % 100;
    const channel = this.channels[(n + writer) % this.channels.length];
    const events = Array.from({ length: 1 + (n % MAX_EVENTS) }, (_, k) => `"w${writer}-t${n}-e${k}"`);
    const publishes = events.map((id) => ({ id, channel, node: 'the application', sentAt: now() }));
    let outcome = 'refused';
    try {
      await client.query('BEGIN');
      const all = `SELECT fanfare.publish($1::text, 'event', id) FROM jsonb_array_elements($2) AS id`;
      await client.query(all, [channel, `[${events}]`]);
      if (chance < LONG) await delay(2500);
      const rollsBack = chance >= 100 - ROLLED_BACK;
      if (!rollsBack) outcome = 'unknown';
      publishes.forEach((publish) => (publish.sentAt = now()));
      await client.query(rollsBack ? 'ROLLBACK' : 'COMMIT');
      if (!rollsBack) outcome = 'accepted';
    } catch (error) {
      if (!isLost(error)) throw error;
    }
    publishes.forEach((publish) => Object.assign(publish, { answeredAt: now(), status: outcome, outcome }));
    this.history.publishes.push(...publishes);
    if (outcome === 'accepted') this.committed += events.length;
    return outcome === 'accepted' || !client.lost;
  }
}

async function connect(url) {
  // What was answered must outlive a crash; the tests' servers are set up for speed.
  const client = new pg.Client({ connectionString: url, options: '-c synchronous_commit=on', connectionTimeoutMillis: 5000, query_timeout: 30_000 });
  client.on('error', () => (client.lost = true));
  try {
    await client.connect();
    return client;
  } catch {
    return undefined;
  }
}

/** Whether the database went away, which a test does to it. */
function isLost(error) {
  return !error.code || /^(57P|08|ECONN|EPIPE)/.test(error.code);
}

/** Events of one transaction that did not come together and in their order, as sentences. */
export function torn({ channel, events }) {
  const ids = events.map(({ id }) => id);
  return ids.flatMap((id, at) => {
    const [, transaction, number] = id.match(/^"(w\d+-t\d+)-e(\d+)"$/) ?? [];
    if (!Number(number)) return [];
    const before = `"${transaction}-e${Number(number) - 1}"`;
    // A subscription may begin in the middle.
    return at === 0 || ids[at - 1] === before ? [] : [`${channel}: ${ids[at - 1]} stands before ${id}`];
  });
}
