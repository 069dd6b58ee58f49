// The pages of docs/compatibility/ are those that scripts/known-to-work makes of its results, and rows of it run here as well, with what is
// installed already and a short idle time.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runClient, steps as clientSteps } from '../known-to-work/client-row.mjs';
import { NotAvailable, temporaryFolder } from '../known-to-work/install.mjs';
import { PAGES, kinds, verdict } from '../known-to-work/kinds.mjs';
import { page } from '../known-to-work/render.mjs';
import { runSdk, steps as sdkSteps } from '../known-to-work/sdk-row.mjs';

for (const name of Object.keys(PAGES).filter((name) => page(name))) {
  test(`docs/compatibility/${name}.md is what its results give`, async () => {
    const file = new URL(`../../../docs/compatibility/${name}.md`, import.meta.url);
    assert.equal(await readFile(file, 'utf8'), page(name), 'run scripts/known-to-work --render');
  });
}

const here = { version: 'of the tests', folder: import.meta.dirname };
const context = { idle: 1, say: console.log };
const plainWebSocket = fileURLToPath(new URL('../known-to-work/programs/plain-ws.mjs', import.meta.url));
const node22 = () => [join(here.folder, 'node_modules/node-22/bin/node'), plainWebSocket];

for (const row of [
  { name: 'pusher-js', program: 'pusher-js.mjs', channels: ['public', 'private', 'presence'] },
  { name: 'socket.io-client', program: 'socket-io.mjs', channels: ['public', 'private', 'presence'], recovers: true },
  { name: "Node's own WebSocket", program: 'plain-ws.mjs', with: node22, options: { library: 'runtime' }, channels: ['public', 'private'], recovers: true },
]) {
  const skip = row.with && !existsSync(row.with()[0]) && 'its package is not installed';
  test(`${row.name} passes the steps of scripts/known-to-work`, { skip }, async () => {
    const result = await runClient(row, here, context);
    assert.match(verdict({ steps: clientSteps }, result), /^yes/, JSON.stringify(result.steps));
  });
}

test('npm pusher passes the steps of scripts/known-to-work', async () => {
  const result = await runSdk({ name: 'npm pusher', program: 'npm-pusher.mjs' }, here, context);
  assert.equal(verdict({ steps: sdkSteps }, result), 'yes', JSON.stringify(result.steps));
});

for (const [kind, name] of [
  ['proxies', 'nginx'],
  ['proxies', 'HAProxy'],
  ['stores', 'Redis 7, restarted'],
]) {
  test(`${name} passes the steps of scripts/known-to-work`, async (t) => {
    const row = kinds[kind].rows.find((row) => row.name === name);
    const temporary = await temporaryFolder();
    try {
      const result = await row.run({ ...context, temporary });
      assert.equal(verdict(kinds[kind], result), 'yes', JSON.stringify(result.steps));
    } catch (error) {
      if (!(error instanceof NotAvailable)) throw error;
      t.skip(error.message);
    }
  });
}
