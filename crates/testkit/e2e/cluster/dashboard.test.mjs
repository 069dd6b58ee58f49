// The dashboard of one node shows and does what concerns all of them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBrowser } from '../browser.mjs';
import { adminApi, Dashboard, PASSWORD } from '../dashboard.mjs';
import { startBalancer } from './balancer.mjs';
import { startCluster } from './topology.mjs';
import { until } from './until.mjs';

const CLIENTS = 9;

let cluster, browser;
before(async () => {
  cluster = await startCluster({ env: { FANFARE_OWNER_PASSWORD: PASSWORD } });
  browser = await startBrowser();
});
after(async () => {
  await browser?.stop();
  await cluster?.stop();
});

test('the console shows what happens on all nodes, a connection is found on any, and draining a node moves its clients', async () => {
  const { app, nodes } = cluster;
  const url = `http://127.0.0.1:${nodes[0].port}`;
  const admin = await adminApi(url);
  const dashboard = await Dashboard.open(browser, url);
  const { page } = dashboard;
  await dashboard.visit(`#/apps/${app.id}/console`);
  await page.getByText('3 nodes').waitFor();

  const balancer = await cluster.keep(startBalancer(nodes));
  const clients = Array.from({ length: CLIENTS }, () => cluster.pusherJs(balancer).subscribe('news'));
  const subscribed = () => clients.filter((client) => client.session('news')).length;
  await until('all are subscribed', () => subscribed() === CLIENTS);
  const { items } = await admin('GET', `/apps/${app.id}/connections`);
  assert.equal(items.length, CLIENTS);
  assert.equal(new Set(items.map(({ node }) => node)).size, 3, 'the clients are not on all nodes');
  for (const { socket_id: socket } of items) await page.locator('.line', { hasText: 'connected' }).filter({ hasText: socket }).first().waitFor();

  // One that is on another node than the one that answers.
  const { nodes: before } = await admin('GET', '/nodes');
  const here = before.find(({ is_answering_node: answers }) => answers).name;
  const far = items.find(({ node }) => node !== here);
  await dashboard.visit(`#/apps/${app.id}/connections`);
  await page.getByRole('link', { name: far.socket_id }).click();
  await page.getByRole('heading', { level: 1, name: `Connection ${far.socket_id}` }).waitFor();
  await page.locator('main dd', { hasText: far.node }).waitFor();

  await dashboard.visit('#/nodes');
  await page.getByRole('button', { name: `Drain ${far.node}` }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Drain', exact: true }).click();
  const row = page.getByRole('row', { name: new RegExp(far.node) });
  await row.getByText('draining').waitFor();
  await until('the clients have moved', async () => {
    const { items: now } = await admin('GET', `/apps/${app.id}/connections`);
    return now.length === CLIENTS && now.every(({ node }) => node !== far.node);
  }, { within: 30_000 });
  await until('all are subscribed again', () => subscribed() === CLIENTS);

  await page.getByRole('button', { name: `Take back the drain of ${far.node}` }).click();
  await row.getByText('ready').waitFor();
  await dashboard.assertPolicyKept();
  browser.assertQuiet({ expected: /Failed to load resource/ });
});
