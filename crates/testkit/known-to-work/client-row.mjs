// What every client is put through, by a program of a few lines that uses it.
//
// A program finds in the variable TARGET, as JSON: `host`, `port`, `key`, `secret`, `url` (of the server), `auth` (the URL of the app's auth
// endpoint), `channels`, `socket` and `stream` (URLs of a plain WebSocket and of a stream, which are signed for the private
// channel). It prints a line of JSON for each message that the client hands out: `event`, `channel` and `data`, where
// "pusher:subscription_succeeded" is a subscription's success. Other lines are for people. It runs until it is killed.
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort, startAuthEndpoint, startServer } from '../e2e/harness.mjs';
import { cloneGit, installNpm, installPyPI, unpackDebian } from './install.mjs';
import { redisUrl } from './redis.mjs';

/** Each channel keeps a history, which only clients that ask for it notice. */
const KEPT = 'kept-news';
const PRIVATE = 'private-news';
const PRESENCE = 'presence-news';
const HISTORY = JSON.stringify([{ channels: '*', size: 1000, ttl: 3600 }]);

/** Events of the step "order" on each channel, published one after the other without a pause. */
const EVENTS = 50;
/** From the start of a program, which may be that of a browser on a busy machine. */
const CONNECT_TIMEOUT = 180_000;
const EVENT_TIMEOUT = 10_000;
const STOP_TIMEOUT = 10_000;
/** Time between two events while the server restarts. */
const TICK = 200;
/** How long a client may take to come back: pusher-js waits 15 s after an attempt that failed, then 30 s. */
const RETURN_TIMEOUT = 75_000;

export const steps = {
  connect: { title: 'connects', needed: true },
  order: { title: 'order', needed: true },
  idle: { title: 'idle 300 s', needed: true },
  restart: { title: 'comes back', needed: true },
  recovery: { title: 'recovery', needed: true },
};

/** The steps in their order. Each returns what it has shown, by the names of steps. */
const PLAN = [['connect', connect], ['order', order], ['idle', idleFor], ['restart', restart]];

/**
 * Makes a row of a client. `program` is a file in programs/, run by the command that `with` returns, or by Node or Python. `npm` and
 * `pypi` are packages with their versions, `debian` are names, `git` are repositories with their tags, and the first is the client's,
 * which `build` may compile. `here` returns the version of what is installed already, `version` is one that is in neither. `channels` are
 * the kinds that the client can have, `recovers` says that it can ask for what it missed, `options` go into TARGET, and `plan` takes the
 * place of the usual steps.
 */
export function clientRow({ channels = ['public', 'private', 'presence'], recovers = false, ...row }) {
  const run = async (context) => runClient({ ...row, channels, recovers }, await installSoftware(row, context.temporary), context);
  return { ...row, run };
}

/** Puts a client through all steps. `software` is what `installSoftware` returns. `front(server)` starts a proxy for the client, with TLS if `tls`. */
export async function runClient(row, software, { idle, say, front, tls = false }) {
  const env = { FANFARE_CLUSTER_URL: await redisUrl(), FANFARE_CLUSTER_PREFIX: `known-${await freePort()}`, FANFARE_DRAIN_PERIOD: '20' };
  const server = await startServer({ settings: { history: HISTORY }, env });
  const auth = await startAuthEndpoint(server, () => ({ user_id: 'ada', user_info: { name: 'Ada' } }));
  const proxy = await front?.(server);
  const client = startProgram(row, software, server, auth, { port: proxy?.port ?? server.port, tls });
  try {
    say(`runs with ${software.version}`);
    const steps = {};
    for (const [name, step] of row.plan ?? PLAN) {
      Object.assign(steps, await step({ row, client, server, idle, name }));
      if (/^no(?!t)/.test(steps[name])) say(`${name}: ${steps[name]}\n${client.tail()}`);
      if (name === 'connect' && steps.connect !== 'yes') break;
      if (steps[name].startsWith('no: gets no')) break;
    }
    return { version: software.version, steps, seen: client.said() };
  } finally {
    await client.stop();
    await proxy?.stop();
    await auth.stop();
    await server.stop();
  }
}

/** Has the software of a row installed. Returns its version beside what `install.mjs` says. */
export async function installSoftware({ npm, pypi, debian, git, here, version, build }, temporary) {
  const software = { versions: {} };
  const installers = [[npm, installNpm], [pypi, installPyPI], [debian, unpackDebian], [git, cloneGit]];
  for (const [packages, install] of installers.filter(([packages]) => packages)) {
    const { versions, ...installed } = await install(temporary, packages);
    // Programs import from the folder of the first.
    Object.assign(software, { ...installed, folder: software.folder ?? installed.folder });
    Object.assign(software.versions, versions);
  }
  const [first] = debian && !git ? debian : Object.keys(git ?? npm ?? pypi ?? {});
  software.version = version ?? (here ? await here() : (git?.[first].replace(/^v/, '') ?? software.versions[first]));
  await build?.(software);
  return software;
}

