// Twelve tabs of one browser on an HTTP fallback: a browser opens six HTTP/1.1 connections to a host for all of them.
import assert from 'node:assert/strict';
import { startBrowser } from './browser.mjs';
import { inTime, startAuthEndpoint, subscribe } from './harness.mjs';
import { startSite } from './site.mjs';

const TABS = 12;
const NO_WEBSOCKET = 'delete globalThis.WebSocket';
/** How long a tab may take to subscribe, in milliseconds. */
const JOIN_LIMIT = 60_000;
/** How long all tabs may take for anything else, in milliseconds. A page that hangs answers nothing. */
const STEP_LIMIT = 20_000;

/**
 * Opens the tabs with pusher-js and these `options`, and has each receive and send, twice. `watcher` is a client of the test's own
 * on another transport.
 */
export async function useTwelveTabs(t, server, { options, watcher, sdk = server.sdk() }) {
  const browser = await startBrowser({ ignoreHTTPSErrors: true });
  t.after(() => browser.stop());
  const auth = await startAuthEndpoint(server, () => ({ user_id: 'ada' }));
  t.after(() => auth.stop());
  const site = await startSite(auth.url, NO_WEBSOCKET);
  t.after(() => site.stop());
  const there = await subscribe(watcher, 'private-tabs');

  const tabs = [];
  for (let number = 0; number < TABS; number += 1) tabs.push(await browser.open(site.url));
  const onEach = (step, limit, act) =>
    Promise.all(tabs.map((tab, number) => inTime(`tab ${number} ${step}`, limit, act(tab, number))));
  try {
    const joined = (tab, number) => tab.evaluate(join, [server.app.key, options, number, JOIN_LIMIT]);
    const transports = await onEach('subscribes', JOIN_LIMIT + STEP_LIMIT, joined);
    assert.deepEqual(new Set(transports), new Set(['xhr_streaming']));
    for (const round of [1, 2]) {
      const heard = new Set();
      const all = new Promise((resolve) => {
        there.bind(`client-hello-${round}`, ({ number }) => heard.add(number).size === TABS && resolve());
      });
      await inTime('the backend publishes', STEP_LIMIT, sdk.trigger('private-tabs', 'headline', { round }));
      const received = (tab) => tab.waitForFunction((n) => globalThis.received.includes(n), round);
      await onEach(`receives round ${round}`, STEP_LIMIT, received);
      await onEach(`sends in round ${round}`, STEP_LIMIT, (tab) => tab.evaluate((n) => globalThis.say(n), round));
      await inTime(`all are heard in round ${round}`, STEP_LIMIT, all).catch((error) => {
        throw new Error(`${error.message}, only ${[...heard]}`);
      });
    }
    const counts = await onEach('counts', STEP_LIMIT, (tab) => tab.evaluate(() => globalThis.connections));
    assert.ok(counts.every((count) => count === 1), `connections of each tab: ${counts}`);
  } catch (error) {
    // A request that failed is known to its page alone.
    error.message += `; errors on the pages: ${JSON.stringify(browser.errors)}`;
    throw error;
  }
  browser.assertQuiet();
}

/** Runs in the page. */
async function join([key, options, number, limit]) {
  const client = new globalThis.Pusher(key, {
    ...options,
    channelAuthorization: { endpoint: '/pusher/auth', transport: 'ajax' },
  });
  globalThis.received = [];
  globalThis.connections = 0;
  client.connection.bind('connected', () => (globalThis.connections += 1));
  const channel = client.subscribe('private-tabs');
  channel.bind('headline', ({ round }) => globalThis.received.push(round));
  globalThis.say = (round) => channel.trigger(`client-hello-${round}`, { number });
  await new Promise((resolve, reject) => {
    const late = () => reject(new Error(`tab ${number} is not subscribed, its connection is ${client.connection.state}`));
    setTimeout(late, limit);
    channel.bind('pusher:subscription_succeeded', resolve);
    channel.bind('pusher:subscription_error', (error) => reject(new Error(JSON.stringify(error))));
  });
  return client.connection.connection.transport.name;
}
