// A proxy between pusher-js and the server: a configuration of a few lines, everything else as the proxy's own defaults have it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort, heard, startServer } from '../e2e/harness.mjs';
import { makeCertificate } from '../e2e/proxy.mjs';
import { runClient, steps as clientSteps } from './client-row.mjs';
import { NotAvailable } from './install.mjs';

const START_TIMEOUT = 20_000;
const STOP_TIMEOUT = 3_000;
/** How soon an event must be in a stream that nothing holds back. */
const AT_ONCE = 3_000;

export const steps = {
  ...clientSteps,
  stream: { title: 'streams', needed: false },
  close: { title: 'close codes', needed: true },
};
delete steps.recovery;

/**
 * Makes a row of a proxy. `software(temporary)` installs it and returns `version` and what `command` needs. `files({ port, to, folder })`
 * are its configuration by names, `command({ port, to, folder, software })` starts it. With `tls` clients speak TLS to it.
 */
export function frontRow({ software, ...row }) {
  return { ...row, run: async (context) => runFront(row, await software(context.temporary), context) };
}

async function runFront(row, software, { idle, say }) {
  const front = (server) => startFront(row, software, server.port);
  const client = { program: 'pusher-js.mjs', channels: ['public', 'private', 'presence'] };
  const here = { version: software.version, folder: join(import.meta.dirname, '../e2e') };
  const passed = await runClient(client, here, { idle, say, front, tls: row.tls });
  const { recovery, ...steps } = passed.steps;
  return { version: software.version, steps: { ...steps, ...(await alsoTry(row, software, front)) } };
}

/** What the client of the other steps doesn't use: the streaming fallback, and the server's close codes. */
async function alsoTry(row, software, front) {
  const server = await startServer();
  const proxy = await front(server);
  try {
    const { port } = proxy;
    const through = row.tls ? { forceTLS: true, wssPort: port, httpsPort: port } : { wsPort: port, httpPort: port };
    const streaming = server.client({ ...through, httpHost: '127.0.0.1', enabledTransports: ['xhr_streaming'] });
    const stream = await streams(streaming, server);
    streaming.disconnect();
    const refused = server.client({ ...through, key: 'unknown' });
    const code = await Promise.race([closeCode(refused), delay(START_TIMEOUT)]);
    return { stream, close: code === 4001 ? 'yes' : `no: ${code}` };
  } finally {
    server.disconnectClients();
    await proxy.stop();
    await server.stop();
  }
}

async function streams(client, server) {
  const channel = client.subscribe('news');
  const subscribed = heard('subscription', (done) => channel.bind('pusher:subscription_succeeded', done));
  if ((await Promise.race([subscribed, delay(START_TIMEOUT, 'late')])) === 'late') return 'no: not subscribed';
  const event = heard('event', (done) => channel.bind('tick', done));
  await server.sdk().trigger('news', 'tick', {});
  return (await Promise.race([event, delay(AT_ONCE, 'late')])) === 'late' ? 'no' : 'yes';
}

function closeCode(client) {
  return heard('close', (done) => client.connection.bind('error', (error) => done((error.error ?? error).data?.code)));
}

/** Starts a proxy that forwards to a port of this machine. */
export async function startFront(row, software, to) {
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-front-'));
  // Some daemons read there as a user of their own.
  await chmod(folder, 0o755);
  const places = { port: await freePort(), other: await freePort(), to, folder, software };
  if (row.tls) await makeCertificate(folder);
  for (const [name, text] of Object.entries(row.files?.(places) ?? {})) await writeFile(join(folder, name), text);
  const children = row.commands(places).map((command) => launch(command, folder, software));
  const log = () => children.map(({ log }) => log).join('\n');
  const stop = async () => {
    for (const child of children) await child.stop();
    await rm(folder, { recursive: true, force: true });
  };
  const deadline = Date.now() + START_TIMEOUT;
  while (!(await answers(places.port))) {
    if (Date.now() > deadline || children.some(({ ended }) => ended())) {
      await stop();
      throw new NotAvailable(`it does not start:\n${log()}`);
    }
    await delay(50);
  }
  return { port: places.port, stop, log };
}

function launch([program, ...args], folder, { env }) {
  // In a group of its own, so that processes of its own are ended with it.
  const options = { cwd: folder, env: { PATH: process.env.PATH, HOME: folder, ...env }, detached: true };
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  const state = { log: '', ended: () => child.exitCode !== null || child.signalCode !== null };
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (state.log = (state.log + chunk).slice(-4000)));
  child.on('error', (error) => (state.log += error.message));
  const kill = (signal = 'SIGKILL') => {
    try {
      if (child.pid) process.kill(-child.pid, signal);
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
  };
  const atExit = () => kill();
  process.on('exit', atExit);
  state.stop = async () => {
    const closed = state.ended() || child.pid === undefined ? undefined : once(child, 'close');
    // Some leave shared memory behind otherwise.
    kill('SIGTERM');
    await Promise.race([closed, delay(STOP_TIMEOUT, undefined, { ref: false })]);
    kill();
    await closed;
    process.off('exit', atExit);
  };
  return state;
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true) || socket.destroy());
    socket.once('error', () => resolve(false));
  });
}
