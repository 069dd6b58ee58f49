// One Redis for all rows, so that histories outlive the servers that restart.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { freePort } from '../e2e/harness.mjs';
import { NotAvailable } from './install.mjs';

let started;

export function redisUrl() {
  return (started ??= start());
}

async function start() {
  const port = await freePort();
  const child = spawn('redis-server', ['--port', String(port), '--save', '', '--appendonly', 'no', '--bind', '127.0.0.1']);
  process.on('exit', () => child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout });
  const failed = Promise.race([once(child, 'error'), once(child, 'exit')]).then(() => {
    throw new NotAvailable('redis-server does not start');
  });
  const ready = new Promise((resolve) => lines.on('line', (line) => /Ready to accept/.test(line) && resolve()));
  await Promise.race([ready, failed]);
  failed.catch(() => {});
  // It ends with the process, which must not wait for it.
  child.unref();
  child.stdout.unref();
  child.stderr.unref();
  return `redis://127.0.0.1:${port}`;
}
