// A TCP load balancer that sends each connection to the ready node with the fewest.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../harness.mjs';

const PROBE_EVERY = 50;

export async function startBalancer(nodes) {
  const balancer = new Balancer(nodes, await freePort());
  await balancer.start();
  return balancer;
}

class Balancer {
  /** Connections through it, by the name of the node. */
  open = new Map();
  #ready = new Set();
  #sockets = new Set();
  #listener;
  #stopped = false;

  constructor(nodes, port) {
    this.name = 'balancer';
    this.nodes = nodes;
    this.port = port;
    nodes.forEach((node) => this.open.set(node.name, 0));
  }

  get ready() {
    return this.nodes.filter((node) => this.#ready.has(node));
  }

  async start() {
    await Promise.all(this.nodes.map((node) => this.#probe(node)));
    this.nodes.forEach((node) => this.#watch(node));
    this.#listener = createServer((near) => this.#accept(near)).listen(this.port, '127.0.0.1', 1024);
    await once(this.#listener, 'listening');
  }

  async stop() {
    this.#stopped = true;
    this.#listener.close();
    this.#sockets.forEach((socket) => socket.destroy());
    await once(this.#listener, 'close');
  }

  async #watch(node) {
    while (!this.#stopped) {
      await delay(PROBE_EVERY, undefined, { ref: false });
      await this.#probe(node);
    }
  }

  async #probe(node) {
    if (await node.isReady()) this.#ready.add(node);
    else this.#ready.delete(node);
  }

  async #accept(near) {
    this.#sockets.add(near);
    near.once('close', () => this.#sockets.delete(near));
    near.on('error', () => {});
    near.pause();
    while (this.ready.length === 0 && !near.destroyed) await delay(PROBE_EVERY);
    if (near.destroyed) return;
    const [node] = this.ready.sort((a, b) => this.open.get(a.name) - this.open.get(b.name));
    this.#count(node, 1);
    const far = connect(node.port, '127.0.0.1');
    this.#sockets.add(far);
    far.on('error', () => near.destroy());
    far.once('close', () => {
      this.#sockets.delete(far);
      this.#count(node, -1);
      near.end();
    });
    near.once('close', () => far.destroy());
    near.pipe(far);
    far.pipe(near);
  }

  #count(node, by) {
    this.open.set(node.name, this.open.get(node.name) + by);
  }
}
