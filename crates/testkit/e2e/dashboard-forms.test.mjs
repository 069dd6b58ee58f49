// What operators change in the dashboard: identity, keys, and what the pages say afterwards.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { Dashboard, PAGES, PASSWORD, startFilled } from './dashboard.mjs';
import { until } from './cluster/until.mjs';
import { startHttp } from './harness.mjs';

// What an app without identity answers, and the question who is signed in, are errors to the browser.
const EXPECTED = /Failed to load resource/;

async function start(t, options) {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const filled = await startFilled(t, options);
  const dashboard = await Dashboard.open(browser, filled.server.url);
  return { browser, dashboard, page: dashboard.page, ...filled };
}

test('an identity is made and changed in a form, keeps its secret, and can be edited as JSON', async (t) => {
  const { browser, dashboard, page, admin, at } = await start(t);
  const stored = () => admin('GET', `/apps/${at.app}/identity`);
  const save = async () => {
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    await page.locator('.toast', { hasText: 'Saved the identity' }).waitFor();
    await page.locator('.toast').getByRole('button', { name: 'Dismiss' }).click();
  };
  await dashboard.visit(PAGES.identity(at));
  await page.getByRole('button', { name: 'Add a provider' }).click();
  const provider = page.getByRole('group', { name: 'provider 1' });
  await provider.getByLabel('Issuer').fill('https://login.example.com/');
  await provider.getByLabel('Keys', { exact: true }).selectOption('secret');
  await provider.getByLabel('Secret', { exact: true }).fill('short');
  await page.getByRole('button', { name: 'Add a grant' }).click();
  const grant = page.getByRole('group', { name: 'grant 1' });
  await grant.getByLabel('Pattern').fill('private-user-{sub}');
  await grant.getByLabel('Only if').fill('roles = admin\nlevel = 3');
  await page.getByLabel('Bearers of tokens may sign in as users').check();
  assert.deepEqual(await dashboard.violations(), []);

  // What the server refuses is said, and nothing that was typed is lost.
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.locator('.save-bar').getByRole('alert').filter({ hasText: 'providers[0].secret' }).waitFor();
  await provider.getByLabel('Secret', { exact: true }).fill('a secret of at least thirty-two bytes');
  await save();
  const identity = await stored();
  assert.deepEqual([identity.providers[0].secret, identity.providers[0].algorithms], ['set', ['HS256']]);
  assert.deepEqual([identity.grants[0].channels, identity.grants[0].when], ['private-user-{sub}', { roles: 'admin', level: 3 }]);
  assert.equal(identity.sign_in.id, 'sub');

  // Another change keeps the secret.
  await provider.getByText('A secret is set, and stays.').waitFor();
  await provider.getByLabel('Audience').fill('orders');
  await save();
  assert.deepEqual((await stored()).providers[0].audience, ['orders']);

  await page.getByRole('button', { name: 'JSON', exact: true }).click();
  const text = page.getByLabel('Identity', { exact: true });
  const edited = JSON.parse(await text.inputValue());
  edited.grants.push({ channels: 'presence-*' });
  await text.fill('{');
  await page.getByRole('alert').filter({ hasText: 'This is not JSON' }).waitFor();
  await text.fill(JSON.stringify(edited));
  assert.deepEqual(await dashboard.violations(), []);
  await page.getByRole('button', { name: 'Form', exact: true }).click();
  assert.equal(await page.getByRole('group', { name: 'grant 2' }).getByLabel('Pattern').inputValue(), 'presence-*');
  await save();
  assert.equal((await stored()).grants.length, 2);
  await dashboard.assertPolicyKept();
  browser.assertQuiet({ expected: EXPECTED });
});

test('a key gets an expiry, its secret is not closed by mistake, and who revokes one reads what uses it now', async (t) => {
  const { browser, dashboard, page, server, admin, at } = await start(t);
  await dashboard.visit(PAGES.keys(at));
  await page.getByRole('button', { name: 'Create a key' }).click();
  const creating = page.getByRole('dialog', { name: 'Create a key' });
  assert.equal(await creating.getByLabel('Label').evaluate((it) => it === document.activeElement), true, 'the first field has no focus');
  await creating.getByLabel('Label').fill('checkout backend');
  await creating.getByLabel('It expires').selectOption('86400');
  await creating.getByRole('button', { name: 'Create', exact: true }).click();
  const once = page.getByRole('dialog', { name: 'The new key' });
  const copy = once.getByRole('button', { name: 'Copy the secret' });
  await copy.waitFor();
  assert.equal(await copy.evaluate((it) => it === document.activeElement), true, 'the button that copies has no focus');
  for (let n = 0; n < 3; n += 1) await page.keyboard.press('Escape');
  await once.getByRole('alert').waitFor();
  await page.mouse.click(5, 5);
  assert.equal(await once.isVisible(), true, 'the secret was closed by mistake');
  assert.deepEqual(await dashboard.violations(), []);
  const [key] = await once.locator('dd code').allInnerTexts();
  await once.getByRole('button', { name: 'I have copied it' }).click();
  await once.waitFor({ state: 'detached' });
  await page.getByRole('row', { name: new RegExp(`${key}.*expiring`) }).waitFor();

  await page.getByRole('button', { name: `Change ${key}` }).click();
  const changing = page.getByRole('dialog', { name: `Change ${key}` });
  await changing.getByLabel('It expires').selectOption('at');
  await changing.getByLabel('Time', { exact: true }).fill('2099-12-31T23:59');
  await changing.getByRole('button', { name: 'Save' }).click();
  await changing.waitFor({ state: 'detached' });
  const shown = await admin('GET', `/apps/${at.app}/keys/${key}`);
  assert.equal(new Date(shown.expires_at).getUTCFullYear() >= 2099, true);

  // A client that has come since the list was loaded counts.
  await page.getByRole('button', { name: `Revoke ${server.app.key}` }).click();
  const asked = page.getByRole('dialog', { name: `Revoke the key ${server.app.key} now?` });
  await asked.getByText('1 open connection uses it.').waitFor();
  await asked.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: `Revoke ${key}` }).click();
  await page.getByRole('dialog').getByText('No open connection uses it.').waitFor();
  browser.assertQuiet({ expected: EXPECTED });
});

