// Every code block of README.md, docs/ and deploy/ is run, or marked as not run. A page's blocks run one after the other in one shell, beside a
// server of its own, as a reader would try them. docs/languages.mjs says how each language is run, and docs/pages.mjs what a page needs.
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { blocks, pages, ROOT } from './docs/blocks.mjs';
import { LANGUAGES } from './docs/languages.mjs';
import { stopBrowser } from './docs/browser.mjs';
import { ELSEWHERE, PAGES } from './docs/pages.mjs';
import { startSession } from './docs/session.mjs';

// The longest first, so that nothing waits for them in the end.
const all = pages().sort((one, other) => statSync(join(ROOT, other)).size - statSync(join(ROOT, one)).size);
after(stopBrowser);

/** Fails unless the test at `path` names the page. */
function assertNames(path, page) {
  const name = page.replace(/^docs\//, '');
  assert.ok(readFileSync(join(ROOT, path), 'utf8').includes(name), `${path} doesn't name ${page}, whose blocks it is to run`);
}

test('the tables name pages that exist, and tests that name those', () => {
  for (const page of [...Object.keys(PAGES), ...Object.keys(ELSEWHERE)]) assert.ok(all.includes(page), `there is no ${page}`);
  for (const [page, path] of Object.entries(ELSEWHERE)) assertNames(path, page);
});

test('every block has a language that the tests know', () => {
  for (const block of all.flatMap((page) => blocks(page))) {
    if (block.run) assert.ok(LANGUAGES[block.language], `${block.at}: no test runs ${block.language}; mark the block as not-run`);
    if (block.language === 'json') LANGUAGES.json(block);
  }
});

describe('blocks run as they stand', { concurrency: 6 }, () => {
  for (const page of all) {
    if (!ELSEWHERE[page]) test(page, (t) => runPage(t, page));
  }
});

async function runPage(t, page) {
  const found = blocks(page).filter(({ run }) => run);
  const { runs = {}, elsewhere = {}, ...options } = PAGES[page] ?? {};
  for (const part of Object.keys(runs)) {
    assert.equal(found.filter(({ code }) => code.includes(part)).length, 1, `${page}: one block has ${part}, as docs/pages.mjs says`);
  }
  if (options.postgres && !process.env.FANFARE_TEST_POSTGRES) return t.skip('FANFARE_TEST_POSTGRES does not name a server');
  if (found.length === 0) return;
  const session = await startSession(options);
  t.after(() => session.kill());
  for (const block of found) {
    const [, own = elsewhere[block.language]] = Object.entries(runs).find(([part]) => block.code.includes(part)) ?? [];
    if (typeof own === 'string') {
      assertNames(own, page);
      continue;
    }
    try {
      await (own ?? LANGUAGES[block.language])(block, session);
    } catch (error) {
      throw new Error(`${block.at}: ${error.message}`, { cause: error });
    }
  }
  if (session.missing.size > 0) t.diagnostic(`${page}: blocks weren't run for want of ${[...session.missing].join(', ')}`);
}
