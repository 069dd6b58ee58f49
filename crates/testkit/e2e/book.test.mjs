// The documentation as a running server shows it at /docs: every link and anchor, the search, colours, code that can be copied, and that
// pages ask nobody else.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { startServer } from './harness.mjs';

// What readers ask, and the sections that answer it, one of which they see at the first glance: among the first three results.
const QUESTIONS = [
  ['why 4009', 'answers#why-does-a-client-get-4009'],
  ['how many sockets fit in 4 GB', 'answers#how-many-connections-fit-in-4-gb'],
  ['rotate a key', 'answers#how-do-i-rotate-a-key'],
  ['what does a webhook guarantee', 'answers#what-does-a-webhook-guarantee'],
  ['proxy time-out', 'answers#which-time-outs-does-my-proxy-need'],
  ['event did not arrive', 'answers#why-did-an-event-not-arrive'],
  ['restart', 'answers#what-happens-at-a-restart'],
  ['limit an app', 'answers#how-do-i-limit-an-app'],
  ["close a user's connections", 'answers#how-do-i-close-a-users-connections'],
  ['two nodes', 'answers#how-do-i-run-two-nodes'],
  ['outbox.max_bytes', 'configuration#outboxmax_bytes'],
  ['fanfare_connections', 'metrics#fanfare_connections'],
  ["why an event didn't arrive", 'answers#why-did-an-event-not-arrive'],
  ['proxy timeouts', 'answers#which-time-outs-does-my-proxy-need'],
  ['Timestamp expired', 'errors#timestamp-expired-auth_timestamp-is--the-servers-clock'],
  // As users of other servers ask in their issues: names of other products, symptoms, messages, misspellings.
  ['connected but not receiving events', 'answers#why-did-an-event-not-arrive'],
  ["client doesn't receive events", 'answers#why-did-an-event-not-arrive'],
  ['not working behind nginx', 'proxies', 'proxies#what-each-proxy-does', 'proxies#any-other-proxy'],
  ['WebSocket connection to wss failed', 'quickstart/#if-it-doesnt-work', 'clients#pusher-js', 'sdk#connection-and-errors'],
  ['ssl certificate', 'tls', 'tls#settings', 'tls#a-certificate-without-files'],
  ['allowed origins', 'configuration#allowed_origins', 'answers#origin--is-not-allowed-to-connect'],
  ['CORS', 'configuration#allowed_origins', 'channel-auth#an-endpoint-of-your-own'],
  ['broadcasting/auth 403', 'quickstart/laravel#authorize-private-and-presence-channels'],
  ['message size limit', 'answers#how-large-may-an-event-be', 'channels#limits', 'protocol#limits'],
  ['payload too large', 'answers#how-large-may-an-event-be', 'channels#limits', 'configuration#limits.event_data', 'protocol#limits'],
  ['namespace', 'move-from-socket-io#namespaces'],
  ['room', 'any-client#rooms-are-channels', 'answers#a-chat-room-a-document'],
  ['App key not in this cluster. Did you forget to specify the cluster?', 'errors#4001'],
  ['encrypted channel', 'sdk#encrypted-channels', 'channels#keep-the-content-from-the-server', 'quickstart/node#encrypted-channels'],
  ['liveness probe', 'deployment#kubernetes', 'deployment#monitoring'],
  ['address already in use', 'errors#cannot-listen-on--setting-listen-fanfare_listen', 'first-run#2-start-it'],
  ['rate limit', 'answers#how-do-i-limit-an-app'],
  ['horizontal scaling', 'clustering', 'answers#how-do-i-run-two-nodes'],
  ['slow client disconnected', 'monitoring#fanfareslowconsumers', 'errors#disconnecting-a-slow-consumer-it-does-not-read-as-fast-as'],
  ['missed messages after reconnect', 'sdk#missed-events', 'history', 'history#coming-back'],
  ['who is online', 'presence#who-of-my-friends-is-online', 'presence', 'tutorial#4-who-is-at-the-counter'],
  ['typing indicator', 'channels#client-events'],
  ['whisper', 'channels#client-events'],
  ['read receipts', 'answers#how-do-i-know-that-a-client-got-an-event'],
  ['rotate secret', 'answers#how-do-i-rotate-a-key', 'keys#an-apps-key'],
  ['cloudflare', 'proxies#behind-a-cdn'],
  ['docker', 'deployment#one-machine-with-docker', 'deployment#the-image', 'deployment#compose'],
  ['helm', 'deployment#kubernetes'],
  ['Invalid signature: Expected HMAC SHA256', 'errors#invalid-signature--expected-hmac-sha256-in-lowercase-hex'],
  ['member_removed delay', 'presence#when-does-a-user-count-as-gone'],
  ['presence multiple tabs', 'presence#several-tabs-are-one-user'],
  ['custom host react native', 'clients#react-native'],
  ['cURL error 7 failed to connect to localhost', 'quickstart/#if-it-doesnt-work', 'quickstart/laravel#configuration'],
  ['websocket disconnects after 60 seconds', 'answers#which-time-outs-does-my-proxy-need'],
  ['1006', 'answers#which-time-outs-does-my-proxy-need'],
  ['JWT', 'channel-auth#providers', 'channel-auth#tokens-of-your-users-jwt', 'channel-auth'],
  ['broadcast to everyone except sender', 'answers#how-do-i-exclude-the-sender-of-an-event', 'channels#publish', 'quickstart/laravel#publish', 'http-api#publish'],
  ['not recieving messages', 'answers#why-did-an-event-not-arrive'],
  ['presense channel', 'presence', 'protocol#presence', 'channels'],
  ['backpressure', 'monitoring#fanfareslowconsumers', 'errors#disconnecting-a-slow-consumer-it-does-not-read-as-fast-as', 'configuration#outboxmax_bytes'],
  ['clock skew', 'move-from-soketi#the-clock-of-a-backend', 'http-api#signed-requests', 'errors#timestamp-expired-auth_timestamp-is--the-servers-clock'],
  ['exactly once', 'http-api#idempotency', 'clustering#what-is-guaranteed'],
  ['duplicate messages', 'http-api#idempotency'],
  ['real ip address', 'proxies#x-forwarded-for-1', 'configuration#httptrusted_proxies', 'proxies#httptrusted_proxies'],
  ['kick user', 'answers#how-do-i-close-a-users-connections'],
  ['self signed certificate', 'tls#an-authority-of-your-own'],
  ['graceful shutdown', 'answers#what-happens-at-a-restart', 'upgrade#what-a-node-does-when-it-stops'],
  ['how many concurrent connections', 'answers#how-many-connections-fit-in-4-gb'],
  ['subscribe on the server', 'any-client#streams-for-backends'],
  ['forgot admin password', 'cli#operators', 'backup#the-owners-password', 'dashboard#sign-in'],
  ['batch trigger', 'http-api#publish-a-batch'],
  ['kubernets', 'deployment#kubernetes'],
  ['authentification', 'channel-auth', 'channel-auth#an-endpoint-of-your-own', 'channels#let-only-some-users-in'],
  ['high availability', 'clustering', 'answers#how-do-i-run-two-nodes'],
  ['healthcheck', 'deployment#kubernetes', 'deployment#monitoring'],
  ['websocket closes when laptop sleeps', 'compatibility/browsers'],
  ['trigger event from browser', 'channels#client-events'],
  ['migrate from pusher', 'move-from-pusher', 'move-from-pusher#from-hosted-pusher'],
  ['transactional outbox', 'outbox'],
  ['max connections exceeded', 'answers#how-do-i-limit-an-app', 'answers#why-are-new-connections-refused', 'configuration#connectionsmax', 'configuration#limits.connections', 'answers#limits.connections'],
  ['use own domain https', 'tls', 'tls#a-certificate-without-files', 'configuration#tlsacmedomains', 'tls#tls.acme.domains'],
  ['last value', 'channels#give-newcomers-the-last-event'],
];

