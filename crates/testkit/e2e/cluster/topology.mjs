// A cluster of nodes over one Redis and one Postgres, or over one Postgres alone, with an app, and what a test does to it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import PusherHttp from 'pusher';
import { freePort } from '../harness.mjs';
import { Backend } from './backend.mjs';
import { Client } from './client.mjs';
import { History } from './history.mjs';
import { Node, binary } from './node.mjs';
import { judgeNotices } from './notice-oracle.mjs';
import { judgeDelivery } from './oracle.mjs';
import { startDatabase } from './postgres.mjs';
import { judgeCounts, judgeEdges, judgeViews } from './presence-oracle.mjs';
import { removeFolder, temporaryFolder } from './processes.mjs';
import { Publisher } from './publisher.mjs';
import { PusherJsClient } from './pusher-js-client.mjs';
import { startRedis } from './redis.mjs';
import { until } from './until.mjs';

const run = promisify(execFile);
const COMMAND_TIMEOUT = Number(process.env.FANFARE_TEST_TIMEOUT ?? 20_000);
/** Within this a dead node's members must be gone. */
export const DEAD_WITHIN = 10_000;
const ON_POSTGRES = process.env.FANFARE_TEST_CLUSTER === 'postgres';
/** Seconds over which connections are closed, where a test does not say otherwise. */
export const DRAIN = 2;

/**
 * Starts nodes and waits until all are ready. `settings` are the app's, `env` the nodes', `ownEnv` says what one of them has besides,
 * and `sharedPort` says for each node where it finds what nodes share: Redis, or the store's Postgres if `onPostgres`, which is so by
 * itself where FANFARE_TEST_CLUSTER is `postgres`.
 */
