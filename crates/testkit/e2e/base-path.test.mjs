// Everything below a path: clients, backends and people, behind proxies that pass the path on, one that takes it away, and none.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { Dashboard, PASSWORD } from './dashboard.mjs';
import { next, startServer, subscribe } from './harness.mjs';
import { PROXIES, missing, startProxy } from './proxy.mjs';

const BASE = '/realtime';
const ENV = { FANFARE_HTTP_BASE_PATH: BASE, FANFARE_OWNER_PASSWORD: PASSWORD, FANFARE_HTTP_TRUSTED_PROXIES: '127.0.0.1' };

// What the comments in deploy/ say is to be changed. All pages are public here, because the browser of the test has no other address.
const EVERYBODY = ['127.0.0.4/30', '127.0.0.0/8'];
const PASSED_ON = {
  nginx: [['~^/', `~^${BASE}/`], EVERYBODY],
  caddy: [['{http.request.uri} ^/', `{http.request.uri} ^${BASE}/`], EVERYBODY],
};
const TAKEN_AWAY = {
  haproxy: [['#: http-request replace-path', 'http-request replace-path'], EVERYBODY],
};

for (const [name, edits] of Object.entries({ ...PASSED_ON, ...TAKEN_AWAY })) {
  const does = name in TAKEN_AWAY ? 'takes the path away' : 'passes the path on';
  test(`below a path, behind ${name}, which ${does}`, { skip: missing(name) }, async (t) => {
    const server = await startServer({ env: ENV });
    t.after(() => server.stop());
    const { changes, ...proxy } = PROXIES[name];
    const front = await startProxy({ ...proxy, changes: (places) => [...changes(places), ...edits], ready: `${BASE}/readyz` }, [server]);
    t.after(() => front.stop());
    await useEverything(t, server, { port: front.https, isTls: true });
  });
}

test('below a path, without a proxy', async (t) => {
  const server = await startServer({ env: ENV });
  t.after(() => server.stop());
  await useEverything(t, server, { port: server.port, isTls: false });
});

test('the demo page below a path shows what comes', async (t) => {
  const server = await startServer({ app: false, env: { ...ENV, FANFARE_DEMO: 'true' } });
  t.after(() => server.stop());
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const page = await browser.open(`${server.url}${BASE}/demo`);
  await page.getByText('connected', { exact: true }).waitFor();
  for (const [link, path] of [['The dashboard', '/'], ['The documentation', '/docs/']]) {
    const href = await page.getByRole('link', { name: link }).evaluate((element) => element.href);
    assert.equal(href, `${server.url}${BASE}${path}`);
  }
  assert.match(await page.locator('#snippet').textContent(), new RegExp(`src="${server.url}${BASE}/sdk/fanfare.js"`));
  assert.match(await page.locator('#snippet').textContent(), new RegExp(`url: '${server.url}${BASE}'`));
  browser.assertQuiet();
});

async function useEverything(t, server, { port, isTls }) {
  const origin = `${isTls ? 'https' : 'http'}://127.0.0.1:${port}`;
  const backend = server.sdk({ host: `127.0.0.1:${port}${BASE}`, port: undefined, useTLS: isTls });
  for (const transport of ['ws', 'xhr_streaming', 'xhr_polling']) {
    const ports = { wsPort: port, wssPort: port, httpPort: port, httpsPort: port };
    const paths = { wsPath: BASE, httpHost: '127.0.0.1', httpPath: `${BASE}/pusher` };
    const client = server.client({ forceTLS: isTls, ...ports, ...paths, enabledTransports: [transport] });
    const channel = await subscribe(client, 'private-news');
    const received = next(channel, 'headline');
    await backend.trigger('private-news', 'headline', { transport });
    assert.deepEqual(await received, { transport });
  }
  const { status } = await backend.get({ path: '/channels' });
  assert.equal(status, 200);

  const browser = await startBrowser({ ignoreHTTPSErrors: true });
  t.after(() => browser.stop());
  // Without the slash at its end, as people type it.
  const page = await browser.open(`${origin}${BASE}`);
  assert.equal(page.url(), `${origin}${BASE}/`);
  const { page: dashboard } = await Dashboard.open(browser, `${origin}${BASE}`);
  // The session is in a cookie that belongs to the path.
  await dashboard.reload();
  await dashboard.getByRole('heading', { name: 'Overview' }).waitFor();
  const cookies = await dashboard.context().cookies();
  assert.deepEqual(cookies.map(({ path }) => path), [`${BASE}/api/v1`]);
  await dashboard.goto(`${origin}${BASE}/#/apps/${server.app.id}`);
  await dashboard.getByText(`${origin}${BASE}/sdk/fanfare.js`).first().waitFor();

  await page.goto(`${origin}${BASE}/docs`);
  assert.equal(page.url(), `${origin}${BASE}/docs/`);
  await page.getByRole('link', { name: 'OpenAPI', exact: true }).click();
  assert.equal(page.url(), `${origin}${BASE}/docs/api/`);
  await page.getByText('/api/v1/apps', { exact: true }).first().waitFor();
  const servers = await page.locator('.servers select').inputValue();
  assert.equal(new URL(servers, origin).href, `${origin}${BASE}/`);

  // A page without a policy about scripts.
  await page.goto(`${origin}${BASE}/healthz`);
  await page.addScriptTag({ url: `${origin}${BASE}/sdk` });
  await page.evaluate(
    async ([key, url]) => {
      const channel = new globalThis.Fanfare(key, { url }).channel('news');
      globalThis.heard = new Promise((resolve) => channel.bind('headline', resolve));
      await channel.ready();
    },
    [server.app.key, `${origin}${BASE}`],
  );
  await backend.trigger('news', 'headline', { by: 'the SDK' });
  assert.deepEqual(await page.evaluate(() => globalThis.heard), { by: 'the SDK' });
  // Before the sign-in, of the demo app that isn't there, and of an icon.
  browser.assertQuiet({ expected: /status of 40[14]/ });
}