let server;
let browser;
before(async () => {
  server = await startServer();
  browser = await startBrowser({ permissions: ['clipboard-read', 'clipboard-write'] });
});
after(async () => {
  await browser?.stop();
  await server?.stop();
});

const address = (path) => `${server.url}/docs/${path}`;
/** The paths of all pages as Markdown. */
const pages = async () => [...(await (await fetch(address('llms.txt'))).text()).matchAll(/^- \[.+?\]\((.+?)\): .+$/gm)].map(([, path]) => path);
/** The values of an attribute, of tags alone: code on a page has its `<` escaped. */
const attributes = (html, name) =>
  [...html.matchAll(new RegExp(`<[^>]* ${name}="([^"]*)"`, 'g'))].map(([, value]) => value.replaceAll('&amp;', '&'));

test('every link of every page leads to a page, and to an anchor on it', async () => {
  const found = new Map();
  const wrong = [];
  const waiting = [[address(''), 'the beginning', '']];
  while (waiting.length > 0) {
    const [url, from, hash] = waiting.pop();
    if (!found.has(url)) {
      const answer = await fetch(url);
      const isPage = answer.headers.get('content-type')?.startsWith('text/html');
      const html = isPage ? await answer.text() : (await answer.arrayBuffer(), '');
      if (answer.status !== 200) wrong.push(`${from}: ${url} answers ${answer.status}`);
      if (/<th[^>]*><\/th>/.test(html)) wrong.push(`${url} has a table with a heading of nothing`);
      found.set(url, isPage ? new Set(attributes(html, 'id')) : undefined);
      // The pages of the HTTP API and the dashboard are others' to test.
      if (!url.startsWith(address('')) || url.startsWith(address('api/'))) continue;
      for (const link of [...attributes(html, 'href'), ...attributes(html, 'src')]) {
        const target = new URL(link, url);
        if (target.origin === server.url) waiting.push([target.origin + target.pathname, url, decodeURIComponent(target.hash.slice(1))]);
      }
    }
    if (hash && !found.get(url)?.has(hash) && !url.startsWith(address('api/'))) wrong.push(`${from}: ${url} has no #${hash}`);
  }
  assert.deepEqual([...new Set(wrong)], []);
  assert.ok([...found.values()].filter(Boolean).length > 45, `${found.size} pages and files`);
});

