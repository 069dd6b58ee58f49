// A Redis Cluster of three masters without replicas and without persistence, each of which can be killed and comes back empty.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { promisify } from 'node:util';
import { freePort } from '../harness.mjs';
import { end, launch, removeFolder, temporaryFolder } from './processes.mjs';
import { until } from './until.mjs';

const run = promisify(execFile);
const MASTERS = 3;

export async function startRedisCluster() {
  const cluster = new RedisCluster();
  try {
    await cluster.start();
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return cluster;
}

class RedisCluster {
  masters = [];

  async start() {
    for (let n = 0; n < MASTERS; n += 1) {
      const master = new Master(await temporaryFolder('redis-cluster'), await busPort());
      this.masters.push(master);
      await master.start();
    }
    const addresses = this.masters.map(({ port }) => `127.0.0.1:${port}`);
    await run('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-yes'], { timeout: 20_000 });
    await this.serves();
  }

  /** What stands in a URL after the first host and before the path. */
  get ports() {
    return this.masters.map(({ port }) => port).join(',127.0.0.1:');
  }

  async serves() {
    for (const master of this.masters) {
      await until('the Redis Cluster serves all slots', async () => (await master.ask('CLUSTER', 'INFO')).includes('cluster_state:ok'), {
        within: 20_000,
      });
    }
  }

  async stop() {
    await Promise.all(this.masters.map((master) => master.stop()));
  }
}

class Master {
  #child;

  constructor(folder, port) {
    Object.assign(this, { folder, port });
  }

  /** It knows its slots from before, and nothing else. */
  async start() {
    const settings = {
      port: this.port,
      bind: '127.0.0.1',
      dir: this.folder,
      save: '',
      appendonly: 'no',
      'cluster-enabled': 'yes',
      'cluster-node-timeout': '1000',
    };
    this.#child = launch('redis-server', Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]));
    await until('a master answers', async () => (await this.ask('PING')).startsWith('PONG'));
  }

  async kill() {
    await end(this.#child, 'SIGKILL');
  }

  async stop() {
    if (this.#child) await this.kill();
    await removeFolder(this.folder);
  }

  async ask(...question) {
    const { stdout } = await run('redis-cli', ['-p', String(this.port), ...question], { timeout: 5000 });
    return stdout;
  }
}

/** A free port whose neighbour 10000 above, which the masters use among themselves, is free as well. */
async function busPort() {
  for (;;) {
    const port = await freePort();
    if (port < 50_000 && (await isFree(port + 10_000))) return String(port);
  }
}

async function isFree(port) {
  const listener = createServer().listen(port, '127.0.0.1');
  try {
    await once(listener, 'listening');
  } catch {
    return false;
  }
  listener.close();
  await once(listener, 'close');
  return true;
}
