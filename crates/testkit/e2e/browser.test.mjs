import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { startAuthEndpoint, startHttp, startServer } from './harness.mjs';
import { startSite } from './site.mjs';

test('pusher-js in a web page connects, subscribes and receives what npm pusher publishes', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const server = await startServer();
  t.after(() => server.stop());
  const auth = await startAuthEndpoint(server, () => ({ user_id: 'ada', user_info: { name: 'Ada' } }));
  t.after(() => auth.stop());
  const site = await startSite(auth.url);
  t.after(() => site.stop());

  const page = await browser.open(site.url);
  const seen = await page.evaluate(connectAndJoin, [server.app.key, server.clientOptions()]);
  assert.match(seen.socketId, /^\d+\.\d+$/);
  assert.deepEqual(seen.members, { ada: { name: 'Ada' } });

  await server.sdk().trigger(['news', 'private-news', 'presence-news'], 'headline', { text: 'Zürich 🎉' });
  await page.waitForFunction(() => globalThis.received.length === 3);
  const received = await page.evaluate(() => globalThis.received);
  assert.deepEqual(received.map(([channel]) => channel).sort(), ['news', 'presence-news', 'private-news']);
  for (const [, data] of received) assert.deepEqual(data, { text: 'Zürich 🎉' });
  browser.assertQuiet();
});

test('pusher-js in a web page without WebSocket falls back to HTTP by itself', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const server = await startServer();
  t.after(() => server.stop());
  const auth = await startAuthEndpoint(server, () => ({ user_id: 'ada', user_info: { name: 'Ada' } }));
  t.after(() => auth.stop());
  const site = await startSite(auth.url, 'delete globalThis.WebSocket');
  t.after(() => site.stop());

  for (const disabledTransports of [[], ['xhr_streaming']]) {
    const page = await browser.open(site.url);
    const { enabledTransports, ...options } = { ...server.clientOptions(), ...server.fallbackOptions() };
    const seen = await page.evaluate(connectAndJoin, [server.app.key, { ...options, disabledTransports }]);
    assert.equal(seen.transport, disabledTransports.length ? 'xhr_polling' : 'xhr_streaming');
    assert.deepEqual(seen.members, { ada: { name: 'Ada' } });

    await server.sdk().trigger(['news', 'private-news', 'presence-news'], 'headline', { text: 'Zürich 🎉' });
    await page.waitForFunction(() => globalThis.received.length === 3);
    await page.close();
  }
  browser.assertQuiet();
});