test('the page of an app has code for each client library, with the address that it was loaded from', async (t) => {
  const { browser, dashboard, page, server, at } = await start(t);
  await dashboard.visit(PAGES.app(at));
  const code = page.getByRole('region', { name: 'a client that receives events' });
  const { hostname, port } = new URL(server.url);
  for (const library of ['pusher-js', 'Laravel Echo']) {
    await page.getByRole('button', { name: library }).click();
    await code.filter({ hasText: `'${server.app.key}'` }).filter({ hasText: `wsHost: '${hostname}', wsPort: ${port},` }).filter({ hasText: 'forceTLS: false' }).waitFor();
  }
  browser.assertQuiet({ expected: EXPECTED });
});

test('the audit log is filtered by what is chosen from lists, and every setting is explained', async (t) => {
  const { browser, dashboard, page, admin, at } = await start(t);
  await admin('POST', '/operators', { name: 'support', password: PASSWORD, role: 'viewer' });
  await admin('POST', `/apps/${at.app}/keys`, { label: 'one' });
  await dashboard.visit('#/audit');
  await page.getByLabel('Action', { exact: true }).selectOption('key.create');
  await page.getByLabel('Who').selectOption({ label: 'owner' });
  const rows = page.getByRole('table', { name: 'Audit log' }).locator('tbody').getByRole('row');
  await page.getByRole('row', { name: /operator.create/ }).first().waitFor({ state: 'detached' });
  assert.ok((await rows.allInnerTexts()).every((text) => text.includes('key.create')));
  assert.match(page.url(), /action=key.create&actor_id=\w+/);
  await page.getByLabel('From').fill('2099-01-01T00:00');
  await page.getByText('This time is still to come.').waitFor();
  await page.getByText('No entry matches.').waitFor();
  assert.deepEqual(await dashboard.violations(), []);

  await dashboard.visit('#/configuration');
  const settings = page.getByRole('table', { name: 'Settings' }).locator('tbody').getByRole('row');
  await settings.first().waitFor();
  const unexplained = await settings.evaluateAll((all) => all.filter((row) => !row.querySelector('.help').textContent).map((row) => row.querySelector('code').textContent));
  assert.deepEqual(unexplained, []);
  browser.assertQuiet({ expected: EXPECTED });
});

test('a connection that was closed, and a delivery that is sent again, are shown as they are then', async (t) => {
  const answers = [];
  const receiver = await startHttp((_, response) => {
    answers.push(response);
    response.writeHead(204).end();
  });
  t.after(() => receiver.stop());
  const { browser, dashboard, page, admin, at } = await start(t, { env: { FANFARE_WEBHOOKS_ALLOW_INNER_ADDRESSES: 'true' } });
  const path = `/apps/${at.app}/webhooks/${at.webhook}`;
  await admin('PATCH', path, { url: `${receiver.url}/hook` });
  await admin('POST', `${path}/replay`, { sequences: [1] });
  const isSent = async () => (await admin('GET', `${path}/deliveries/1`)).attempts.length === 1;
  await until('the delivery is sent', isSent, { within: 30_000, every: 100 });
  await dashboard.visit(PAGES.delivery(at));
  const attempts = page.getByRole('table', { name: 'Attempts' }).locator('tbody').getByRole('row');
  await attempts.first().waitFor();
  assert.equal(await attempts.count(), 1);
  await page.getByRole('button', { name: 'Send again' }).click();
  await attempts.nth(1).waitFor();

  await dashboard.visit(PAGES.connection(at));
  await page.getByRole('button', { name: 'Disconnect' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
  await page.getByText('This connection is closed.').waitFor();
  assert.equal(await page.getByRole('button', { name: /Disconnect/ }).getAttribute('aria-disabled'), 'true');
  browser.assertQuiet({ expected: EXPECTED });
});