/** The command of a row's program, and its environment with `target` as TARGET. */
export function programOf(row, software, target) {
  const file = fileURLToPath(new URL(`./programs/${row.program}`, import.meta.url));
  const command = row.with?.(software, file) ?? (software.python ? [software.python, file] : ['node', file]);
  const TARGET = JSON.stringify({ ...target, ...row.options });
  return { command, env: { ...process.env, ...row.env?.(software), TARGET, PACKAGES: software.folder } };
}

function startProgram(row, software, server, auth, way) {
  const kept = `channels=${KEPT},${PRIVATE}&enveloped=true`;
  const path = (way, query) => `${way}/${server.app.key}?${signed(`/${way}/${server.app.key}`, query, server.app.secret)}`;
  const target = {
    host: '127.0.0.1',
    ...way,
    key: server.app.key,
    url: server.url,
    auth: auth.url,
    channels: namesOf(row),
    secret: server.app.secret,
    socket: `${server.url.replace('http', 'ws')}/${path('ws', `channels=${PRIVATE}`)}`,
    stream: `${server.url}/${path('sse', kept)}`,
  };
  const { command: [command, ...args], env } = programOf(row, software, target);
  const child = spawn(command, args, { env, cwd: software.folder, stdio: ['pipe', 'pipe', 'pipe'] });
  return new Client(child);
}

function signed(path, query, secret) {
  const all = `${query}&auth_expires=${Math.floor(Date.now() / 1000) + 3600}`;
  return `${all}&auth_signature=${createHmac('sha256', secret).update(`GET\n${path}\n${all}`).digest('hex')}`;
}

function namesOf({ channels }) {
  const names = { public: KEPT, private: PRIVATE, presence: PRESENCE };
  return channels.map((kind) => names[kind]);
}

/** A running program, and what it has printed. */
class Client {
  #child;
  #lines = [];
  #waiting = new Set();
  #subscribed = new Set();
  /** The numbers of the events by channel, in the order in which they came. */
  received = new Map();

  constructor(child) {
    this.#child = child;
    // A row that leaves half-way must leave no program behind.
    process.on('exit', () => child.kill('SIGKILL'));
    for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', (line) => this.#read(line));
    child.on('exit', (code) => this.#read(`the program ended with ${code}`)).on('error', (error) => this.#read(String(error)));
  }

  #read(line) {
    this.#lines.push(line);
    const message = parsed(line);
    if (message) this.#take(message);
    for (const look of this.#waiting) look();
  }

  #take({ event, channel, data }) {
    if (/^pusher(_internal)?:subscription_succeeded$/.test(event)) this.#subscribed.add(channel);
    if (event !== 'tick') return;
    const { n } = typeof data === 'string' ? JSON.parse(data) : data;
    this.received.set(channel, [...this.of(channel), n]);
  }

  of(channel) {
    return this.received.get(channel) ?? [];
  }

  isSubscribed(channel) {
    return this.#subscribed.has(channel);
  }

  /** Whether `is` holds before `limit` is over. */
  until(is, limit) {
    return new Promise((resolve) => {
      const done = (held) => {
        clearTimeout(late);
        this.#waiting.delete(look);
        resolve(held);
      };
      const look = () => is() && done(true);
      const late = setTimeout(done, limit, false);
      this.#waiting.add(look);
      look();
    });
  }