export async function startCluster({ nodes = 3, ...options } = {}) {
  const cluster = new Cluster();
  try {
    await cluster.start(nodes, options);
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return cluster;
}

class Cluster {
  history = new History();
  clients = new Set();
  publishers = new Set();
  nodes = [];
  /** To be stopped with the cluster, the last first. */
  belongings = [];
  #env;

  async start(count, { settings = {}, env = {}, ownEnv = () => ({}), sharedPort = (_name, port) => port, onPostgres = ON_POSTGRES }) {
    const starting = [this.keep(startDatabase({ own: onPostgres })), ...(onPostgres ? [] : [this.keep(startRedis())])];
    const [database, redis] = await Promise.all(starting);
    this.shared = redis ?? database;
    this.#env = {
      DATABASE_URL: database.url,
      FANFARE_MASTER_KEY: randomBytes(32).toString('hex'),
      FANFARE_DEMO: 'false',
      FANFARE_DRAIN_PERIOD: String(DRAIN),
      FANFARE_LOG_FORMAT: 'json',
      FANFARE_LOG_FILTER: 'info,fanfare::notices=debug',
      ...env,
    };
    this.app = await this.createApp(settings);
    this.backend = this.backendOf(this.app);
    for (const name of ['A', 'B', 'C', 'D', 'E'].slice(0, count)) {
      const port = await sharedPort(name, this.shared.port, this.shared);
      const url = redis ? `redis://127.0.0.1:${port}` : storeAt(database, port);
      this.nodes.push(new Node(name, await freePort(), { ...this.#env, FANFARE_CLUSTER_URL: url, ...ownEnv(name, database) }));
    }
    await Promise.all(this.nodes.map((node) => node.start()));
    await this.ready();
  }

  async ready({ nodes = this.nodes, within } = {}) {
    await Promise.all(nodes.map((node) => node.ready(within)));
  }

  /** After a test, also one that failed: the next one begins with an empty history. */
  async rest() {
    await Promise.all([...this.publishers].map((publisher) => publisher.stop()));
    this.publishers.clear();
    this.leave([...this.clients]);
    this.history = new History();
    if (this.backend) this.backend.history = this.history;
  }

  async stop() {
    await this.rest();
    const ends = await Promise.allSettled([
      ...this.nodes.map((node) => node.remove()),
      ...this.belongings.reverse().map(async (belonging) => (await belonging)?.stop()),
    ]);
    const failed = ends.find(({ status }) => status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** Whatever is started is stopped with the cluster, also if the start of something else fails. */
  async keep(starting) {
    const started = await starting;
    this.belongings.push(started);
    return started;
  }

  /** Before the nodes start, or up to a second later they do not know it. */
  async createApp(settings = {}) {
    const [id, key, secret] = [6, 10, 10].map((bytes) => randomBytes(bytes).toString('hex'));
    const flags = ['--name', `App ${id}`, '--id', id, '--key', key, '--secret', secret, '--client-events', '--json'];
    const set = Object.entries(settings).flatMap(([name, value]) => ['--setting', `${name}=${value}`]);
    await this.command('app', 'create', ...flags, ...set);
    return { id, key, secret, sdk: new PusherHttp({ appId: id, key, secret }) };
  }

  /** The program's own command line; what it printed. */
  async command(...words) {
    const folder = await temporaryFolder('command');
    const env = { ...this.#env, PATH: process.env.PATH, FANFARE_DATA_DIR: folder };
    const { stdout } = await run(binary(), words, { env, cwd: folder, timeout: COMMAND_TIMEOUT });
    await removeFolder(folder);
    return stdout;
  }

  /** Another app while the nodes run, as soon as all of them know it. */
  async addApp(settings) {
    const app = await this.createApp(settings);
    const backend = this.backendOf(app);
    for (const node of this.nodes) await until(`${node.name} knows the app`, () => backend.get(node, '/channels'));
    return app;
  }

  backendOf(app) {
    const backend = new Backend(app, this.history);
    this.belongings.push(backend);
    return backend;
  }

  /** Publishes to a channel through the next of `nodes()` each time, until it or the test is stopped. */
  publisher(channel, nodes, options) {
    const publisher = new Publisher(this.backend, channel, nodes, options);
    this.publishers.add(publisher);
    return publisher;
  }

  client(node, options) {
    return this.#track(new Client({ history: this.history, app: this.app, node, ...options }));
  }

  pusherJs(node, options) {
    return this.#track(new PusherJsClient({ history: this.history, app: this.app, node, ...options }));
  }

  #track(client) {
    this.clients.add(client);
    return client;
  }

  leave(clients, options) {
    for (const client of clients) {
      client.leave(options);
      this.clients.delete(client);
    }
  }

  /** Of the channels of this test. */
  get notices() {
    const channels = new Set(this.history.sessions.map(({ channel }) => channel));
    const ours = ({ app, channel }) => app === this.app.id && channels.has(channel);
    return this.nodes.flatMap(({ notices }) => notices).filter(ours);
  }

  /** Waits until a node has told that each channel is occupied, a moment after its first subscription: counts are reported in batches. */
  async areOccupied(...channels) {
    const isTold = (name) => this.notices.some(({ notice, channel }) => notice === 'occupied' && channel === name);
    await until(`nodes have told that ${channels} are occupied`, () => channels.every(isTold));
  }

  /** Publishes until it is accepted, and waits until everybody who is subscribed has got that: nothing is on its way any more. */
  async flush(channel, { nodes = this.nodes, within = 10_000 } = {}) {
    let n = 0;
    const id = () => `${channel}/flush${this.history.publishes.length}#${n}`;
    const accepted = await until(`an event to ${channel} is accepted`, async () => {
      const publish = await this.backend.publish(nodes[(n += 1) % nodes.length], channel, id());
      return publish.outcome === 'accepted' && publish;
    }, { within, every: 100, explain: () => this.history.publishes.at(-1).text });
    const waiting = () => this.history.open(channel).filter((session) => session.from < accepted.sentAt && !has(session, accepted.id));
    const explain = () => `${waiting().length} have not, such as ${JSON.stringify(waiting()[0])?.slice(-300)}`;
    await until(`everybody on ${channel} has got ${accepted.id}`, () => waiting().length === 0, { within, explain });
  }

  /** Waits until every view of presence channels is what it should be. */
  async viewsAreRight({ within } = {}) {
    const problems = () => judgeViews(this.history);
    await until('every member sees everybody who is there and nobody else', () => problems().length === 0, {
      within,
      every: 50,
      explain: () => some(problems()),
    });
  }

  /** Waits until each of `nodes` says of a presence channel what its subscriptions say. */
  async countsAreRight(channel, { nodes = this.nodes, within } = {}) {
    const expected = this.history.present(channel);
    const ask = (node, path, params) => this.backend.get(node, path, params);
    await Promise.all(
      nodes.map(async (node) => {
        let problems;
        await until(`${node.name} knows who is on ${channel}`, async () => {
          problems = judgeCounts(channel, expected, {
            users: await ask(node, `/channels/${channel}/users`),
            one: await ask(node, `/channels/${channel}`, { info: 'user_count' }),
            list: await ask(node, '/channels', { filter_by_prefix: 'presence-', info: 'user_count' }),
          });
          return problems.length === 0;
        }, { within, every: 50, explain: () => problems?.join('\n') ?? '' });
      }),
    );
  }

  /** What must hold of every history, whatever was done to the cluster. */
  judge(t, { grace } = {}) {
    const { problems, tally } = judgeDelivery(this.history, { grace });
    t.diagnostic(JSON.stringify(tally));
    report([...problems, ...judgeEdges(this.history)]);
    return tally;
  }

  /** Everybody leaves; then every channel must be vacated and every member gone, each said once by one node. */
  async judgeNotices(t, options = {}) {
    this.leave([...this.clients]);
    const judged = () => judgeNotices(this.notices, options);
    await until('all notices are told', () => judged().problems.length === 0, { every: 50, within: 15_000 }).catch(() => {});
    // What is excused may only not have been told yet.
    await until('nothing is excused', () => judged().excused.length === 0, { every: 50, within: 5000 }).catch(() => {});
    const { problems, excused } = judged();
    report(problems);
    assert.ok(this.notices.length > 0, 'no node told anything');
    t.diagnostic(`${this.notices.length} notices, ${excused.length} excused: ${excused.slice(0, 10).join(', ')}`);
  }
}

/** The setting for a node that finds the store's Postgres at another port. */
function storeAt({ url, port }, other) {
  return other === port ? 'store' : Object.assign(new URL(url), { port: other }).href;
}

export function has(session, id) {
  return session.events.some((event) => event.id === id);
}

export function report(problems) {
  assert.equal(problems.length, 0, some(problems));
}

function some(problems) {
  return [`${problems.length} problems`, ...problems.slice(0, 10)].join('\n');
}
