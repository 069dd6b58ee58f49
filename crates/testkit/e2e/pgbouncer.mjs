// Debian's pgbouncer, configured with nothing but addresses and the pool mode.
import { execFileSync } from 'node:child_process';
import { chownSync, existsSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { end, hasEnded, launch, removeFolder, temporaryFolder } from './cluster/processes.mjs';
import { until } from './cluster/until.mjs';
import { freePort } from './harness.mjs';

/** Starts pgbouncer in front of a database: Debian's, or what `program` begins the command of. */
export async function startPooler(database, mode, program = [debian()]) {
  const folder = await temporaryFolder('pgbouncer');
  await chmod(folder, 0o755);
  const port = await freePort();
  const { hostname, port: behind, pathname } = new URL(database.url);
  const name = pathname.slice(1);
  const file = join(folder, 'pgbouncer.ini');
  await writeFile(
    file,
    `[databases]
${name} = host=${hostname} port=${behind} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = ${mode}
`,
  );
  const user = account();
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid);
  let child;
  const start = async () => {
    child = launch(program[0], [...program.slice(1), file], { ...user, cwd: folder, env: { PATH: process.env.PATH } });
    await until('pgbouncer listens', async () => {
      if (hasEnded(child)) throw new Error(`pgbouncer ended:\n${child.log}`);
      return answers(port);
    });
  };
  await start();
  return {
    url: `postgres://postgres@127.0.0.1:${port}/${name}`,
    async restart() {
      await end(child, 'SIGKILL');
      await start();
    },
    async stop() {
      await end(child, 'SIGINT');
      await removeFolder(folder);
    },
  };
}

function debian() {
  return ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer'].find(existsSync) ?? 'pgbouncer';
}

/** pgbouncer refuses to run as root. */
function account() {
  if (process.getuid() !== 0) return {};
  const id = (flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true) || socket.destroy());
    socket.once('error', () => resolve(false));
  });
}
