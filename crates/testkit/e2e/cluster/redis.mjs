// A Redis of the test's own, which can be stopped dead, killed, and started again with nothing in it.
import { once } from 'node:events';
import { connect } from 'node:net';
import { freePort } from '../harness.mjs';
import { end, hasEnded, launch, removeFolder, temporaryFolder } from './processes.mjs';
import { until } from './until.mjs';

export async function startRedis(settings = {}) {
  const redis = new Redis(await temporaryFolder('redis'), await freePort(), settings);
  await redis.start();
  return redis;
}

class Redis {
  #child;

  #settings;

  constructor(folder, port, settings) {
    this.folder = folder;
    this.port = port;
    this.#settings = settings;
  }

  /** Nothing is ever written to disk, so it starts empty. */
  async start() {
    const settings = { port: this.port, bind: '127.0.0.1', dir: this.folder, save: '', appendonly: 'no', ...this.#settings };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const child = launch('redis-server', args);
    child.once('error', (error) => (child.log += `${error.message}; install redis-server`));
    this.#child = child;
    await until('Redis answers', async () => {
      if (child.pid === undefined || hasEnded(child)) throw new Error(`Redis ended:\n${child.log}`);
      return (await this.ask('PING')) === '+PONG';
    });
  }

  /** The process stands still: connections stay, nobody answers. */
  freeze() {
    this.#child.kill('SIGSTOP');
  }

  thaw() {
    this.#child.kill('SIGCONT');
  }

  async kill() {
    await end(this.#child, 'SIGKILL');
  }

  async stop() {
    await this.kill();
    await removeFolder(this.folder);
  }

  /** The first line of the answer to a command. */
  async ask(command) {
    return (await this.askAll(command)).split('\r\n')[0];
  }

  /** The first piece of the answer that arrives. */
  async askAll(command) {
    const socket = connect(this.port, '127.0.0.1');
    try {
      socket.setTimeout(1000, () => socket.destroy(new Error('Redis does not answer')));
      socket.write(`${command}\r\n`);
      const [answer] = await once(socket, 'data');
      return answer.toString();
    } finally {
      socket.destroy();
    }
  }
}
