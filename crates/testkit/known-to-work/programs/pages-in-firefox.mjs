// A page in the Firefox whose folder FIREFOX names, for browser.mjs. It is unpacked and not installed, so its libraries are beside it.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const load = createRequire(join(process.env.PACKAGES, 'package.json'));

/** Opens a page at `url`. Returns how code is evaluated on it, the commands of browser.mjs, and how it is closed. */
export async function openPage(url) {
  const folder = process.env.FIREFOX;
  const browser = await load('puppeteer-core').launch({
    browser: 'firefox',
    headless: true,
    executablePath: join(folder, 'firefox-esr'),
    env: { ...process.env, LD_LIBRARY_PATH: `${folder}:${join(folder, '../x86_64-linux-gnu')}` },
    timeout: 180_000,
  });
  // It leads a group of its own.
  const signal = (name) => process.kill(-browser.process().pid, name);
  const page = await browser.newPage();
  await page.goto(url);
  return {
    evaluate: (code) => page.evaluate(`void ${code}`),
    commands: {
      offline: () => page.setOfflineMode(true),
      online: () => page.setOfflineMode(false),
      sleep: () => signal('SIGSTOP'),
      wake: () => signal('SIGCONT'),
    },
    stop: () => browser.close(),
  };
}
