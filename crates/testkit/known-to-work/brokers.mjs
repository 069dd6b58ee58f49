// Redis and Valkey in every form that nodes can share: one server, Sentinel, a cluster with replicas, with TLS and rights.
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { end, hasEnded, launch, removeFolder, temporaryFolder } from '../e2e/cluster/processes.mjs';
import { until } from '../e2e/cluster/until.mjs';
import { freePort } from '../e2e/harness.mjs';

const run = promisify(execFile);
const NODE_TIMEOUT = 2000;
const START = { within: 60_000, every: 100 };

/** A server, and what is asked of it by its own client. `programs` are the commands of both. */
export class RedisServer {
  #child;

  constructor(programs, settings = {}, { sentinel = false, credentials = [] } = {}) {
    Object.assign(this, { programs, settings, sentinel, credentials });
  }

  async start() {
    this.folder ??= await temporaryFolder('redis');
    this.port ??= await busPort();
    const all = { port: this.port, bind: '127.0.0.1', dir: this.folder, save: '""', appendonly: 'no', ...this.settings };
    if (this.sentinel) for (const name of ['save', 'appendonly']) delete all[name];
    const lines = Object.entries(all).flatMap(([name, value]) => [value].flat().map((one) => `${name} ${one}`));
    const file = join(this.folder, 'redis.conf');
    await writeFile(file, `${lines.join('\n')}\n`);
    const [program, ...args] = this.programs.server;
    const child = launch(program, [...args, file, ...(this.sentinel ? ['--sentinel'] : [])]);
    this.#child = child;
    const answers = async () => {
      if (hasEnded(child)) throw new Error(`it ended:\n${child.log.slice(-2000)}`);
      return (await this.ask('PING')).startsWith('PONG');
    };
    await until('the server answers', answers, START);
    return this;
  }

  get log() {
    return this.#child.log;
  }

  get pid() {
    return this.#child.pid;
  }

