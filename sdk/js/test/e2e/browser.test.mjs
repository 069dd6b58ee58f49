// The built files in Chromium, on a real server.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { after, test } from 'node:test';
import { build } from 'vite';
import { startBrowser } from '../../../../crates/testkit/e2e/browser.mjs';
import { freePort, startAuthEndpoint, startHttp, startServer } from '../../../../crates/testkit/e2e/harness.mjs';
import { startNetwork } from '../support/network.mjs';
import { until } from '../support/wait.mjs';

const dist = new URL('../../dist/', import.meta.url);
const encryptionMasterKeyBase64 = randomBytes(32).toString('base64');
const history = JSON.stringify(['presence-left-*', 'kept-*'].map((channels) => ({ channels, size: 100, ttl: 300 })));
const server = await startServer({ settings: { history } });
const sdk = server.sdk({ encryptionMasterKeyBase64 });
/** Who the site's auth endpoint says that a request comes from; undefined where the session has ended. */
let session = { user_id: 'ada', user_info: { name: 'Ada' } };
const endpoint = await startHttp(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  const form = new URLSearchParams(body);
  const channel = form.get('channel_name');
  const user = new URL(request.url, 'http://site').searchParams.get('user') ?? session?.user_id;
  if (!session) return response.writeHead(403).end('the session has ended');
  const member = channel.startsWith('presence-') ? { user_id: user, user_info: { name: user } } : undefined;
  response.writeHead(200, { 'content-type': 'application/json' });
  return response.end(JSON.stringify(sdk.authorizeChannel(form.get('socket_id'), channel, member)));
});
const site = await startSite();
after(async () => {
  await site.stop();
  await endpoint.stop();
  await server.stop();
});

test('a page with the script tag connects over WebSocket and gets each kind of channel', async (t) => {
  const { browser, page } = await open(t);
  await subscribe(page, ['news', 'private-news', 'presence-news', 'cache-news']);
  await sdk.trigger(['news', 'private-news', 'presence-news', 'cache-news'], 'e', { text: 'Zürich 🎉' });
  await received(page, 4);
  assert.equal(await page.evaluate(() => globalThis.client.transport), 'websocket');
  for (const { data } of await page.evaluate(() => globalThis.received)) assert.deepEqual(data, { text: 'Zürich 🎉' });
  browser.assertQuiet();
});

test('an encrypted channel on a page with the plain script is an error of that channel, and the script goes on', async (t) => {
  const { browser, page } = await open(t);
  const [code, message] = await page.evaluate(async () => {
    const channel = globalThis.client.channel('private-encrypted-letters');
    const error = new Promise((resolve) => channel.on('error', resolve));
    globalThis.wentOn = true;
    return [(await error).code, (await error).message];
  });
  assert.equal(code, 'unsupported');
  assert.match(message, /fanfare-encrypted\.js instead of fanfare\.js/);
  assert.equal(await page.evaluate(() => globalThis.wentOn), true);
  await subscribe(page, ['private-news']);
  browser.assertQuiet();
});

test('the script that this error names, as the server has it, decrypts', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const page = await browser.open(site.url);
  await page.addScriptTag({ url: `${server.url}/sdk/fanfare-encrypted.js` });
  await page.evaluate(
    async ([key, options]) => {
      const client = new globalThis.Fanfare(key, options);
      const channel = client.channel('private-encrypted-letters');
      globalThis.letter = new Promise((resolve) => channel.bind('letter', resolve));
      await channel.ready();
    },
    [server.app.key, optionsOf({})],
  );
  await sdk.trigger('private-encrypted-letters', 'letter', { text: 'Nobody else reads this' });
  assert.deepEqual(await page.evaluate(() => globalThis.letter), { text: 'Nobody else reads this' });
  browser.assertQuiet();
});

test('a page that has pusher-js by a script tag recovers with one more', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const page = await browser.open(site.url);
  await page.addScriptTag({ path: new URL('../../node_modules/pusher-js/dist/web/pusher.min.js', import.meta.url).pathname });
  await page.addScriptTag({ url: `${server.url}/sdk/recover.js` });
  await page.evaluate(
    ([key, port]) => {
      globalThis.seen = [];
      const options = { cluster: 'x', wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws'] };
      const pusher = globalThis.fanfareRecover(new globalThis.Pusher(key, options));
      pusher.connection.bind('state_change', ({ current }) => (globalThis.state = current));
      const channel = pusher.subscribe('kept-news');
      channel.bind('e', ({ n }) => globalThis.seen.push(n));
      return new Promise((resolve) => channel.bind('pusher:subscription_succeeded', resolve));
    },
    [server.app.key, server.port],
  );
  await sdk.trigger('kept-news', 'e', { n: 1 });
  await page.waitForFunction(() => globalThis.seen.length === 1);
  await page.evaluate(() => globalThis.Pusher.instances[0].disconnect());
  await page.waitForFunction(() => globalThis.state === 'disconnected');
  await sdk.trigger('kept-news', 'e', { n: 2 });
  await page.evaluate(() => globalThis.Pusher.instances[0].connect());
  await page.waitForFunction(() => globalThis.seen.length === 2);
  assert.deepEqual(await page.evaluate(() => globalThis.seen), [1, 2]);
  browser.assertQuiet();
});

