// The dashboard in a browser: what is on every page, and what its tests ask of all of them.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { connected, eventually, startServer, subscribe } from './harness.mjs';

export const PASSWORD = 'a password of the owner';
const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Every page by its name. `at` has the ids of what was made for the test. */
export const PAGES = {
  overview: () => '#/',
  apps: () => '#/apps',
  app: ({ app }) => `#/apps/${app}`,
  console: ({ app }) => `#/apps/${app}/console`,
  sender: ({ app }) => `#/apps/${app}/sender?channel=private-orders&event=order-paid`,
  channels: ({ app }) => `#/apps/${app}/channels`,
  channel: ({ app }) => `#/apps/${app}/channels/presence-editors`,
  connections: ({ app }) => `#/apps/${app}/connections`,
  connection: ({ app, socket }) => `#/apps/${app}/connections/${socket}`,
  explain: ({ app }) => `#/apps/${app}/explain?channel=private-orders&user_id=editor-1`,
  webhooks: ({ app }) => `#/apps/${app}/webhooks`,
  webhook: ({ app, webhook }) => `#/apps/${app}/webhooks/${webhook}`,
  delivery: ({ app, webhook }) => `#/apps/${app}/webhooks/${webhook}/deliveries/1`,
  usage: ({ app }) => `#/apps/${app}/usage`,
  keys: ({ app }) => `#/apps/${app}/keys`,
  identity: ({ app }) => `#/apps/${app}/identity`,
  settings: ({ app }) => `#/apps/${app}/settings`,
  nodes: () => '#/nodes',
  alerts: () => '#/alerts',
  operators: () => '#/operators',
  tokens: () => '#/tokens',
  sessions: () => '#/sessions',
  audit: () => '#/audit',
  configuration: () => '#/configuration',
};

/** Signs in to the admin API. A change made there is active at once, unlike one of another process. */
export async function adminApi(url) {
  const call = async (method, path, body, headers = {}) => {
    const sent = body && { body: JSON.stringify(body) };
    const response = await fetch(`${url}/api/v1${path}`, { method, headers: { 'content-type': 'application/json', ...headers }, ...sent });
    const text = await response.text();
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
    return text && JSON.parse(text);
  };
  const { access_token: token } = await call('POST', '/sessions', { name: 'owner', password: PASSWORD });
  return (method, path, body) => call(method, path, body, { authorization: `Bearer ${token}` });
}

/** A server with something on each of the dashboard's pages. */
export async function startFilled(t, options = {}) {
  const server = await startServer({
    ...options,
    env: { FANFARE_OWNER_PASSWORD: PASSWORD, ...options.env },
    settings: { history: '[{"channels":"private-*","size":100,"ttl":3600}]', ...options.settings },
  });
  t.after(() => server.stop());
  const app = server.app.id;
  const admin = await adminApi(server.url);
  const hook = await admin('POST', `/apps/${app}/webhooks`, { name: 'orders backend' });
  const client = server.client({ user: { user_id: 'editor-1', user_info: { name: 'editor-1' } } });
  const socket = await connected(client);
  for (const channel of ['private-orders', 'presence-editors', 'news']) await subscribe(client, channel);
  await server.sdk().trigger(['private-orders', 'news'], 'order-paid', { number: 17 });
  await eventually(async () => {
    const { items } = await admin('GET', `/apps/${app}/webhooks/${hook.id}/deliveries`);
    assert.ok(items.length > 0);
  });
  return { server, admin, client, at: { app, socket, webhook: hook.id } };
}

/** A page that is signed in. */
export class Dashboard {
  constructor(page, url) {
    this.page = page;
    this.url = url;
  }

  static async open(browser, url, { name = 'owner', password = PASSWORD } = {}) {
    const page = await browser.open('about:blank');
    await page.addInitScript(AXE);
    await page.addInitScript(() => {
      globalThis.violations = [];
      addEventListener('securitypolicyviolation', (event) => globalThis.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
    });
    await page.goto(`${url}/`);
    const dashboard = new Dashboard(page, url);
    await dashboard.signIn(name, password);
    return dashboard;
  }

  async signIn(name, password) {
    await this.page.getByLabel('Name').fill(name);
    await this.page.getByLabel('Password').fill(password);
    await this.page.getByRole('button', { name: 'Sign in' }).click();
    await this.page.locator('header.top').waitFor();
  }

  async signOut() {
    await this.page.getByRole('button', { name: 'Sign out' }).click();
    await this.page.getByLabel('Password').waitFor();
  }

  /** Goes to a page of the dashboard, and waits until it has loaded. */
  async visit(hash) {
    await this.page.evaluate((target) => (location.hash = target), hash);
    const address = hash.slice(2).split('?')[0].split('/').map(decodeURIComponent).join('/');
    await this.page.waitForFunction((expected) => {
      const main = document.querySelector('main');
      return main?.dataset.address === expected && main.querySelector('h1, .state.bad') && !main.querySelector('.spinner');
    }, address);
  }

  /** What axe finds, as one line each. */
  async violations() {
    const found = await this.page.evaluate(async () => {
      const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'] });
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 160)} (${failureSummary})`).join(' | ')}`);
    });
    return found;
  }

  /**
   * Pixels that stick out of a screen of `width` to the right, once the page is laid out for it: charts follow the size of their
   * boxes a moment later.
   */
  async overflowAt(width) {
    await this.page.setViewportSize({ width, height: 740 });
    const overflow = () => document.documentElement.scrollWidth - document.documentElement.clientWidth;
    const fits = (wanted) => innerWidth === wanted && document.documentElement.scrollWidth <= document.documentElement.clientWidth;
    return this.page.waitForFunction(fits, width).then(() => 0, () => this.page.evaluate(overflow));
  }

  async assertPolicyKept() {
    assert.deepEqual(await this.page.evaluate(() => globalThis.violations), [], 'the content security policy was violated');
  }
}
