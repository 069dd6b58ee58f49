// A page's reader: a folder, a shell that goes on from block to block, an app and a server of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import PusherHttp from 'pusher';
import { freePort, inTime } from '../harness.mjs';
import { start } from '../pages.mjs';
import { ROOT } from './blocks.mjs';

const BLOCK_TIMEOUT = 60_000;
/** The app of the pages. */
export const APP = { id: '1234567', key: '278d425bdf160c739803', secret: '7ad3773142a6692b25b8' };

// Sources one file after the other, so that variables, functions and folders stay. `wait` is for servers, which are ready then.
const DRIVER = `set -euo pipefail
# With -N in another terminal, once it has printed something.
curl() {
  [[ " $* " == *" -N "* ]] || { command curl --fail-with-body --silent --show-error "$@"; return; }
  rm -f "$PAGE_FOLDER/terminal"
  command curl --fail-with-body --silent --show-error "$@" >"$PAGE_FOLDER/terminal" 2>&1 &
  disown
  until [[ -s $PAGE_FOLDER/terminal ]]; do kill -0 $!; sleep 0.02; done
}
# The packages of these tests stand for those of a registry.
npm() {
  local name
  for name in "\${@:2}"; do [[ $1 == install && ( $name == -* || -d node_modules/$name ) ]]; done
}
while read -r file <&3; do
  source "$file" </dev/null >"$file.out" 2>&1
  wait
  echo done >&4
done`;

const running = new Set();
process.on('exit', () => running.forEach((session) => session.kill()));

/**
 * Begins a page. `app` are settings of its app, as a list of NAME=VALUE, or false for no app; `serve` is false where the page starts
 * its own server, `demo` is true where it needs the demo app. `replace` are the page's sample values, each with what stands for it; or
 * a function of the page that says them. `setup` is called before the server starts; with `postgres` a database is there, `page.database`, which psql finds.
 */
export async function startSession({ app = [], serve = true, demo = false, env = {}, replace = {}, postgres = false, setup } = {}) {
  const [port, second] = [await freePort(), await freePort()];
  const session = new Session(port, second, { FANFARE_DEMO: String(demo), ...env });
  running.add(session);
  if (postgres) await session.createDatabase();
  session.replace(typeof replace === 'function' ? await replace(session) : replace);
  if (app) {
    const settings = app.map((setting) => ` --setting '${setting}'`).join('');
    await session.shell(`mkdir data && FANFARE_DATA_DIR=$PWD/data fanfare app create --name Shop --id ${APP.id} --key ${APP.key} --secret ${APP.secret}${settings}`);
  }
  // Without an app there is no installation before the server has made one.
  if (app) await session.createToken();
  await setup?.(session);
  if (serve) await session.shell('fanfare serve');
  if (serve && !app) await session.createToken();
  return session;
}

class Session {
  /** Programs that blocks need and that aren't installed. */
  missing = new Set();
  #shell;
  #answers;
  #count = 0;
  #replace;
  #programs = [];