test('a wrong address is in the error, with what may be wrong about it', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const page = await browser.open(site.url);
  const told = (url) =>
    page.evaluate(
      ([key, address]) =>
        new Promise((resolve) => {
          const client = new globalThis.Fanfare(key, { url: address });
          client.on('error', ({ message }) => resolve(message), { once: true });
          client.connect();
        }),
      [server.app.key, url],
    );
  const port = await freePort();
  assert.match(await told(`http://127.0.0.1:${port}`), wrong(`http://127.0.0.1:${port}`, 'with TLS needs https'));
  const tls = `https://127.0.0.1:${server.port}`;
  assert.match(await told(tls), wrong(tls, 'without TLS needs http'));
});

function wrong(url, hint) {
  return new RegExp(`^No connection to ${url}, trying again in \\d+ ms: .+ \\(1006\\)\\. Check host and port; a server ${hint}://$`);
}

test('a page comes back after the server was restarted', async (t) => {
  const { page } = await open(t);
  await subscribe(page, ['private-restart']);
  await server.end();
  await server.start();
  await page.waitForFunction(() => globalThis.gaps.length === 1);
  await sdk.trigger('private-restart', 'e', 1);
  await received(page, 1);
});

for (const how of ['end', 'hang']) {
  test(`a page whose WebSocket is blocked (${how}) falls back to streaming`, async (t) => {
    const network = await startNetwork(server.port, { noWebSocket: how });
    t.after(() => network.stop());
    const { page } = await open(t, { url: network.url });
    const methods = new Set();
    page.on('request', (request) => request.url().includes('/pusher/') && methods.add(request.method()));
    await subscribe(page, ['presence-blocked']);
    await sdk.trigger('presence-blocked', 'e', { text: 'Zürich 🎉' });
    await received(page, 1);
    assert.equal(await page.evaluate(() => globalThis.client.transport), 'streaming');
    // Nobody asked beforehand whether a request may be made.
    assert.deepEqual([...methods], ['POST']);
  });
}

test('a page that may neither stream polls', async (t) => {
  const network = await startNetwork(server.port, { noWebSocket: 'end' });
  t.after(() => network.stop());
  const { page } = await open(t, { url: network.url, transports: ['websocket', 'polling'] });
  await subscribe(page, ['presence-polled']);
  for (let n = 1; n <= 3; n += 1) await sdk.trigger('presence-polled', 'e', n);
  await received(page, 3);
  assert.deepEqual(await page.evaluate(() => globalThis.received.map(({ data }) => data)), [1, 2, 3]);
  assert.equal(await page.evaluate(() => globalThis.client.transport), 'polling');
});

test('a device that has slept for an hour, and lost its network meanwhile, is back at once', async (t) => {
  const network = await startNetwork(server.port);
  t.after(() => network.stop());
  const { page } = await open(t, { url: network.url, clock: true });
  await subscribe(page, ['sleepy']);
  // Nobody tells the client that what it has is no connection any more.
  network.hang();
  network.up();
  await page.clock.fastForward('01:00:00');
  await page.waitForFunction(() => globalThis.states.filter((state) => state === 'connected').length === 2);
  await page.waitForFunction(() => globalThis.client.channels()[0].state === 'subscribed');
});

test('a page that is seen again asks at once whether its connection lives', async (t) => {
  const network = await startNetwork(server.port);
  t.after(() => network.stop());
  const { page } = await open(t, { url: network.url });
  await subscribe(page, ['hidden']);
  network.hang();
  network.up();
  await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  await page.waitForFunction(() => globalThis.states.filter((state) => state === 'connected').length === 2);
});

