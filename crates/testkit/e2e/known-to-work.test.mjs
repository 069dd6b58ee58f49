// The pages of docs/compatibility/ are those that scripts/known-to-work makes of its results, and rows of it run here as well, with what is
// installed already and a short idle time.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { PAGES, verdict } from '../known-to-work/kinds.mjs';
import { page } from '../known-to-work/render.mjs';
import { runClient, steps } from '../known-to-work/client-row.mjs';

for (const name of Object.keys(PAGES).filter((name) => page(name))) {
  test(`docs/compatibility/${name}.md is what its results give`, async () => {
    const file = new URL(`../../../docs/compatibility/${name}.md`, import.meta.url);
    assert.equal(await readFile(file, 'utf8'), page(name), 'run scripts/known-to-work --render');
  });
}

const here = { version: 'of the tests', folder: import.meta.dirname };
for (const row of [
  { name: 'pusher-js', program: 'pusher-js.mjs', channels: ['public', 'private', 'presence'] },
]) {
  test(`${row.name} passes the steps of scripts/known-to-work`, async () => {
    const result = await runClient(row, here, { idle: 1, say: console.log });
    assert.match(verdict({ steps }, result), /^yes/, JSON.stringify(result.steps));
  });
}
