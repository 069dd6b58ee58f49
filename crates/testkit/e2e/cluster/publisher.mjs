import { setTimeout as delay } from 'node:timers/promises';

let publishers = 0;

/**
 * Publishes to one channel, one event after the other, each through the next of `nodes()`, until stopped. What was not accepted is
 * tried again as a new event: the old one must never arrive.
 */
export class Publisher {
  publishes = [];
  #stopped = false;
  #running;

  constructor(backend, channel, nodes, { pause = 20 } = {}) {
    this.channel = channel;
    const name = `${channel}/${(publishers += 1)}`;
    this.#running = this.#run(backend, nodes, pause, name);
  }

  get accepted() {
    return this.publishes.filter(({ outcome }) => outcome === 'accepted').length;
  }

  async stop() {
    this.#stopped = true;
    await this.#running;
  }

  async #run(backend, nodes, pause, name) {
    for (let n = 0; !this.#stopped; n += 1) {
      const there = nodes();
      if (there.length > 0) {
        this.publishes.push(await backend.publish(there[n % there.length], this.channel, `${name}#${n}`));
      }
      await delay(pause);
    }
  }
}
