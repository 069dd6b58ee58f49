// How browsers fare on the HTTP fallbacks, and how they get off them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { eventually, startAuthEndpoint, startServer } from './harness.mjs';
import { startSite } from './site.mjs';
import { useTwelveTabs } from './tabs.mjs';

const PASSWORD = 'correct horse battery';

/** pusher-js with its default transports. */
function defaults(server) {
  const { enabledTransports, ...options } = { ...server.clientOptions(), ...server.fallbackOptions() };
  return options;
}

test('twelve tabs of one browser on the streaming fallback all receive and send, without TLS', async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  await useTwelveTabs(t, server, { options: defaults(server), watcher: server.client() });
});

test('a client that fell back during a gap is asked to reconnect, and is on a WebSocket again', async (t) => {
  const { server, browser, page } = await start(t, { retry: 2 });
  await page.evaluate(connect, [server.app.key, defaults(server)]);
  await page.waitForFunction(() => globalThis.transports.length === 1);
  const failed = page.waitForEvent('console', { predicate: (message) => /WebSocket connection/.test(message.text()) });
  await server.end();
  await failed;
  await server.start();
  await page.waitForFunction(() => globalThis.transports.length === 3, undefined, { timeout: 45_000 });
  const transports = await page.evaluate(() => globalThis.transports);
  assert.deepEqual(transports, ['ws', 'xhr_streaming', 'ws']);
  assert.equal(await retries(server), 1);
  browser.assertQuiet({ expected: /ERR_CONNECTION_REFUSED|WebSocket connection/ });
});

test('a client whose network lets no WebSocket through is asked once, and stays on the fallback', async (t) => {
  const { server, browser, page } = await start(t, { retry: 1, first: 'delete globalThis.WebSocket' });
  await page.evaluate(connect, [server.app.key, defaults(server)]);
  await page.waitForFunction(() => globalThis.transports.length === 2, undefined, { timeout: 30_000 });
  // Several periods later it is where it was.
  await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 5_000)));
  const transports = await page.evaluate(() => globalThis.transports);
  assert.deepEqual(transports, ['xhr_streaming', 'xhr_streaming']);
  assert.equal(await retries(server), 1);
  browser.assertQuiet();
});

async function start(t, { retry, first }) {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const server = await startServer({
    env: { FANFARE_FALLBACK_WEBSOCKET_RETRY: String(retry), FANFARE_OWNER_PASSWORD: PASSWORD },
  });
  t.after(() => server.stop());
  const auth = await startAuthEndpoint(server, () => ({ user_id: 'ada' }));
  t.after(() => auth.stop());
  const site = await startSite(auth.url, first);
  t.after(() => site.stop());
  return { server, browser, page: await browser.open(site.url) };
}

/** How many sessions were asked, as an operator sees it. */
async function retries(server) {
  const post = (path, body) =>
    fetch(server.url + path, { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
  const session = await eventually(async () => {
    const answer = await post('/api/v1/sessions', { name: 'owner', password: PASSWORD });
    assert.equal(answer.status, 201);
    return answer.json();
  });
  const headers = { authorization: `Bearer ${session.access_token}` };
  const shown = await (await fetch(`${server.url}/api/v1/server`, { headers })).json();
  return shown.websocket_retries;
}

/** Runs in the page: notes the transport of each connection. */
function connect([key, options]) {
  const client = new globalThis.Pusher(key, options);
  globalThis.transports = [];
  client.connection.bind('connected', () => globalThis.transports.push(client.connection.connection.transport.name));
}
