import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBrowser } from './browser.mjs';
import { Dashboard, PAGES, PASSWORD, startFilled } from './dashboard.mjs';
import { connected, eventually, record, startServer, subscribe } from './harness.mjs';

// What an app without identity answers, and the question who is signed in, are errors to the browser.
const EXPECTED = /Failed to load resource/;

test('an operator signs in with a password or a link, and reads why if that is refused', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const server = await startServer({ env: { FANFARE_OWNER_PASSWORD: PASSWORD } });
  t.after(() => server.stop());
  const page = await browser.open(`${server.url}/#/audit`);

  await page.getByLabel('Password').fill('wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').waitFor();
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  // It goes on where it was asked for.
  await page.getByRole('heading', { name: 'Audit log' }).waitFor();
  const cookie = (await page.context().cookies()).find(({ name }) => /fanfare/.test(name));
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, 'Strict']);
  assert.equal(await page.evaluate(() => document.cookie), '');

  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Password').waitFor();
  await page.goto(`${server.url}/#/apps`);
  await page.reload();
  await page.getByLabel('Password').waitFor();

  const printed = await server.cli('operator', 'sign-in-link', 'owner', '--json');
  const hash = /#\/sign-in\?link=\w+/.exec(printed)[0];
  await page.goto(`${server.url}/${hash}`);
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  assert.ok(!page.url().includes('link='), 'the link stays in the address');

  // It is good once. Whoever is signed in is asked, and loses nothing by it.
  await page.goto(`${server.url}/${hash}`);
  await page.getByRole('heading', { name: 'You are signed in as owner' }).waitFor();
  assert.equal(await page.getByLabel('Password').count(), 0);
  await page.getByRole('button', { name: 'Sign in by the link' }).click();
  await page.getByRole('alert').waitFor();
  await page.getByRole('link', { name: 'Go on as owner' }).click();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  browser.assertQuiet({ expected: EXPECTED });
});

test('every page has its content in both schemes, on narrow screens too, and axe finds no violation', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const { server, at } = await startFilled(t);
  const dashboard = await Dashboard.open(browser, server.url);
  const { page } = dashboard;
  const faults = [];
  for (const [name, address] of Object.entries(PAGES)) {
    await dashboard.visit(address(at));
    if (name === 'explain') {
      await page.getByRole('button', { name: 'Explain' }).click();
      await page.getByRole('heading', { name: 'Answer' }).waitFor();
      await page.getByText('the event "order-paid" was published').waitFor();
    }
    const chapter = new URL(await page.getByRole('link', { name: 'Docs' }).evaluate((link) => link.href));
    const explained = await (await fetch(chapter)).text();
    if (!explained.includes(`id="${chapter.hash.slice(1)}"`) && chapter.hash) faults.push(`${name}: ${chapter} leads nowhere`);
    const failed = await page.locator('main .state.bad').allInnerTexts();
    for (const text of failed) faults.push(`${name}: ${text}`);
    const shown = await page.locator('main').innerText();
    for (const [text] of shown.matchAll(/.*\b(NaN|undefined|\[object \w+\])\b.*/g)) faults.push(`${name} shows: ${text}`);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      for (const violation of await dashboard.violations()) faults.push(`${name}, ${colorScheme}: ${violation}`);
    }
    const overflow = await dashboard.overflowAt(360);
    if (overflow > 0) faults.push(`${name}: sticks out ${overflow} px at a width of 360`);
    await page.setViewportSize({ width: 1280, height: 800 });
  }
  assert.deepEqual(faults, []);
  await dashboard.assertPolicyKept();
  browser.assertQuiet({ expected: EXPECTED });
});

test('every page works for every role, and says why something is not allowed', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const { server, admin, at } = await startFilled(t);
  await admin('POST', '/apps', { id: 'other', name: 'other' });
  const dashboard = await Dashboard.open(browser, server.url);
  const { page } = dashboard;
  const rights = [
    ['viewer', []],
    ['viewer', [at.app]],
    ['admin', [at.app]],
    ['admin', []],
    ['owner', [at.app]],
  ];
  for (const [role, apps] of rights) {
    const name = `${role}-${apps.length}`;
    await admin('POST', '/operators', { name, password: PASSWORD, role, ...(apps.length ? { apps } : {}) });
  }
  for (const [role, apps] of rights) {
    await dashboard.signOut();
    await dashboard.signIn(`${role}-${apps.length}`, PASSWORD);
    const faults = [];
    for (const [page, address] of Object.entries(PAGES)) {
      await dashboard.visit(address(at));
      for (const violation of await dashboard.violations()) faults.push(`${page} for ${role} of ${apps}: ${violation}`);
      // What isn't allowed is said in words, and isn't an answer of the API that was refused.
      for (const text of await dashboard.page.locator('main .state.bad').allInnerTexts()) faults.push(`${page} for ${role} of ${apps} shows: ${text}`);
    }
    assert.deepEqual(faults, []);

    await dashboard.visit(PAGES.keys(at));
    const create = page.getByRole('button', { name: /Create a key/ });
    const reason = await create.getAttribute('title');
    if (role === 'viewer') {
      assert.match(reason, /needs the role admin; you are a viewer/);
      // A press tells it as well, and does nothing else.
      await create.press('Enter');
      await page.locator('.toast', { hasText: 'needs the role admin' }).waitFor();
      assert.equal(await page.locator('dialog').count(), 0);
    } else {
      assert.equal(reason, null);
    }
    await dashboard.visit(PAGES.apps(at));
    const createApp = await page.getByRole('button', { name: /Create an app/ }).getAttribute('title');
    if (role === 'viewer') assert.match(createApp, /needs the role admin/);
    else if (apps.length) assert.match(createApp, /needs rights on all apps/);
    else assert.equal(createApp, null);
    // Other apps do not exist for those who don't see them.
    await dashboard.visit('#/apps/other');
    const shown = await page.locator('main').innerText();
    assert.equal(/have been deleted|one of your apps/.test(shown), apps.length > 0, `${role} of ${apps}: ${shown}`);
  }
  await dashboard.assertPolicyKept();
  browser.assertQuiet({ expected: EXPECTED });
});

