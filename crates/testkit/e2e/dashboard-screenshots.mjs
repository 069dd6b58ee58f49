// Writes pictures of the dashboard to the folder that is named, with invented data. Run by
// scripts/dashboard-screenshots.
import { execFileSync } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startBrowser } from './browser.mjs';
import { adminApi, Dashboard, PAGES, PASSWORD } from './dashboard.mjs';
import { connected, startHttp, startServer, subscribe } from './harness.mjs';
import { saveWebp } from './webp.mjs';

const [folder] = process.argv.slice(2);
const SIZE = { width: 1120, height: 700 };
/** Small, because the pictures are part of the program. */
const ENCODING = { quality: 0.4, scale: 0.8 };
/** Pages that a picture says more of than words, with the schemes in which it is there. */
const PICTURES = {
  overview: ['light', 'dark'],
  console: ['light'],
  connection: ['light'],
  explain: ['light'],
  webhook: ['light'],
  settings: ['light'],
};
const EDITORS = 12;

const cleanups = [];
try {
  await run();
} finally {
  for (const cleanup of cleanups.reverse()) await cleanup();
}

async function run() {
  const receiver = await startHttp((_, response) => response.writeHead(204).end());
  cleanups.push(() => receiver.stop());
  const env = { FANFARE_OWNER_PASSWORD: PASSWORD, FANFARE_DEMO: 'true', FANFARE_WEBHOOKS_ALLOW_INNER_ADDRESSES: 'true' };
  const server = await startServer({ app: false, env });
  cleanups.push(() => server.stop());
  const admin = await adminApi(server.url);
  const { at, key, secret } = await fill(server, admin, receiver.url);
  // The numbers of the past can only be written while nobody counts.
  await server.end();
  writePast(join(server.dataDir, 'fanfare.db'), at.app);
  await server.start();
  server.app = { id: at.app, key, secret };
  at.socket = await bringClients(server);
  startPublishing(server);
  await delay(3_000);

  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const browser = await startBrowser({ viewport: SIZE });
  cleanups.push(() => browser.stop());
  const encoder = await browser.open('about:blank');
  const signIn = await browser.open(`${server.url}/`);
  await signIn.getByLabel('Password').waitFor();
  await signIn.close();
  const dashboard = await Dashboard.open(browser, server.url);
  for (const [name, schemes] of Object.entries(PICTURES)) {
    for (const scheme of schemes) {
      await dashboard.page.emulateMedia({ colorScheme: scheme });
      await dashboard.visit(PAGES[name](at));
      if (name === 'overview' && scheme === 'light') {
        for (let n = 0; n < 5; n += 1) await dashboard.page.getByRole('button', { name: 'Send a test event' }).click({ delay: 150 });
        await dashboard.page.getByRole('button', { name: 'Dismiss' }).click();
      }
      if (name === 'explain') await dashboard.page.getByRole('button', { name: 'Explain' }).click();
      // Rates need two looks, and charts their library.
      await delay(name === 'overview' || name === 'nodes' ? 4_500 : 1_200);
      if (name === 'console') await dashboard.page.locator('.line').nth(4).click();
      await save(encoder, dashboard.page, `${name}-${scheme}`);
    }
  }
}

async function save(encoder, page, name) {
  await page.mouse.move(0, 0);
  await saveWebp(encoder, [await page.screenshot()], join(folder, `${name}.webp`), ENCODING);
}