  constructor(port, second, env) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.folder = mkdtempSync(join(tmpdir(), 'fanfare-docs-'));
    const built = (name) => `'${join(ROOT, `sdk/js/dist/es/${name}.js`)}'`;
    this.#replace = {
      'https://realtime.example.com': this.url,
      6001: port,
      6002: second,
      "'@fanfare/client/recover'": built('recover'),
      "'@fanfare/client/pusher'": built('pusher'),
    };
    mkdirSync(join(this.folder, 'bin'));
    symlinkSync(fileURLToPath(new URL('./fanfare', import.meta.url)), join(this.folder, 'bin/fanfare'));
    for (const name of ['deploy', 'docker-compose.yml', 'scripts']) symlinkSync(join(ROOT, name), join(this.folder, name));
    symlinkSync(join(ROOT, 'crates/testkit/e2e/node_modules'), join(this.folder, 'node_modules'));
    this.#start(env);
  }

  #start(env) {
    // Settings of ours are not to be taken from whoever runs this.
    const theirs = Object.entries(process.env).filter(([name]) => !/^(?:FANFARE_|PUSHER_|PG|DATABASE_URL$)/.test(name));
    const program = resolve(process.env.FANFARE_BIN);
    this.env = {
      ...Object.fromEntries(theirs),
      PATH: `${join(this.folder, 'bin')}:${join(dirname(program), '../e2e-venv/bin')}:${process.env.PATH}:/usr/sbin`,
      HOME: this.folder,
      PAGE_FOLDER: this.folder,
      PAGE_PROGRAM: program,
      FANFARE_LISTEN: `127.0.0.1:${this.port}`,
      FANFARE_DRAIN_PERIOD: '0',
      SERVER: this.url,
      APP_ID: APP.id,
      APP_KEY: APP.key,
      APP_SECRET: APP.secret,
      ...env,
    };
    const stdio = ['ignore', 'inherit', 'inherit', 'pipe', 'pipe'];
    this.#shell = spawn('bash', ['--norc', '-c', DRIVER], { cwd: this.folder, detached: true, stdio, env: this.env });
    this.#answers = createInterface({ input: this.#shell.stdio[4] });
  }

  /** The block with this session's addresses and ids in the place of the page's. */
  fill(code) {
    // At once, because a port may contain another's digits; and whole words, because KEY is part of others.
    const names = Object.keys(this.#replace).sort((a, b) => b.length - a.length);
    const escaped = names.map((name) => (/^\w+$/.test(name) ? `\\b${name}\\b` : name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')));
    const any = new RegExp(escaped.join('|'), 'g');
    return code.replace(any, (name) => this.#replace[name]);
  }

  /** From now on, these samples of the page stand for these values. */
  replace(samples) {
    Object.assign(this.#replace, samples);
  }

  /** Runs a block in the page's shell, and returns what it printed. It fails as `bash -e` does. */
  async shell(code) {
    const file = join(this.folder, `.block-${(this.#count += 1)}`);
    writeFileSync(file, code);
    if (this.#shell.exitCode !== null) throw new Error('the shell has ended');
    const ended = once(this.#shell, 'exit');
    const answer = once(this.#answers, 'line');
    this.#shell.stdio[3].write(`${file}\n`);
    const what = `the block\n${code}`;
    const printed = () => readFileSync(`${file}.out`, 'utf8');
    const first = await inTime(what, BLOCK_TIMEOUT, Promise.race([answer, ended])).catch((error) => {
      throw new Error(`${error.message}\n${printed()}`);
    });
    if (first[0] !== 'done') throw new Error(`exit code ${first[0]}:\n${code}\n${printed()}`);
    return printed();
  }

  /** An owner's API token, in the page's $TOKEN. */
  async createToken() {
    const secret = 'fanfare token create --name docs --role owner --json | grep -oE \'"secret": *"[^"]*"\' | cut -d\\" -f4';
    this.token = (await this.shell(`TOKEN=$(${secret}); export TOKEN; echo $TOKEN`)).trim();
  }

  /** Waits until the server has taken all changes of its store: it does before it answers a request that changes something. */
  async settle() {
    const headers = { authorization: `Bearer ${this.token}`, 'content-type': 'application/json' };
    // Without a server, or an app, there is nothing to wait for.
    await fetch(`${this.url}/api/v1/apps/${APP.id}`, { method: 'PATCH', headers, body: '{}' }).catch(() => {});
  }

  /** What a command with -N has printed in its terminal. */
  terminal() {
    return readFileSync(join(this.folder, 'terminal'), 'utf8');
  }

  async createDatabase() {
    const server = process.env.FANFARE_TEST_POSTGRES;
    const name = `docs_${this.port}`;
    await this.shell(`psql --quiet ${server} -c 'DROP DATABASE IF EXISTS ${name}' -c 'CREATE DATABASE ${name}'`);
    this.database = `${server}/${name}`;
    const { hostname, port, username } = new URL(server);
    await this.shell(`export PGHOST=${hostname} PGPORT=${port} PGUSER=${username} PGDATABASE=${name}`);
  }

  /** Writes a file of the page. */
  write(name, code) {
    const path = join(this.folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, code);
    return path;
  }

  /** Starts a program in another terminal. */
  run(program, ...args) {
    const child = start(program, args, { cwd: this.folder, env: this.env });
    this.#programs.push(child);
    return child;
  }

  /** npm `pusher`, as the app's backend. */
  sdk() {
    return new PusherHttp({ appId: APP.id, key: APP.key, secret: APP.secret, host: '127.0.0.1', port: this.port, useTLS: false, encryptionMasterKeyBase64: Buffer.alloc(32).toString('base64') });
  }

  kill() {
    running.delete(this);
    for (const program of this.#programs) program.stop();
    const servers = join(this.folder, 'servers');
    const pids = [-this.#shell.pid];
    try {
      for (const name of readdirSync(servers).filter((file) => !file.endsWith('.log'))) pids.push(Number(readFileSync(join(servers, name), 'utf8')));
    } catch {
      // It started none.
    }
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }
}
