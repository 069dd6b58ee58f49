// The servers under the jitter: one node by itself, or several on Redis and Postgres behind a balancer.
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import PusherHttp from '../../../crates/testkit/e2e/node_modules/pusher/lib/pusher.js';
import { startServer } from '../../../crates/testkit/e2e/harness.mjs';
import { startBalancer } from '../../../crates/testkit/e2e/cluster/balancer.mjs';
import { startCluster } from '../../../crates/testkit/e2e/cluster/topology.mjs';

const HISTORY = (channel) => JSON.stringify([{ channels: channel, size: 500, ttl: 300 }]);
const DRAIN = 4;

export async function startServers(nodes, channel) {
  if (nodes === 1) {
    const server = await startServer({ settings: { history: HISTORY(channel) } });
    return new Servers({ app: server.app, nodes: [server], stop: () => server.end() }, server);
  }
  const env = { FANFARE_DRAIN_PERIOD: String(DRAIN) };
  const cluster = await startCluster({ nodes, env, settings: { history: HISTORY(channel) } });
  return new Servers(cluster, await startBalancer(cluster.nodes));
}

class Servers {
  /** `front` is where clients connect. */
  constructor(cluster, front) {
    Object.assign(this, { cluster, front, app: cluster.app });
  }

  /** Where the next connection goes. */
  port() {
    return this.front.port;
  }

  /** Waits until so many connections are subscribed. */
  async settled(channel, count) {
    for (;;) {
      const response = await this.#sdk(this.cluster.nodes[0]).get({ path: `/channels/${channel}`, params: { info: 'subscription_count' } });
      if (response.ok && (await response.json()).subscription_count >= count) return;
      await delay(200);
    }
  }

  /** Publishes once, however often that must be tried. */
  async publish(channel, name, data) {
    const body = { name, channel, data: JSON.stringify(data), idempotency_key: randomUUID() };
    for (let attempt = 0; ; attempt += 1) {
      const node = this.cluster.nodes[attempt % this.cluster.nodes.length];
      const response = await this.#sdk(node).post({ path: '/events', body }).catch((error) => error);
      if (response.ok) return;
      await delay(50);
    }
  }

  /** One node after the other. */
  async restartAll() {
    for (const node of this.cluster.nodes) {
      await node.stop((DRAIN + 12) * 1000);
      await node.start();
      await node.ready();
    }
  }

  async stop() {
    if (this.cluster.nodes.length > 1) await this.front.stop();
    await this.cluster.stop();
  }

  #sdk({ port }) {
    const { id, key, secret } = this.app;
    return new PusherHttp({ appId: id, key, secret, host: '127.0.0.1', port });
  }
}