for (const transport of ['websocket', 'streaming']) {
  test(`a user who follows a link leaves at once, and gets what was missed after going back (${transport})`, async (t) => {
    // Playwright switches the back/forward cache off.
    const browser = await startBrowser({ ignoreDefaultArgs: ['--disable-back-forward-cache'] });
    t.after(() => browser.stop());
    const page = await show(browser, { transports: [transport] });
    const name = `presence-left-${transport}`;
    await subscribe(page, [name]);
    await sdk.trigger(name, 'e', 1);
    await received(page, 1);
    const members = async () => (await (await sdk.get({ path: `/channels/${name}/users` })).json()).users.length;
    assert.equal(await members(), 1);
    await page.goto(`${site.url}/other`);
    await until(async () => (await members()) === 0, 'the user is gone', 5_000);
    await sdk.trigger(name, 'e', 2);
    // A page from that cache has no `load` to wait for.
    await page.goBack({ waitUntil: 'commit' });
    await received(page, 2);
    await sdk.trigger(name, 'e', 3);
    await received(page, 3);
    assert.deepEqual(await page.evaluate(() => globalThis.received.map(({ data }) => data)), [1, 2, 3]);
    assert.deepEqual(await page.evaluate(() => globalThis.states), ['connecting', 'connected', 'connecting', 'connected']);
    assert.deepEqual(await page.evaluate(() => [globalThis.errors, globalThis.gaps]), [[], []]);
    assert.equal(await members(), 1);
    browser.assertQuiet();
  });
}

test('a device that goes offline and online again is back at once', async (t) => {
  const { page } = await open(t, { backoff: { first: 60_000, max: 60_000 } });
  await subscribe(page, ['offline']);
  await page.context().setOffline(true);
  await server.end();
  await page.waitForFunction(() => globalThis.client.state !== 'connected');
  await server.start();
  await page.context().setOffline(false);
  // Without the news of the network this would take up to a minute.
  await page.waitForFunction(() => globalThis.client.state === 'connected');
});

test('auth that has expired meanwhile is told, and counts again once it is renewed', async (t) => {
  const { page } = await open(t);
  t.after(() => (session = { user_id: 'ada' }));
  await subscribe(page, ['private-orders']);
  session = undefined;
  await server.end();
  await server.start();
  await page.waitForFunction(() => globalThis.errors.some(({ status }) => status === 403));
  assert.equal(await page.evaluate(() => globalThis.client.channels()[0].state), 'failed');
  session = { user_id: 'ada' };
  await page.evaluate(() => globalThis.client.channel('private-orders').subscribe().ready());
  await sdk.trigger('private-orders', 'e', 1);
  await received(page, 1);
});

test('two tabs see each other come and go', async (t) => {
  const { browser, page: ada } = await open(t, { user: 'ada' });
  await subscribe(ada, ['presence-tabs']);
  const bob = await show(browser, { user: 'bob' });
  await subscribe(bob, ['presence-tabs']);
  const members = (page) => page.evaluate(() => [...globalThis.client.channel('presence-tabs').members.keys()].sort());
  assert.deepEqual(await members(bob), ['ada', 'bob']);
  await until(async () => (await members(ada)).length === 2);
  assert.equal(
    await bob.evaluate(() => globalThis.client.channel('presence-tabs').trigger('client-hello', { from: 'bob' })),
    true,
  );
  await received(ada, 1);
  assert.deepEqual(await ada.evaluate(() => globalThis.received[0]), {
    event: 'client-hello',
    data: { from: 'bob' },
    userId: 'bob',
  });
  await bob.close();
  await until(async () => (await members(ada)).length === 1);
  browser.assertQuiet();
});

test('the modules work in a page as they are built, and decrypt', async (t) => {
  const { browser, page } = await open(t);
  await page.evaluate(
    async ([key, options]) => {
      const [{ Fanfare }, { encryption }] = await Promise.all([
        import('/dist/es/index.js'),
        import('/dist/es/encrypted.js'),
      ]);
      const client = new Fanfare(key, { ...options, encryption });
      const channel = client.channel('private-encrypted-letters');
      channel.bindAll((event) => globalThis.received.push(event));
      await channel.ready();
    },
    [server.app.key, optionsOf({})],
  );
  await sdk.trigger('private-encrypted-letters', 'letter', { text: 'Nobody else reads this' });
  await received(page, 1);
  assert.deepEqual(await page.evaluate(() => globalThis.received[0].data), { text: 'Nobody else reads this' });
  browser.assertQuiet();
});

test('a worker has a client of its own', async (t) => {
  const { browser, page } = await open(t);
  const heard = page.evaluate(
    ([key, options]) => {
      const source = `
      importScripts('${location.origin}/dist/fanfare.js');
      const channel = new Fanfare(${JSON.stringify(key)}, ${JSON.stringify(options)}).channel('news');
      channel.bindAll((event) => postMessage(event));
      channel.ready().then(() => postMessage('ready'));`;
      const worker = new Worker(URL.createObjectURL(new Blob([source])));
      return new Promise((resolve) => {
        worker.onmessage = ({ data }) => (data === 'ready' ? (globalThis.ready = true) : resolve(data));
      });
    },
    [server.app.key, { url: server.url }],
  );
  await page.waitForFunction(() => globalThis.ready);
  await sdk.trigger('news', 'e', 1);
  assert.deepEqual(await heard, { event: 'e', data: 1 });
  browser.assertQuiet();
});

