// docs/tutorial.md, followed from its first step to its last, from the text of the page itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from './harness.mjs';
import { pageText } from './pages.mjs';
import { startReader, steps } from './tutorial.mjs';

/** What the browser's console has when a network is away, and what it's to have in the last test. */
const EXPECTED = /ERR_INTERNET_DISCONNECTED|ERR_CONNECTION_REFUSED|status of 403|app with key "other"/;

test('a reader who follows the tutorial sees what it shows', async (t) => {
  const reader = await startReader();
  t.after(() => reader.stop());
  for (const step of steps()) {
    await t.test(step, async () => {
      await reader.follow(step);
      reader.done = step;
    });
    // Each step begins with what the one before it left.
    if (reader.done !== step) return;
  }
  await t.test('a reader who makes a mistake sees what the tutorial says of it', () => makeMistakes(reader));
  reader.browser.assertQuiet({ expected: EXPECTED });
});

async function makeMistakes(reader) {
  const [, table] = pageText('tutorial.md').match(/^## If it doesn't work\n(.*?)^## /ms);
  const sees = (shown) => {
    assert.ok(table.includes(`\`${shown}\``), `the tutorial does not explain ${shown}`);
    return shown;
  };
  const prints = (program, text) => eventually(() => assert.ok(program.printed.includes(text), program.printed));

  await prints(await reader.run('FANFARE_DATA_DIR=/ fanfare app list 2>&1 || true'), sees('there is no Fanfare installation'));
  await prints(await reader.run('node server.mjs 2>&1 || true'), sees('EADDRINUSE'));
  await reader.edit('server.mjs', "'kitchen-secret'", "'another'");
  await reader.run("curl -s http://127.0.0.1:3000/orders -d 'item=1 soup'");
  for (const text of [sees('PusherRequestError'), 'status: 401', 'Invalid signature']) await prints(reader.backend, text);
  await reader.edit('kitchen.js', "'kitchen-key'", "'other'");
  await reader.open('http://127.0.0.1:3000/?code=ada-4711');
  await reader.page('ada').getByText(sees('disconnected'), { exact: true }).waitFor();
}