test('whatever strangers and operators write is shown as text', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const { server, admin, at } = await startFilled(t);
  const hostile = (n) => `<img src=x onerror="globalThis.hit=${n}"><script>globalThis.hit=${n}</script>'"\`\${1}{{1}}`;
  const user = hostile(1);
  const client = server.client({ user: { user_id: user, user_info: { name: hostile(2) } } });
  await connected(client);
  await subscribe(client, 'presence-editors');
  await subscribe(client, 'private-orders');
  await admin('POST', `/apps/${at.app}/keys`, { label: hostile(3) });
  await admin('PATCH', `/apps/${at.app}`, { name: hostile(4) });
  await admin('POST', '/operators', { name: hostile(5), password: PASSWORD, role: 'viewer' });
  await server.sdk().trigger('private-orders', hostile(6), { text: hostile(7) });
  client.channel('private-orders').trigger(`client-${hostile(8)}`, { text: hostile(9) });

  const dashboard = await Dashboard.open(browser, server.url);
  const { page } = dashboard;
  for (const address of Object.values(PAGES)) {
    await dashboard.visit(address(at));
    const found = await page.evaluate(() => [document.querySelectorAll('main img, main script').length, globalThis.hit]);
    assert.deepEqual(found, [0, undefined], address(at));
  }
  await dashboard.visit(PAGES.keys(at));
  await page.getByText(hostile(3)).waitFor();
  await dashboard.visit('#/operators');
  await page.getByText(hostile(5)).first().waitFor();
  await dashboard.visit(PAGES.channel(at));
  await page.getByText(user).first().waitFor();
  // Also from an address that somebody was sent.
  await dashboard.visit(`#/apps/${encodeURIComponent(hostile(10))}/channels/${encodeURIComponent(hostile(11))}`);
  await dashboard.visit(`#/apps/${at.app}/sender?channel=${encodeURIComponent(hostile(12))}&event=${encodeURIComponent(hostile(13))}`);
  assert.equal(await page.evaluate(() => globalThis.hit), undefined);
  await dashboard.assertPolicyKept();
  browser.assertQuiet({ expected: EXPECTED });
});

test('the keyboard reaches everything', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const { server, at } = await startFilled(t);
  const dashboard = await Dashboard.open(browser, server.url);
  const { page } = dashboard;
  const title = (name) => page.getByRole('heading', { level: 1, name }).waitFor();
  await dashboard.visit('#/');

  await page.keyboard.press('/');
  await page.keyboard.type('App 1234567');
  await page.getByRole('option', { name: 'App 1234567' }).first().waitFor();
  assert.deepEqual(await dashboard.violations(), []);
  await page.keyboard.press('Enter');
  await title('App 1234567');
  for (const [key, name] of [['c', 'Live console'], ['d', 'Keys'], ['u', 'Audit log'], ['o', 'Overview']]) {
    if (key === 'd') await dashboard.visit(PAGES.app(at));
    await page.keyboard.press('g');
    await page.keyboard.press(key);
    await title(name);
  }
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
  assert.deepEqual(await dashboard.violations(), []);
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });

  // The first Tab of a page skips the navigation.
  await page.reload();
  await title('Overview');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'content');

  // Keys belong to the field that is typed into.
  await dashboard.visit(PAGES.channels(at));
  await page.getByLabel('Begins with').fill('');
  await page.getByLabel('Begins with').press('/');
  assert.equal(await page.getByLabel('Begins with').inputValue(), '/');
  assert.match(page.url(), /prefix=%2F/);
  browser.assertQuiet({ expected: EXPECTED });
});