test('the search answers what readers ask among its first three results', async () => {
  const page = await browser.open(address('history'));
  await page.keyboard.press('/');
  const wrong = [];
  for (const [question, ...answers] of QUESTIONS) {
    await page.getByRole('searchbox').fill(question);
    await page.locator('.hits a').first().waitFor();
    const hits = await page.locator('.hits a').evaluateAll((links) => links.map((link) => link.getAttribute('href').replace('./', '')));
    const place = hits.findIndex((hit) => answers.includes(hit)) + 1;
    if (place === 0 || place > 3) wrong.push(`${question}: ${answers[0]} is result ${place}, the first are ${hits.slice(0, 3).join(', ')}`);
  }
  assert.deepEqual(wrong, []);
  await page.getByRole('searchbox').fill('limit an app');
  await page.locator('.hits a', { hasText: 'limit an app' }).first().waitFor();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await page.waitForURL(address('**'));
  // The script of the new page shows the button.
  await page.locator('.search').waitFor();
  await page.keyboard.press('/');
  await page.getByRole('searchbox').fill('xyzzyxyzzy');
  await page.getByText('Nothing has these words.').waitFor();
  await page.close();
});

test('a page begins at its beginning, wherever it is in the contents', async () => {
  const page = await browser.open(address('move-from-socket-io'));
  await page.setViewportSize({ width: 1920, height: 1080 });
  await page.reload();
  await page.locator('.search').waitFor();
  const contents = page.getByRole('navigation', { name: 'Contents' });
  await page.waitForFunction(() => document.querySelector('#contents').scrollTop > 0);
  assert.equal(await page.evaluate(() => scrollY), 0);
  assert.ok(await contents.getByRole('link', { name: 'From Socket.IO' }).isVisible());
  await page.close();
});

test('a page has the colours that the dashboard was told to use, and keeps them', async () => {
  const page = await browser.open(address('webhooks'));
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.emulateMedia({ colorScheme: 'light' });
  const light = await background();
  await page.emulateMedia({ colorScheme: 'dark' });
  const dark = await background();
  assert.notEqual(light, dark);
  await page.getByRole('button', { name: /^Colours: system/ }).click();
  assert.equal(await background(), light);
  await page.reload();
  await page.getByRole('button', { name: /^Colours: light/ }).waitFor();
  assert.equal(await background(), light);
  await page.evaluate(() => localStorage.clear());
  await page.close();
});

test('code is coloured, and is copied as it stands in the page', async () => {
  const page = await browser.open(address('quickstart/node'));
  await page.locator('pre .hljs-string').first().waitFor();
  const block = page.locator('.code').first();
  await block.hover();
  await block.getByRole('button', { name: 'Copy' }).click();
  await block.getByRole('button', { name: 'Copied' }).waitFor();
  await page.getByRole('status').getByText('Copied').waitFor();
  const shown = await block.locator('code').textContent();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), shown);
  const markdown = await (await fetch(address('quickstart/node.md'))).text();
  assert.ok(markdown.includes(shown), 'the page as Markdown has the same code');
  await page.close();
});

