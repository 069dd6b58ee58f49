// People and events around nodes that are replaced one after the other: clients come through a balancer, and after each node all of
// them are back and events are taken.
import assert from 'node:assert/strict';
import { startBalancer } from './balancer.mjs';
import { until } from './until.mjs';

const CHANNELS = ['news', 'sports'];
const ROOM = 'presence-lobby';

/**
 * `clients` unmodified pusher-js and `members` of a presence channel, all subscribed, while two publishers use the nodes in turn.
 */
export async function startUsage(cluster, { clients, members }) {
  const balancer = await cluster.keep(startBalancer(cluster.nodes));
  const usage = new Usage(cluster, balancer);
  await usage.start(clients, members);
  return usage;
}

class Usage {
  #cluster;
  #clients;
  #members;
  #publishers;

  constructor(cluster, balancer) {
    this.#cluster = cluster;
    this.balancer = balancer;
  }

  async start(clients, members) {
    const cluster = this.#cluster;
    this.#clients = Array.from({ length: clients }, (_, n) => cluster.pusherJs(this.balancer).subscribe(CHANNELS[n % 2]));
    await this.#allAreSubscribed(30_000);
    this.#members = Array.from({ length: members }, (_, n) => cluster.client(this.balancer, { user: `user-${n}` }));
    await Promise.all(this.#members.map((member) => member.subscribes(ROOM)));
    this.#publishers = CHANNELS.map((channel) => cluster.publisher(channel, () => cluster.nodes, { pause: 40 }));
    await this.#eventsAreTaken();
  }

  /** Waits for `replace`, which replaces a node. All clients that are closed meanwhile must get 4200; returns how many those are. */
  async during(replace) {
    const { closings } = this.#cluster.history;
    const before = closings.length;
    await replace();
    const sentAway = closings.slice(before);
    assert.deepEqual([...new Set(sentAway.map(({ code }) => code))], [4200]);
    return sentAway.length;
  }

  async isAsBefore() {
    await this.#allAreSubscribed();
    await until('all members are back', () => this.#members.every((member) => member.session(ROOM)));
    await this.#cluster.viewsAreRight();
    await this.#cluster.countsAreRight(ROOM);
    await this.#eventsAreTaken();
  }

  /** Nothing was lost, doubled or swapped. */
  async judge(t) {
    await Promise.all(this.#publishers.map((publisher) => publisher.stop()));
    for (const channel of CHANNELS) await this.#cluster.flush(channel);
    this.#cluster.judge(t);
  }

  async #allAreSubscribed(within) {
    const subscribed = () => this.#clients.filter((client, n) => client.session(CHANNELS[n % 2])).length;
    const explain = () => `${subscribed()} are`;
    await until('all are subscribed', () => subscribed() === this.#clients.length, { within, explain });
  }

  async #eventsAreTaken() {
    const before = this.#publishers.map(({ accepted }) => accepted);
    const taken = () => this.#publishers.every(({ accepted }, n) => accepted > before[n] + 10);
    await until('events are taken', taken);
  }
}
