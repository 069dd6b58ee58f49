// A database of the test's own: on the server that FANFARE_TEST_POSTGRES names, or on one that is started for it.
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../harness.mjs';
import { end, hasEnded, launch, removeFolder, temporaryFolder } from './processes.mjs';
import { until } from './until.mjs';

const run = promisify(execFile);
const QUICK = ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off', 'unix_socket_directories='];

export async function startDatabase() {
  const name = `fanfare_${randomBytes(6).toString('hex')}`;
  const server = process.env.FANFARE_TEST_POSTGRES ? undefined : await startServer();
  const url = (database) => new URL(`/${database}`, server?.url ?? process.env.FANFARE_TEST_POSTGRES).href;
  await sql(url('postgres'), `CREATE DATABASE ${name}`);
  return {
    url: url(name),
    async stop() {
      if (server) await server.stop();
      else await sql(url('postgres'), `DROP DATABASE ${name} WITH (FORCE)`);
    },
  };
}

async function startServer() {
  const folder = await temporaryFolder('postgres');
  const data = join(folder, 'data');
  const user = account();
  // Whoever Postgres runs as must be able to enter it.
  chmodSync(folder, 0o755);
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid);
  const options = { ...user, cwd: folder, env: { PATH: process.env.PATH, LC_ALL: 'C' } };
  await run(program('initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'], options);
  const port = await freePort();
  const settings = [...QUICK, 'listen_addresses=127.0.0.1', `port=${port}`].flatMap((setting) => ['-c', setting]);
  const child = launch(program('postgres'), ['-D', data, ...settings], { ...options, atExit: 'SIGQUIT' });
  const url = `postgres://postgres@127.0.0.1:${port}`;
  await until('Postgres answers', async () => {
    if (hasEnded(child)) throw new Error(`Postgres ended:\n${child.log}`);
    await sql(`${url}/postgres`, 'SELECT 1');
    return true;
  });
  return {
    url,
    async stop() {
      await end(child, 'SIGINT');
      await removeFolder(folder);
    },
  };
}

async function sql(url, statement) {
  await run(program('psql'), ['--no-psqlrc', '--quiet', '--command', statement, url], { timeout: 10_000 });
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
