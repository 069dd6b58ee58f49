// Chromium with pages that talk to nobody but this machine.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

// The browser of the system; none is ever downloaded. It is kept from calling home, as the tests count requests.
const LAUNCH = {
  executablePath: process.env.FANFARE_CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
};

/**
 * A browser with a profile of its own, which notes where its pages reach and what goes wrong on them. `options` are
 * Playwright's, for a certificate that nobody has signed.
 */
export async function startBrowser(options = {}) {
  const profile = await mkdtemp(join(tmpdir(), 'fanfare-chromium-'));
  const context = await chromium.launchPersistentContext(profile, { ...LAUNCH, ...options });
  const [strangers, errors] = [[], []];
  const note = (url) => {
    if (/^(https?|wss?):/.test(url) && new URL(url).hostname !== '127.0.0.1') strangers.push(url);
  };
  context.on('request', (request) => note(request.url()));
  return {
    async open(url) {
      const page = await context.newPage();
      page.on('websocket', (socket) => note(socket.url()));
      page.on('pageerror', (error) => errors.push(error.message));
      page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
      page.setDefaultTimeout(10_000);
      await page.goto(url);
      return page;
    },
    /** `expected` are errors that the test provokes. */
    assertQuiet({ expected } = {}) {
      assert.deepEqual(strangers, [], 'requests left this machine');
      assert.deepEqual(errors.filter((error) => !expected?.test(error)), [], 'errors on the page');
    },
    async stop() {
      await context.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}