  /** Has the program do what it calls `command`, and waits until it says that it is done. */
  async tell(command) {
    const before = this.#lines.length;
    this.#child.stdin.write(`${command}\n`);
    if (await this.until(() => this.#lines.indexOf(`done: ${command}`, before) >= 0, CONNECT_TIMEOUT)) return;
    throw new Error(`the program did not ${command}:\n${this.tail()}`);
  }

  tail() {
    return this.#lines.slice(-15).join('\n');
  }

  /** The sentence that a program wants to have on the page: what it printed behind "seen: ". */
  said() {
    return this.#lines.findLast((line) => line.startsWith('seen: '))?.slice(6);
  }

  /** A program may have to stop what it has started, such as a browser. */
  async stop() {
    this.#child.kill('SIGTERM');
    const ended = () => this.#child.exitCode !== null || this.#child.signalCode !== null;
    if (!(await this.until(ended, STOP_TIMEOUT))) this.#child.kill('SIGKILL');
  }
}

/** A line's message, if it is one. */
function parsed(line) {
  try {
    return line.startsWith('{') ? JSON.parse(line) : undefined;
  } catch {
    return undefined;
  }
}

export async function connect({ row, client }) {
  const names = namesOf(row);
  const all = await client.until(() => names.every((name) => client.isSubscribed(name)), CONNECT_TIMEOUT);
  return { connect: all ? 'yes' : `no: not subscribed to ${names.filter((name) => !client.isSubscribed(name)).join(', ')}` };
}

let number = 0;

/** Publishes one event, and returns its number once the server has answered 200. */
async function publish(server, channel) {
  const n = (number += 1);
  await server.sdk().trigger(channel, 'tick', { n });
  return n;
}

async function order({ row, client, server }) {
  const published = {};
  for (const channel of namesOf(row)) {
    published[channel] = [];
    for (let event = 0; event < EVENTS; event += 1) published[channel].push(await publish(server, channel));
  }
  const same = (channel) => String(client.of(channel)) === String(published[channel]);
  const all = await client.until(() => namesOf(row).every(same), EVENT_TIMEOUT);
  return { order: all ? 'yes' : `no: ${namesOf(row).filter((channel) => !same(channel)).join(', ')}` };
}

async function idleFor({ row, client, server, idle }) {
  const before = await opened(server);
  await delay(idle * 1000);
  const again = (await opened(server)) - before;
  if (!(await getsEvents(row, client, server))) return { idle: `no: gets no events any more` };
  return { idle: again === 0 ? 'yes' : `no: connected again, ${again} times` };
}

/** Whether an event of each channel arrives now. */
async function getsEvents(row, client, server, limit = EVENT_TIMEOUT) {
  const sent = [];
  for (const channel of namesOf(row)) sent.push([channel, await publish(server, channel)]);
  return client.until(() => sent.every(([channel, n]) => client.of(channel).includes(n)), limit);
}

/** Connections that the server has ever taken, by its own count. */
export async function opened(server) {
  server.metricsToken ??= JSON.parse(await server.cli('token', 'create', '--name', 'count', '--role', 'metrics', '--json')).secret;
  const answer = await fetch(`${server.url}/metrics`, { headers: { authorization: `Bearer ${server.metricsToken}` } });
  const text = await answer.text();
  const counts = [...text.matchAll(/^fanfare_connections_opened_total\S* (\d+)$/gm)].map((found) => Number(found[1]));
  if (counts.length === 0) throw new Error(`no connections are counted: ${answer.status} ${text.slice(0, 200)}`);
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Restarts the server while events are published: how long until the client gets them again, and which it never gets. */
async function restart(run) {
  const { server } = run;
  const { recovery, outcome } = await away(run, async () => {
    await server.end();
    await server.start();
  });
  return { restart: outcome, recovery };
}

/**
 * Publishes events while `leave` makes the client or the server go away and come back. Returns how long it took after its beginning, or
 * after what `leave` returned, until the client got events again, and what became of those that it can't have got meanwhile. `tick` is
 * the time between two events in milliseconds.
 */
export async function away({ row, client, server }, leave, tick = TICK) {
  const [sent, ticking] = [[], new AbortController()];
  const publishing = (async () => {
    while (!ticking.signal.aborted) {
      // While there is no server, what was not answered with 200 is no event.
      await publish(server, KEPT).then((n) => sent.push(n), () => {});
      await delay(tick);
    }
  })();
  await delay(1000);
  const left = performance.now();
  const ended = (await leave()) ?? left;
  const since = number;
  const back = await client.until(() => client.of(KEPT).some((n) => n > since), RETURN_TIMEOUT);
  const after = ((performance.now() - ended) / 1000).toFixed(1);
  await delay(1000);
  ticking.abort();
  await publishing;
  if (!back) return { outcome: 'no: gets no events any more', recovery: row.recovers ? 'no' : 'not offered' };
  const all = await getsEvents(row, client, server, RETURN_TIMEOUT);
  const missed = sent.filter((n) => !client.of(KEPT).includes(n)).length;
  const inOrder = client.of(KEPT).every((n, index, list) => index === 0 || n > list[index - 1]);
  const recovered = missed === 0 && inOrder ? 'yes' : `no: missed ${missed}${inOrder ? '' : ', out of order'}`;
  const recovery = row.recovers ? recovered : `not offered, missed ${missed}`;
  return { outcome: all ? `yes, after ${after} s` : 'no: not to all channels', recovery };
}
