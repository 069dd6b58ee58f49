// The built client in other JavaScript runtimes, with the WebSocket and fetch that each of them brings.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { startAuthEndpoint, startServer } from '../../../../crates/testkit/e2e/harness.mjs';
import { until } from '../support/wait.mjs';

// Installed with the other clients.
const packages = new URL('../../../../crates/testkit/e2e/node_modules/', import.meta.url);
const RUNTIMES = {
  'Node 22': ['node-22/bin/node'],
  Bun: ['@oven/bun-linux-x64/bin/bun'],
  Deno: ['@deno/linux-x64-glibc/deno', 'run', '--quiet', '--allow-all'],
};
const HERE = process.platform === 'linux' && process.arch === 'x64';
const CHANNELS = ['room', 'private-room', 'presence-room', 'cache-room'];

const server = await startServer();
const auth = await startAuthEndpoint(server, () => ({ user_id: 'ada' }));
after(async () => {
  await auth.stop();
  await server.stop();
});

for (const [runtime, [program, ...flags]] of Object.entries(RUNTIMES)) {
  const path = new URL(program, packages).pathname;
  const skip = !HERE && 'these runtimes are installed on Linux on x86-64 only';

  for (const transport of ['websocket', 'streaming', 'polling']) {
    test(`${runtime}, ${transport}: every kind of channel, also after the server was away`, { skip }, async (t) => {
      const client = start([path, ...flags], { transport, channels: CHANNELS });
      t.after(() => client.kill());
      await until(() => client.all('subscribed').length === CHANNELS.length);
      await server.sdk().trigger(CHANNELS, 'news', { n: 1 });
      await until(() => client.all('event').length === CHANNELS.length);

      await server.end('SIGKILL');
      // Some attempts must fail, for that is where runtimes differ.
      await until(() => client.all('error').length >= 3);
      await server.start();
      await until(() => client.all('state').at(-1) === 'connected', 'connected again', 10_000);
      await until(async () => (await server.sdk().get({ path: '/channels/room' }).then((it) => it.json())).occupied);
      await server.sdk().trigger('room', 'news', { n: 2 });
      await until(() => client.all('event').some(({ data }) => data.n === 2));
      assert.ok(client.all('error').every(({ closeCode }) => closeCode === 1006 || closeCode === 4200));
    });
  }

  test(`${runtime}: a server that refuses the app key is not asked again`, { skip }, async (t) => {
    const client = start([path, ...flags], { transport: 'websocket', channels: ['room'], key: 'unknown' });
    t.after(() => client.kill());
    await until(() => client.all('error').length > 0);
    assert.deepEqual(client.all('error')[0], { code: 'connection_refused', closeCode: 4001 });
    assert.deepEqual(client.all('state'), ['connecting', 'disconnected']);
  });
}

function start([program, ...flags], settings) {
  const all = {
    library: new URL('../../dist/es/index.js', import.meta.url).href,
    url: server.url,
    key: server.app.key,
    authEndpoint: auth.url,
    ...settings,
  };
  const script = new URL('../support/runtime-client.mjs', import.meta.url).pathname;
  const child = spawn(program, [...flags, script, JSON.stringify(all)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const reports = [];
  createInterface({ input: child.stdout }).on('line', (line) => reports.push(JSON.parse(line)));
  return {
    all: (kind) => reports.filter((report) => report.kind === kind).map(({ value }) => value),
    kill: () => child.kill('SIGKILL'),
  };
}