test('React hooks under StrictMode subscribe once and hear each event once', async (t) => {
  const { browser, page } = await open(t);
  await page.addScriptTag({ url: '/strict-mode.js' });
  await page.evaluate(([key, options]) => globalThis.start(key, options), [server.app.key, optionsOf({})]);
  await page.locator('#members', { hasText: 'ada' }).waitFor();
  await page.waitForFunction(() => globalThis.client.channel('orders').state === 'subscribed');
  for (const id of [1, 2, 3]) await sdk.trigger('orders', 'shipped', { id });
  await page.locator('#orders', { hasText: '1,2,3' }).waitFor();
  assert.equal(await page.locator('#orders').innerText(), '1,2,3');
  assert.equal(await page.locator('#state').innerText(), 'connected');
  await page.locator('button').click();
  await page.waitForFunction(() => !globalThis.client.channels().some(({ name }) => name === 'orders'));
  await page.locator('button').click();
  await page.waitForFunction(
    () => globalThis.client.channels().find(({ name }) => name === 'orders')?.state === 'subscribed',
  );
  await sdk.trigger('orders', 'shipped', { id: 4 });
  await page.locator('#orders', { hasText: '4' }).waitFor();
  assert.equal(await page.locator('#orders').innerText(), '4');
  browser.assertQuiet();
});

async function open(t, options) {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  return { browser, page: await show(browser, options) };
}

function optionsOf({ user, ...options }) {
  const endpoint = user ? `/auth?user=${user}` : '/auth';
  return { url: server.url, auth: { endpoint }, ...options };
}

/** A page with a client, and what that client tells. With `clock`, its time is the test's. */
async function show(browser, { clock, ...options } = {}) {
  const page = await browser.open(site.url);
  if (clock) await page.clock.install();
  await page.evaluate(
    ([key, given]) => {
      const client = new globalThis.Fanfare(key, given);
      Object.assign(globalThis, { client, received: [], states: [], errors: [], gaps: [] });
      client.on('state', ({ current }) => globalThis.states.push(current));
      client.on('error', ({ code, status, message }) => globalThis.errors.push({ code, status, message }));
    },
    [server.app.key, optionsOf(options)],
  );
  return page;
}

/** Subscribes, with what arrives in `received`. */
function subscribe(page, names) {
  return page.evaluate(async (all) => {
    await Promise.all(
      all.map((name) => {
        const channel = globalThis.client.channel(name);
        channel.bindAll((event) => globalThis.received.push(event));
        channel.on('gap', ({ reason }) => globalThis.gaps.push(reason));
        return channel.ready();
      }),
    );
  }, names);
}

function received(page, count) {
  return page.waitForFunction((n) => globalThis.received.length >= n, count);
}

/** A web application: a page with the script, the built files, and its auth endpoint on the same origin. */
async function startSite() {
  const head = '<!doctype html><title>Test</title><link rel="icon" href="data:,">';
  const page = `${head}<script src="/dist/fanfare.js"></script><body></body>`;
  const strictMode = await bundle('../support/strict-mode-page.jsx');
  return startHttp(async (request, response) => {
    if (request.url.startsWith('/auth')) {
      const upstream = await fetch(endpoint.url + request.url, { method: 'POST', body: request, duplex: 'half' });
      response.writeHead(upstream.status, { 'content-type': 'application/json' }).end(await upstream.text());
    } else if (request.url.startsWith('/dist/')) {
      const file = await readFile(new URL(request.url.slice('/dist/'.length), dist));
      response.writeHead(200, { 'content-type': 'text/javascript' }).end(file);
    } else if (request.url === '/strict-mode.js') {
      response.writeHead(200, { 'content-type': 'text/javascript' }).end(strictMode);
    } else {
      response.writeHead(200, { 'content-type': 'text/html' }).end(page);
    }
  });
}

/** Of the development build of React, as only that checks what StrictMode checks. */
async function bundle(path) {
  const result = await build({
    configFile: false,
    logLevel: 'warn',
    mode: 'development',
    define: { 'process.env.NODE_ENV': '"development"' },
    build: {
      write: false,
      minify: false,
      rolldownOptions: { input: new URL(path, import.meta.url).pathname, output: { format: 'iife' } },
    },
  });
  return [result].flat()[0].output[0].code;
}