test('an operator creates an app, changes and undoes a setting, creates a key and revokes it', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const server = await startServer({ app: false, env: { FANFARE_OWNER_PASSWORD: PASSWORD } });
  t.after(() => server.stop());
  const dashboard = await Dashboard.open(browser, server.url);
  const { page } = dashboard;
  const press = (name) => page.getByRole('button', { name, exact: true }).click();
  const setting = async (id, name) => JSON.parse(await server.cli('app', 'show', id, '--json')).settings[name];

  await dashboard.visit('#/apps');
  await page.getByRole('button', { name: 'Create an app' }).first().click();
  await page.getByRole('dialog').getByLabel('Name').fill('orders');
  await press('Create');
  const once = page.getByRole('dialog', { name: 'orders was created' });
  await once.waitFor();
  assert.deepEqual(await dashboard.violations(), []);
  const [id, key, secret] = await once.locator('dd code').allInnerTexts();
  await press('I have copied it');
  await page.getByRole('heading', { level: 1, name: 'orders' }).waitFor();
  const app = { id, key, secret };
  await server.sdk({ app }).trigger('news', 'headline', { text: 'it works' });

  await dashboard.visit(`#/apps/${id}/settings`);
  await page.getByLabel('Client events', { exact: true }).check();
  await page.getByRole('button', { name: 'Save one change' }).click();
  await page.locator('.toast', { hasText: 'Saved the settings' }).waitFor();
  assert.equal(await setting(id, 'client_events'), true);
  await page.locator('.toast').getByRole('button', { name: 'Undo' }).click();
  await page.locator('.toast', { hasText: 'Undone' }).waitFor();
  assert.equal(await setting(id, 'client_events'), false);

  // What the server refuses is said where it was asked.
  await page.getByLabel('Allowed origins').fill('no origin at all');
  await page.getByRole('button', { name: 'Save one change' }).click();
  await page.locator('.save-bar').getByRole('alert').waitFor();

  await dashboard.visit(`#/apps/${id}/keys`);
  await page.getByRole('button', { name: 'Create a key' }).click();
  await page.getByLabel('Label').fill('checkout backend');
  await press('Create');
  const shown = page.getByRole('dialog', { name: 'The new key' });
  await shown.waitFor();
  const [newKey] = await shown.locator('dd code').allInnerTexts();
  await press('I have copied it');
  await page.getByRole('button', { name: `Revoke ${key}` }).click();
  const asked = page.getByRole('dialog', { name: `Revoke the key ${key} now?` });
  assert.deepEqual(await dashboard.violations(), []);
  const revoke = asked.getByRole('button', { name: /^Revoke/ });
  assert.equal(await revoke.getAttribute('aria-disabled'), 'true');
  await asked.getByRole('textbox').fill(key);
  await revoke.click();
  await page.getByRole('row', { name: new RegExp(`${key}.*revoked`) }).waitFor();
  await page.getByRole('row', { name: new RegExp(`${newKey}.*active`) }).waitFor();
  await assert.rejects(server.sdk({ app }).trigger('news', 'headline', {}));
  await dashboard.assertPolicyKept();
  browser.assertQuiet({ expected: EXPECTED });
});

test('the sender sends events, batches and events of clients, says who got them, and keeps messages', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const { server, client, at } = await startFilled(t);
  const dashboard = await Dashboard.open(browser, server.url);
  const { page } = dashboard;
  const other = server.client({ user: { user_id: 'editor-2' } });
  const left = await connected(other);
  for (const each of [client, other]) await subscribe(each, 'private-orders');
  const received = [client, other].map((each) => record(each.channel('private-orders')));

  await dashboard.visit(PAGES.sender(at));
  await page.getByLabel('Data').fill('{"number": 18}');
  await page.getByLabel('Leave out the connection').fill(left);
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.getByText(/Sent to 2 subscribers/).waitFor();
  await page.getByText('Snippets (0)').click();
  await page.getByLabel('Keep this message as').fill('paid');
  await page.getByRole('button', { name: 'Keep', exact: true }).click();
  await page.getByText('Snippets (1)').waitFor();

  await page.getByRole('button', { name: 'Client event' }).click();
  await page.getByLabel('Event', { exact: true }).fill('client-typing');
  await page.getByLabel('From the connection').fill('');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.getByText(/Sent to 2 subscribers/).waitFor();

  await page.getByRole('button', { name: 'Batch' }).click();
  await page.getByLabel('Events', { exact: true }).fill('[{"channel": "private-orders", "name": "one", "data": 1}, {"channel": "private-orders", "name": "last", "data": "2"}]');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await eventually(async () => assert.equal(received[1].at(-1)?.[0], 'last'));
  assert.deepEqual(received[0], [['order-paid', { number: 18 }], ['client-typing', { number: 18 }], ['one', 1], ['last', 2]]);
  assert.deepEqual(received[1], received[0].slice(1));

  // What is refused says why.
  await page.getByLabel('Events', { exact: true }).fill('[{"channel": "no such channel", "name": "one", "data": 1}]');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.locator('form').getByRole('alert').waitFor();

  await page.getByRole('button', { name: 'paid', exact: true }).click();
  assert.equal(await page.getByLabel('Data').inputValue(), '{"number": 18}');
  assert.deepEqual(await dashboard.violations(), []);
  await dashboard.assertPolicyKept();
  browser.assertQuiet({ expected: EXPECTED });
});
