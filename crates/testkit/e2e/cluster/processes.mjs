// What a test starts, and that none of it outlives the test, however that ends.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const running = new Map();
const folders = new Set();

process.on('exit', () => {
  for (const [child, signal] of running) child.kill(signal);
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
// The test runner's own way to end a file that takes too long; by default nothing of the above would happen then.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => process.exit(1));

/** Starts a program. `atExit` is the signal that ends it without fail when the test's process goes. */
export function launch(command, args, { atExit = 'SIGKILL', ...options } = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  running.set(child, atExit);
  child.once('error', () => running.delete(child));
  child.once('exit', () => running.delete(child));
  child.log = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text) => (child.log += text));
  }
  return child;
}

/** Sends a signal and waits until the process is gone; it is killed when that takes longer than `within`. */
export async function end(child, signal, within = 15_000) {
  if (hasEnded(child)) return child.exitCode;
  const gone = once(child, 'close');
  child.kill(signal);
  const tooLong = setTimeout(() => child.kill('SIGKILL'), within);
  const [code] = await gone;
  clearTimeout(tooLong);
  return code;
}

export function hasEnded(child) {
  return child.exitCode !== null || child.signalCode !== null;
}

export async function temporaryFolder(name) {
  const folder = await mkdtemp(join(tmpdir(), `fanfare-${name}-`));
  folders.add(folder);
  return folder;
}

export async function removeFolder(folder) {
  await rm(folder, { recursive: true, force: true });
  folders.delete(folder);
}
