// Chromium with pages that talk to nobody but this machine.
import assert from 'node:assert/strict';
import { mkdtemp, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { inTime } from './harness.mjs';

// The browser of the system; none is ever downloaded. It is kept from calling home, as the tests count requests.
const LAUNCH = {
  executablePath: process.env.FANFARE_CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  timeout: 60_000,
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

/** How long Chromium may take for a page, and for its end, in milliseconds. Playwright waits without a limit. */
const STEP_LIMIT = 30_000;

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
    /** What went wrong on its pages. */
    errors,
    async open(url) {
      const page = await inTime('Chromium opens a page', STEP_LIMIT, context.newPage());
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
    /** Sends a signal to the browser and all its processes, which are one group. */
    async signal(name) {
      process.kill(-(await pidOf(profile)), name);
    },
    async stop() {
      const closed = context.close();
      try {
        await inTime('Chromium ends', STEP_LIMIT, closed);
      } catch (error) {
        // It is not what is tested.
        console.error(`${error.message}, so it is killed`);
        await kill(profile);
        await closed;
      }
      await rm(profile, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

/** Kills the Chromium that has a profile. */
async function kill(profile) {
  process.kill(await pidOf(profile), 'SIGKILL');
}

/** The process of the Chromium that has a profile: the lock in it names it, as HOST-PID. */
async function pidOf(profile) {
  const lock = await readlink(join(profile, 'SingletonLock'));
  return Number(lock.split('-').at(-1));
}
