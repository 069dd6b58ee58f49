// A database of the test's own: on the server that FANFARE_TEST_POSTGRES names, or on one that is started for it, which can be stopped
// dead, killed, and started again.
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../harness.mjs';
import { end, hasEnded, launch, removeFolder, temporaryFolder } from './processes.mjs';
import { until } from './until.mjs';

const run = promisify(execFile);
const SQL_TIMEOUT = Number(process.env.FANFARE_TEST_TIMEOUT ?? 10_000);
const QUICK = ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off', 'unix_socket_directories='];

/** With `own`, on a server that nobody else has. `programs` is the folder of another version's programs. */
export async function startDatabase({ own = false, programs } = {}) {
  const name = `fanfare_${randomBytes(6).toString('hex')}`;
  const server = process.env.FANFARE_TEST_POSTGRES && !own ? undefined : await startServer(programs);
  const url = (database) => new URL(`/${database}`, server?.url ?? process.env.FANFARE_TEST_POSTGRES).href;
  await sql(url('postgres'), `CREATE DATABASE ${name}`);
  const stop = () => sql(url('postgres'), `DROP DATABASE ${name} WITH (FORCE)`);
  return server ? Object.assign(server, { url: url(name) }) : { url: url(name), stop };
}

export async function startServer(programs) {
  const folder = await temporaryFolder('postgres');
  const data = join(folder, 'data');
  const user = account();
  // Whoever Postgres runs as must be able to enter it.
  chmodSync(folder, 0o755);
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid);
  const options = { ...user, cwd: folder, env: { PATH: process.env.PATH, LC_ALL: 'C' } };
  const found = (name) => (programs ? join(programs, name) : program(name));
  await run(found('initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'], options);
  const server = new Server(folder, await freePort(), options, found);
  await server.start();
  return server;
}

class Server {
  #child;
  #options;
  #program;

  constructor(folder, port, options, found) {
    this.folder = folder;
    this.port = port;
    this.url = `postgres://postgres@127.0.0.1:${port}`;
    this.#options = options;
    this.#program = found;
  }

  get data() {
    return join(this.folder, 'data');
  }

  async start() {
    const settings = [...QUICK, 'listen_addresses=127.0.0.1', `port=${this.port}`].flatMap((setting) => ['-c', setting]);
    const child = launch(this.#program('postgres'), ['-D', this.data, ...settings], { ...this.#options, atExit: 'SIGQUIT' });
    this.#child = child;
    await until('Postgres answers', async () => {
      if (hasEnded(child)) throw new Error(`Postgres ended:\n${child.log}`);
      await sql(new URL('/postgres', this.url).href, 'SELECT 1');
      return true;
    });
  }

  /** The processes stand still: connections stay, nobody answers. */
  freeze() {
    this.#signal('SIGSTOP');
  }

  thaw() {
    this.#signal('SIGCONT');
  }

  /** It loses what it has not written down, which is everything that nodes share. */
  async kill() {
    const gone = end(this.#child, 'SIGQUIT');
    // What stands still gets no signal.
    this.thaw();
    await gone;
  }

  /** It writes down everything and ends, whoever is connected. */
  async end() {
    await end(this.#child, 'SIGINT');
  }

  async stop() {
    this.thaw();
    await this.end();
    await removeFolder(this.folder);
  }

  /** Another server that follows this one, until it is promoted. */
  async standby() {
    const folder = await temporaryFolder('standby');
    chmodSync(folder, 0o755);
    if (this.#options.uid !== undefined) chownSync(folder, this.#options.uid, this.#options.gid);
    const standby = new Server(folder, await freePort(), { ...this.#options, cwd: folder }, this.#program);
    const copy = ['-h', '127.0.0.1', '-p', String(this.port), '-U', 'postgres', '-D', standby.data, '-R', '-c', 'fast', '--no-sync'];
    await run(this.#program('pg_basebackup'), copy, this.#options);
    await standby.start();
    return standby;
  }

  async promote() {
    await sql(new URL('/postgres', this.url).href, 'SELECT pg_promote()');
  }

  /** The files of tables, indices and sequences of a database. */
  async filesOf(database, names) {
    const paths = names.map((name) => `pg_relation_filepath('${name}')`);
    const found = await sql(new URL(`/${database}`, this.url).href, `SELECT concat_ws(' ', ${paths})`);
    return found.trim().split(' ').map((path) => join(this.data, path));
  }

  #signal(signal) {
    if (hasEnded(this.#child)) return;
    const { pid } = this.#child;
    for (const one of [pid, ...childrenOf(pid)]) {
      try {
        process.kill(one, signal);
      } catch {
        // It has just ended.
      }
    }
  }
}

/** None if the process has just ended, which `ps` takes for a failure. */
function childrenOf(pid) {
  const { stdout } = spawnSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' });
  return (stdout.match(/\d+/g) ?? []).map(Number);
}

export async function sql(url, statement) {
  const { stdout } = await run(program('psql'), ['--no-psqlrc', '-qAt', '--command', statement, url], { timeout: SQL_TIMEOUT });
  return stdout;
}

/** Postgres refuses to run as root. */
function account() {
  if (process.getuid() !== 0) return {};
  const id = (flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

/** Debian keeps the server's programs where nobody's PATH leads. */
function program(name) {
  const versions = existsSync('/usr/lib/postgresql') ? readdirSync('/usr/lib/postgresql') : [];
  const folders = versions.sort((a, b) => b - a).map((version) => `/usr/lib/postgresql/${version}/bin`);
  return folders.map((folder) => join(folder, name)).find(existsSync) ?? name;
}