test('two tabs of the demo page see each other, chat both ways and show published events', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const server = await startServer({ app: false, env: { FANFARE_DEMO: 'true' } });
  t.after(() => server.stop());

  const tabs = [await browser.open(`${server.url}/demo`), await browser.open(`${server.url}/demo`)];
  for (const tab of tabs) {
    await tab.waitForFunction(() => document.querySelectorAll('#members li').length === 2);
    assert.match(await tab.locator('#status').innerText(), /^\s*connected/i);
  }

  for (const [n, text] of ['Hello from the first', 'And from the second <b>tab</b>'].entries()) {
    await tabs[n].locator('#chat-form input[name=text]').fill(text);
    await tabs[n].locator('#chat-form input[name=text]').press('Enter');
    for (const tab of tabs) await tab.locator('#chat li', { hasText: text }).waitFor();
  }
  for (const tab of tabs) assert.equal(await tab.locator('#chat li').count(), 2);

  for (const tab of tabs) await tab.waitForFunction(() => [...document.querySelectorAll('[data-way]')].filter((way) => way.textContent === 'listening').length === 4);
  await server.cli('publish', 'demo', 'greeting', '{"text":"Good morning"}');
  for (const tab of tabs) await tab.locator('#events li', { hasText: 'Good morning' }).waitFor();
  // The same channel, by each way.
  for (const tab of tabs) {
    for (const way of ['Pusher', 'EventSource', 'WebSocket', 'Socket.IO']) await tab.locator(`[data-way="${way}"]`, { hasText: '1 event, the last: greeting' }).waitFor();
  }

  // Who opens the page now sees what was sent before, and then what is sent.
  const late = await browser.open(`${server.url}/demo`);
  await late.locator('#events li', { hasText: 'Good morning' }).waitFor();
  const long = 'A long text, '.repeat(20);
  await server.cli('publish', 'demo', 'greeting', JSON.stringify({ text: long }));
  await late.locator('#events li', { hasText: long.trim() }).waitFor();
  const times = await late.locator('#events li time').allInnerTexts();
  assert.equal(times.length, 2);
  assert.equal(times[0], 'earlier');
  assert.match(times[1], /\d:\d\d/);
  // No line's time hangs into the next line.
  const inside = await late.evaluate(() =>
    Array.from(document.querySelectorAll('#events li'), (item) => {
      const [line, time] = [item, item.querySelector('time')].map((it) => it.getBoundingClientRect());
      return time.top >= line.top && time.bottom <= line.bottom;
    }),
  );
  assert.deepEqual(inside, [true, true]);

  // The snippet is what it says: a page of its own that hears events.
  const snippet = await late.locator('#snippet').innerText();
  assert.ok(snippet.includes(await late.locator('#app-key').innerText()));
  const site = await startHttp((_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end(`<!doctype html><link rel="icon" href="data:,">${snippet}`));
  t.after(() => site.stop());
  const own = await browser.open(site.url);
  await own.waitForFunction('client.channels()[0].state === "subscribed"');
  const logged = own.waitForEvent('console');
  await server.cli('publish', 'demo', 'greeting', '{"text":"Hello page"}');
  assert.match((await logged).text(), /Hello page|Object/);
  await own.close();
  await late.close();

  await tabs[1].close();
  await tabs[0].waitForFunction(() => document.querySelectorAll('#members li').length === 1);
  browser.assertQuiet();
});

test('there is no demo page where it is switched off', async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  assert.equal((await fetch(`${server.url}/demo`)).status, 404);
});

test('the page of the HTTP APIs shows every operation and asks nobody else', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const server = await startServer();
  t.after(() => server.stop());
  const document = await (await fetch(`${server.url}/openapi.json`)).json();
  const operations = Object.values(document.paths)
    .flatMap((item) => Object.values(item))
    .filter((operation) => operation.operationId);

  for (const path of ['/docs/api', '/docs/api/']) {
    const page = await browser.open(`${server.url}${path}`);
    await page.locator('.opblock').nth(operations.length - 1).waitFor();
    assert.equal(await page.locator('.opblock').count(), operations.length);
    assert.match(await page.locator('.info .title').innerText(), /^Fanfare/);
    // One of them opened, with what it takes and answers, and everybody's credentials.
    await page.locator('#operations-Apps-create_app .opblock-summary-control').click();
    await page.locator('#operations-Apps-create_app', { hasText: 'idempotency-key' }).waitFor();
    await page.locator('.btn.authorize').first().click();
    await page.locator('.dialog-ux', { hasText: 'auth_signature' }).waitFor();
    await page.close();
  }
  browser.assertQuiet();
});

/** Runs in the page: joins a channel of each kind and leaves what arrives in `received`. */
async function connectAndJoin([key, options]) {
  const client = new globalThis.Pusher(key, {
    ...options,
    channelAuthorization: { endpoint: '/pusher/auth', transport: 'ajax' },
  });
  globalThis.received = [];
  const join = (name) =>
    new Promise((resolve, reject) => {
      const channel = client.subscribe(name);
      channel.bind('headline', (data) => globalThis.received.push([name, data]));
      channel.bind('pusher:subscription_succeeded', resolve);
      channel.bind('pusher:subscription_error', (error) => reject(new Error(JSON.stringify(error))));
    });
  const joined = await Promise.all(['news', 'private-news', 'presence-news'].map(join));
  const { socket_id: socketId, connection } = client.connection;
  return { socketId, transport: connection.transport.name, members: joined[2].members };
}
