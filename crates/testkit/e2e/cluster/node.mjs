// One node of the cluster: the built server as a process, its probes and its log.
import { get } from 'node:http';
import { end, hasEnded, launch, removeFolder, temporaryFolder } from './processes.mjs';
import { until } from './until.mjs';

const NOTICES = 'fanfare::notices';
// scripts/known-to-work runs many nodes beside each other, each of which takes longer.
const READY_TIMEOUT = Number(process.env.FANFARE_TEST_TIMEOUT ?? 15_000);

export class Node {
  /** What it wrote down about channels and members, over all its lives. */
  notices = [];
  #env;
  #child;
  #logs = [];

  constructor(name, port, env) {
    Object.assign(this, { name, port });
    this.#env = env;
  }

  get pid() {
    return this.#child.pid;
  }

  get log() {
    return this.#logs.join('') + (this.#child?.log ?? '');
  }

  /** Starts the process; `ready` waits until it is one of the cluster. */
  async start() {
    this.folder ??= await temporaryFolder(this.name);
    if (this.#child) this.#logs.push(this.#child.log);
    const env = { ...this.#env, PATH: process.env.PATH, FANFARE_LISTEN: `127.0.0.1:${this.port}`, FANFARE_DATA_DIR: this.folder };
    this.#child = launch(binary(), ['serve'], { env, cwd: this.folder });
    readLines(this.#child.stderr, (line) => this.#heed(line));
  }

  async ready(within = READY_TIMEOUT) {
    const explain = () => `the log of ${this.name} ends:\n${this.log.slice(-4000)}`;
    await until(`${this.name} is ready`, async () => {
      if (hasEnded(this.#child)) return false;
      return this.isReady();
    }, { within, every: 50, explain });
  }

  async isReady() {
    return (await this.probe()) === 200;
  }

  /** The status of /readyz, 0 if nobody answers. */
  probe() {
    return new Promise((resolve) => {
      const asked = get({ host: '127.0.0.1', port: this.port, path: '/readyz', agent: false, timeout: 2000 }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      asked.once('timeout', () => asked.destroy());
      asked.once('error', () => resolve(0));
    });
  }

  /** Tells it to stop and waits for that; the result is its exit code, null if it had to be killed after `within`. */
  async stop(within) {
    return end(this.#child, 'SIGTERM', within);
  }

  async kill() {
    await end(this.#child, 'SIGKILL');
  }

  async remove() {
    if (this.#child) await this.kill();
    if (this.folder) await removeFolder(this.folder);
    if (/panicked at/.test(this.log)) throw new Error(`${this.name} panicked:\n${this.log.slice(-4000)}`);
  }

  #heed(line) {
    if (!line.includes(NOTICES)) return;
    const { timestamp, target, fields, ...rest } = JSON.parse(line);
    if (target !== NOTICES) return;
    const { notice, app, channel, user_id } = { ...rest, ...fields };
    this.notices.push({ at: milliseconds(timestamp), node: this.name, notice, app, channel, user_id });
  }
}

/** The program's own command line; what it printed. */
export function binary() {
  if (!process.env.FANFARE_BIN) throw new Error('FANFARE_BIN must hold the path of the built binary');
  return process.env.FANFARE_BIN;
}

/** With the fraction that Date leaves out, for nodes may write within the same millisecond. */
function milliseconds(timestamp) {
  return Date.parse(timestamp) + Number(`0.${timestamp.match(/\.\d{3}(\d*)/)?.[1] || 0}`);
}

function readLines(stream, heed) {
  let rest = '';
  stream.on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    lines.forEach(heed);
  });
}