  async kill() {
    await end(this.#child, 'SIGKILL');
  }

  /** Kills it, and starts it again a moment later. */
  async restart() {
    await this.kill();
    await delay(500);
    await this.start();
  }

  async stop() {
    if (this.#child) await this.kill();
    if (this.folder) await removeFolder(this.folder);
  }

  async ask(...question) {
    const [program, ...args] = this.programs.client;
    const { stdout } = await run(program, [...args, '-p', String(this.port), ...this.credentials, ...question.map(String)], { timeout: 20_000 });
    return stdout;
  }
}

/** A port whose neighbour 10000 above is free as well, as members of a cluster want it. */
async function busPort() {
  for (;;) {
    const port = await freePort();
    if (port < 20_000) return port;
  }
}

/** One server, which is killed and comes back empty. */
export async function oneServer(programs) {
  const server = await new RedisServer(programs).start();
  return {
    url: `redis://127.0.0.1:${server.port}`,
    stop: () => server.stop(),
    fault: () => server.restart(),
  };
}

/** One server with TLS only, whose users have the rights of docs/clustering.md. */
export async function secured(programs) {
  const folder = await temporaryFolder('redis-tls');
  await makeAuthority(folder);
  const port = await busPort();
  const rights = '~{fanfare}* ~{fanfare:* &{fanfare}* &{fanfare:* -@all +@connection +@scripting +@pubsub +@hash +@set +@sortedset +@stream +@string +@keyspace -@dangerous +time +info +cluster|slots';
  const settings = {
    port: 0,
    'tls-port': port,
    'tls-cert-file': join(folder, 'server.pem'),
    'tls-key-file': join(folder, 'server.key'),
    'tls-ca-cert-file': join(folder, 'authority.pem'),
    'tls-auth-clients': 'no',
    user: [`fanfare on >secret ${rights}`, 'default on >root ~* &* +@all'],
  };
  const credentials = ['--tls', '--cacert', join(folder, 'authority.pem'), '-h', 'localhost', '-a', 'root', '--no-auth-warning'];
  const server = new RedisServer(programs, settings, { credentials });
  server.port = port;
  await server.start();
  return {
    url: `rediss://fanfare:secret@localhost:${port}`,
    env: { SSL_CERT_FILE: join(folder, 'authority.pem') },
    async stop() {
      await server.stop();
      await removeFolder(folder);
    },
    fault: () => server.restart(),
  };
}

/** An authority of one's own, and a certificate of it for this machine. */
async function makeAuthority(folder) {
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const of = (name) => ['-keyout', join(folder, `${name}.key`)];
  const authority = ['-subj', '/CN=Authority', '-days', '2', '-out', join(folder, 'authority.pem')];
  await run('openssl', ['req', '-x509', ...curve, ...of('authority'), ...authority]);
  const names = ['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-addext', 'basicConstraints=critical,CA:FALSE'];
  const signer = ['-CA', join(folder, 'authority.pem'), '-CAkey', join(folder, 'authority.key')];
  await run('openssl', ['req', '-x509', ...curve, ...of('server'), ...signer, '-subj', '/CN=localhost', '-days', '2', ...names, '-out', join(folder, 'server.pem')]);
}

/** A server that cuts off a node which has stood still for a moment. */
export async function smallBuffers(programs) {
  const server = await new RedisServer(programs, { 'client-output-buffer-limit': 'pubsub 256kb 128kb 1' }).start();
  return {
    url: `redis://127.0.0.1:${server.port}`,
    stop: () => server.stop(),
    async fault({ nodes, flood }) {
      const [, still] = nodes;
      process.kill(still.pid, 'SIGSTOP');
      const cut = () => /overcoming of output buffer limits/.test(server.log);
      await flood(cut);
      process.kill(still.pid, 'SIGCONT');
      if (!cut()) throw new Error('the limit was not hit');
    },
  };
}

/** A server whose memory is full for a while. */
export async function fullMemory(programs) {
  const server = await new RedisServer(programs, { 'maxmemory-policy': 'noeviction' }).start();
  return {
    url: `redis://127.0.0.1:${server.port}`,
    stop: () => server.stop(),
    async fault({ refused }) {
      await server.ask('CONFIG', 'SET', 'maxmemory', '1');
      await until('events are refused', refused, { within: 20_000 });
      await delay(3000);
      await server.ask('CONFIG', 'SET', 'maxmemory', '0');
    },
  };
}

/** A master with two replicas and three Sentinels. The master is killed. */
export async function sentinels(programs) {
  const guarded = { 'min-replicas-to-write': 1, 'min-replicas-max-lag': 2 };
  const master = await new RedisServer(programs, guarded).start();
  const replicas = [];
  for (let n = 0; n < 2; n += 1) {
    replicas.push(await new RedisServer(programs, { ...guarded, replicaof: `127.0.0.1 ${master.port}` }).start());
  }
  const watchers = [];
  for (let n = 0; n < 3; n += 1) {
    const settings = {
      sentinel: [
        `monitor main 127.0.0.1 ${master.port} 2`,
        `down-after-milliseconds main ${NODE_TIMEOUT}`,
        'failover-timeout main 10000',
      ],
    };
    watchers.push(await new RedisServer(programs, settings, { sentinel: true }).start());
  }
  await until('the Sentinels know each other and the replicas', async () => {
    const text = await watchers[0].ask('SENTINEL', 'CKQUORUM', 'main');
    const known = await watchers[0].ask('SENTINEL', 'REPLICAS', 'main');
    return text.startsWith('OK 3') && known.split('\n').filter((line) => line === 'name').length === 2;
  }, START);
  const all = [...watchers, ...replicas, master];
  return {
    url: `redis://${watchers.map(({ port }) => `127.0.0.1:${port}`).join(',')}?sentinel=main`,
    stop: () => Promise.all(all.map((server) => server.stop())),
    async fault() {
      await master.kill();
      const chosen = async () => !(await watchers[0].ask('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'main')).includes(`\n${master.port}\n`);
      await until('another master is chosen', chosen, { within: 60_000, every: 100 });
    },
  };
}

/** Three masters with a replica each. `fault` is `migrate` or `failover`. */
export async function redisCluster(programs, fault) {
  const settings = { 'cluster-enabled': 'yes', 'cluster-node-timeout': NODE_TIMEOUT };
  const servers = [];
  for (let n = 0; n < 6; n += 1) servers.push(await new RedisServer(programs, settings).start());
  const [program, ...args] = programs.client;
  const addresses = servers.map(({ port }) => `127.0.0.1:${port}`);
  await run(program, [...args, '--cluster', 'create', ...addresses, '--cluster-replicas', '1', '--cluster-yes'], { timeout: 120_000 });
  const serves = async () => {
    const states = await Promise.all(servers.map((server) => server.ask('CLUSTER', 'INFO').catch(() => 'gone')));
    return states.every((state) => state === 'gone' || state.includes('cluster_state:ok'));
  };
  await until('the cluster serves all slots', serves, START);
  const masters = async () => {
    const roles = await Promise.all(servers.map((server) => server.ask('ROLE').catch(() => 'gone')));
    return servers.filter((_, index) => roles[index].startsWith('master'));
  };
  const used = async (server) => {
    const keys = (await server.ask('KEYS', '*')).split('\n').filter(Boolean);
    return [...new Set(await Promise.all(keys.map((key) => server.ask('CLUSTER', 'KEYSLOT', key).then(Number))))];
  };
  const faults = {
    /** Every slot with keys goes to the next master, key by key, and back again. */
    async migrate() {
      for (let round = 0; round < 2; round += 1) {
        const now = await masters();
        const moves = [];
        for (const [index, from] of now.entries()) {
          for (const slot of await used(from)) moves.push([slot, from, now[(index + 1) % now.length]]);
        }
        if (moves.length === 0) throw new Error('there are no keys');
        for (const [slot, from, to] of moves) await migrate(slot, from, to, now);
        await delay(1000);
      }
    },
    /** The master with most of the keys is killed, and its replica takes over. */
    async failover() {
      const now = await masters();
      const counts = await Promise.all(now.map(async (server) => (await used(server)).length));
      const lost = now[counts.indexOf(Math.max(...counts))];
      await lost.kill();
      await until('a replica has taken over', async () => (await masters()).length === 3, { within: 60_000, every: 100 });
      await until('the cluster serves all slots', serves, START);
    },
  };
  return {
    url: `redis://${addresses.slice(0, 3).join(',')}`,
    stop: () => Promise.all(servers.map((server) => server.stop())),
    fault: faults[fault],
  };
}

async function migrate(slot, from, to, masters) {
  const [source, target] = await Promise.all([from, to].map(async (server) => (await server.ask('CLUSTER', 'MYID')).trim()));
  await to.ask('CLUSTER', 'SETSLOT', slot, 'IMPORTING', source);
  await from.ask('CLUSTER', 'SETSLOT', slot, 'MIGRATING', target);
  for (;;) {
    const keys = (await from.ask('CLUSTER', 'GETKEYSINSLOT', slot, 100)).split('\n').filter(Boolean);
    if (keys.length === 0) break;
    await from.ask('MIGRATE', '127.0.0.1', to.port, '', 0, 5000, 'KEYS', ...keys);
  }
  for (const server of [to, from, ...masters.filter((server) => server !== to && server !== from)]) {
    await server.ask('CLUSTER', 'SETSLOT', slot, 'NODE', target);
  }
}