async function fill(server, admin, receiver) {
  const created = await admin('POST', '/apps', { name: 'orders', settings: { client_events: true } });
  for (const name of ['blog', 'game-lobby', 'stock-ticker']) await admin('POST', '/apps', { name });
  const app = created.id;
  await admin('PATCH', `/apps/${app}`, {
    settings: {
      history: [{ channels: 'private-orders-*', size: 100, ttl: 86_400 }, { channels: 'presence-*', size: 20, ttl: 600 }],
      allowed_origins: ['https://shop.example.com'],
      limits: { connections: 20_000 },
      quotas: { messages_per_day: 4_000_000, deliveries_per_day: 60_000_000 },
    },
  });
  const mobile = await admin('POST', `/apps/${app}/keys`, { label: 'mobile app' });
  await admin('POST', `/apps/${app}/keys`, { label: 'checkout backend' });
  const old = await admin('POST', `/apps/${app}/keys`, { label: 'checkout backend, old', expires_at: Date.now() + 86_400_000 });
  await admin('DELETE', `/apps/${app}/keys/${old.key}`);
  await admin('PUT', `/apps/${app}/identity`, {
    providers: [{ issuer: 'https://login.example.com', audience: ['orders'], algorithms: ['HS256'], secret: 'a secret of at least thirty-two bytes' }],
    grants: [{ channels: 'private-orders-{sub}' }, { channels: 'presence-team-{team}', presence: { user_id: 'sub' } }],
  });
  const webhook = await admin('POST', `/apps/${app}/webhooks`, { name: 'orders backend', url: `${receiver}/webhooks`, channels: ['presence-*', 'private-*'] });
  await admin('POST', `/apps/${app}/webhooks`, { name: 'statistics', events: ['channel_occupied', 'channel_vacated'], format: 'standard' });
  await admin('POST', '/operators', { name: 'support', password: PASSWORD, role: 'viewer' });
  await admin('POST', '/operators', { name: 'orders-team', password: PASSWORD, role: 'admin', apps: [app] });
  await admin('POST', '/tokens', { name: 'deploy pipeline', role: 'admin', apps: [app], expires_in_days: 30 });
  await admin('POST', '/tokens', { name: 'status page', role: 'viewer', expires_in_days: 366 });
  return { at: { app, webhook: webhook.id }, key: created.key.key, secret: created.key.secret, mobile };
}

/** Two hours of an app that is busy, with the waves of a day. */
function writePast(database, app) {
  const script = `
import math, random, sqlite3, sys, time
random.seed(17)
path, app = sys.argv[1:]
rows = []
minute = int(time.time()) // 60 * 60000
for ago in range(1, 121):
    wave = 1 + 0.3 * math.sin(ago / 17) + random.uniform(-0.05, 0.05)
    connections = [int(8200 * wave + random.uniform(-60, 60)) for _ in range(6)]
    events, clients = int(2600 * wave), int(900 * wave)
    refused = None if ago % 7 else '{"bad_signature": %d, "over_rate": %d}' % (random.randint(1, 9), random.randint(5, 40))
    for name in ('', app):
        rows.append((name, minute - ago * 60000, 'past', 1, *connections, int(140 * wave), events, clients, int(61000 * wave), events * 412, clients * 260, int(61000 * wave) * 480, None, refused))
with sqlite3.connect(path) as store:
    # An app has no usage from before it was there.
    store.execute('UPDATE apps SET created_at = created_at - 172800000')
    store.executemany(f'INSERT OR REPLACE INTO usage_minutes VALUES ({",".join("?" * 19)})', rows)
`;
  execFileSync('python3', ['-c', script, database, app]);
}

async function bringClients(server) {
  let socket;
  for (let n = 1; n <= EDITORS; n += 1) {
    const name = `editor-${n}`;
    const client = server.client({ user: { user_id: name, user_info: { name } } });
    socket = await connected(client);
    for (const channel of ['presence-editors', `private-orders-${1 + (n % 4)}`, 'private-orders', 'news']) await subscribe(client, channel);
  }
  return socket;
}

function startPublishing(server) {
  const sdk = server.sdk();
  const events = ['order-created', 'order-paid', 'order-packed', 'order-shipped'];
  let number = 4_711;
  const timer = setInterval(() => {
    number += 1;
    const channel = ['private-orders', `private-orders-${1 + (number % 4)}`, 'presence-editors', 'news'][number % 4];
    sdk.trigger(channel, events[number % events.length], { order: number, items: 1 + (number % 5), total: `${(number % 90) + 9}.50` }).catch(() => {});
    // Somebody has the wrong secret.
    if (number % 9 === 0) server.sdk({ app: { ...server.app, secret: 'wrong' } }).trigger('news', 'headline', {}).catch(() => {});
  }, 120);
  cleanups.push(() => clearInterval(timer));
}
