// The network between one node and what nodes share, which can be cut in both ways that networks are.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { freePort } from '../harness.mjs';

export async function startCable(farPort) {
  const cable = new Cable(await freePort(), farPort);
  await cable.listen();
  return cable;
}

class Cable {
  #listener;
  #links = new Set();
  #silent = false;

  constructor(port, farPort) {
    this.port = port;
    this.farPort = farPort;
  }

  async listen() {
    this.#listener = createServer((near) => this.#link(near)).listen(this.port, '127.0.0.1');
    await once(this.#listener, 'listening');
  }

  /** Nothing arrives any more and nobody is told. What was sent meanwhile arrives after `heal`, as TCP has it. */
  goSilent() {
    this.#silent = true;
  }

  /** All connections break and new ones are refused. */
  async breakOff() {
    const closed = once(this.#listener, 'close');
    this.#listener.close();
    this.#links.forEach((link) => link.destroy());
    await closed;
  }

  /** New connections lead to another port. */
  redirect(farPort) {
    this.farPort = farPort;
  }

  /** All connections break, and new ones are let through. */
  reset() {
    this.#links.forEach((link) => link.destroy());
  }

  async heal() {
    this.#silent = false;
    this.#links.forEach((link) => link.flush());
    if (!this.#listener.listening) await this.listen();
  }

  async stop() {
    this.#links.forEach((link) => link.destroy());
    if (this.#listener.listening) await this.breakOff();
  }

  #link(near) {
    const far = connect(this.farPort, '127.0.0.1');
    const link = new Link(near, far, () => this.#silent);
    this.#links.add(link);
    near.once('close', () => far.destroyed && this.#links.delete(link));
    far.once('close', () => near.destroyed && this.#links.delete(link));
  }
}

/** Two sockets. What one end sends is read at once even when it must wait, so that a reset by its sender cannot take it back. */
class Link {
  #waiting = [];

  constructor(near, far, isSilent) {
    this.ends = [near, far];
    this.isSilent = isSilent;
    this.#forward(near, far);
    this.#forward(far, near);
  }

  #forward(from, to) {
    from.on('data', (chunk) => this.#pass(() => to.write(chunk)));
    from.on('close', () => this.#pass(() => to.end()));
    from.on('error', () => {});
  }

  #pass(act) {
    if (this.isSilent()) this.#waiting.push(act);
    else act();
  }

  flush() {
    this.#waiting.splice(0).forEach((act) => act());
  }

  destroy() {
    this.ends.forEach((socket) => socket.destroy());
  }
}
