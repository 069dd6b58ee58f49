// A page in the Chromium of the system, for browser.mjs.
import { startBrowser } from '../../e2e/browser.mjs';

/** Opens a page at `url`. Returns how code is evaluated on it, the commands of browser.mjs, and how it is closed. */
export async function openPage(url) {
  const browser = await startBrowser();
  const page = await browser.open(url);
  const devtools = await page.context().newCDPSession(page);
  const network = (offline) =>
    devtools.send('Network.emulateNetworkConditions', { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  return {
    evaluate: (code) => page.evaluate(`void ${code}`),
    commands: {
      freeze: () => devtools.send('Page.setWebLifecycleState', { state: 'frozen' }),
      resume: () => devtools.send('Page.setWebLifecycleState', { state: 'active' }),
      offline: () => network(true),
      online: () => network(false),
      sleep: () => browser.signal('SIGSTOP'),
      wake: () => browser.signal('SIGCONT'),
    },
    stop: () => browser.stop(),
  };
}