test('on a narrow screen the contents are behind a button, and nothing is wider than the screen', async () => {
  const page = await browser.open(address('configuration'));
  await page.setViewportSize({ width: 360, height: 800 });
  const contents = page.getByRole('navigation', { name: 'Contents' });
  assert.equal(await contents.isVisible(), false);
  const menu = page.getByRole('button', { name: 'Contents' });
  await menu.press('Enter');
  await page.locator('#contents [aria-current]:focus').waitFor();
  await page.keyboard.press('Escape');
  assert.equal(await contents.isVisible(), false);
  await menu.click();
  await contents.getByRole('link', { name: 'Webhooks', exact: true }).click();
  await page.waitForURL(address('webhooks'));
  for (const path of ['', ...(await pages())]) {
    await page.goto(address(path.replace(/\.md$/, '').replace(/README$/, '')));
    const [width, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(width <= screen, `${path} has ${width} px on ${screen}`);
  }
  await page.close();
});

test('the keyboard alone leads to the text, through the search and back', async () => {
  const page = await browser.open(address('history'));
  await page.locator('.search').waitFor();
  const focused = (selector) => page.locator(`${selector}:focus`).waitFor();
  await page.keyboard.press('Tab');
  await focused('.skip');
  await page.keyboard.press('Enter');
  await focused('main');
  // Headings are named by their words alone, and rows are nothing to stop at.
  await page.keyboard.press('Tab');
  const heading = page.getByRole('heading', { name: 'Switch it on', exact: true });
  assert.equal(await heading.getByRole('link', { name: 'Switch it on', exact: true }).count(), 1);
  assert.equal(await page.locator('tr .anchor').first().getAttribute('tabindex'), '-1');
  await page.keyboard.press('/');
  await focused('dialog input');
  await page.keyboard.type('rate limit');
  await page.getByRole('status').getByText('20 results, best first').waitFor();
  await page.keyboard.press('ArrowDown');
  await focused('.hits a');
  await page.keyboard.press('ArrowUp');
  await focused('dialog input');
  await page.keyboard.press('Escape');
  await focused('article a');
  await page.close();
});

test('on paper a page is its text, dark on light, whatever the screen has', async () => {
  const page = await browser.open(address('webhooks'));
  await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
  for (const around of ['.top', '#contents', 'nav.page', 'footer', '.copy']) assert.equal(await page.locator(around).first().isVisible(), false, around);
  const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(background, 'rgb(255, 255, 255)');
  await page.close();
});

test('without scripts a page has its text and its navigation', async () => {
  const page = await browser.open('about:blank');
  await page.route('**/*.js', (route) => route.abort());
  await page.goto(address('history'));
  await page.getByRole('heading', { level: 1 }).waitFor();
  const contents = page.getByRole('navigation', { name: 'Contents' });
  assert.equal(await contents.getByRole('link', { name: 'Presence' }).isVisible(), true);
  assert.equal(await page.locator('.search').isVisible(), false);
  // Nobody with a phone wants to pass the contents of the book before each page.
  await page.setViewportSize({ width: 360, height: 800 });
  const [text, below] = [await page.locator('h1').boundingBox(), await contents.boundingBox()];
  assert.ok(text.y < below.y, `the text is at ${text.y}, the contents are at ${below.y}`);
  await page.close();
});

test('assistants get every page as Markdown, from one list', async () => {
  const answer = await fetch(`${server.url}/llms.txt`);
  assert.equal(answer.url, address('llms.txt'));
  assert.match(answer.headers.get('content-type'), /^text\/plain/);
  const list = await pages();
  assert.ok(list.length > 45, String(list));
  for (const path of list) {
    const page = await fetch(address(path));
    assert.equal(page.status, 200, path);
    assert.match(await page.text(), /^# /m, path);
  }
});

test('docs.enabled = false takes the documentation away, and leaves the description of the HTTP API', async (t) => {
  const without = await startServer({ env: { FANFARE_DOCS_ENABLED: 'false' } });
  t.after(() => without.stop());
  for (const path of ['/docs', '/docs/', '/docs/history', '/docs/api/', '/llms.txt']) assert.equal((await fetch(without.url + path)).status, 404, path);
  assert.equal((await fetch(`${without.url}/openapi.json`)).status, 200);
});

test('pages ask nobody but the server, and break no rule of their policy', () => {
  // The scripts that a test kept from loading.
  browser.assertQuiet({ expected: /net::ERR_FAILED/ });
});
