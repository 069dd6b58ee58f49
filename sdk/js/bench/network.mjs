// A client's way to the server, which can be cut.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Network {
  #sockets = new Set();
  #away = false;
  #timers = new Set();
  #listener;

  static async start(target) {
    const network = new Network();
    network.#listener = createServer((near) => network.#accept(near, target)).listen(0, '127.0.0.1');
    await once(network.#listener, 'listening');
    return network;
  }

  get port() {
    return this.#listener.address().port;
  }

  /** Cuts everything every so many milliseconds, and lets nothing through for a while. */
  jitter({ every, away, first }) {
    const cut = () => {
      this.#away = true;
      this.#sockets.forEach((socket) => socket.destroy());
      this.#later(away, () => (this.#away = false));
      this.#later(every + away, cut);
    };
    this.#later(first, cut);
  }

  /** From now on nothing is cut. */
  calm() {
    this.#timers.forEach(clearTimeout);
    this.#timers.clear();
    this.#away = false;
  }

  stop() {
    this.calm();
    this.#listener.close();
    this.#sockets.forEach((socket) => socket.destroy());
  }

  #later(milliseconds, action) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, milliseconds);
    this.#timers.add(timer);
  }

  #accept(near, target) {
    near.on('error', () => {});
    if (this.#away) return near.destroy();
    const far = connect(target(), '127.0.0.1');
    far.on('error', () => near.destroy());
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.setNoDelay();
      socket.once('close', () => {
        this.#sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far);
    far.pipe(near);
  }
}
