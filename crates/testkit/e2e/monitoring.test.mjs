// A real Prometheus scrapes two nodes with the files of deploy/monitoring: the numbers are those of what was done, in every format, and
// every metric that the alerts and the dashboard ask for exists.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync, copyFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { startServer } from './harness.mjs';

const ROOT = new URL('../../../', import.meta.url);
const run = promisify(execFile);
const monitoring = (name) => readFileSync(new URL(`deploy/monitoring/${name}`, ROOT), 'utf8');
const has = await run('prometheus', ['--version']).then(() => true, () => false);
const skip = has ? false : 'Prometheus is not installed';

const freePort = async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
};

/** Asks until `found` is truthy. */
const until = async (ask, what) => {
  for (const end = Date.now() + 30_000; Date.now() < end; await sleep(100)) {
    const found = await ask().catch(() => null);
    if (found) return found;
  }
  throw new Error(`not within 30 s: ${what}`);
};

const folder = mkdtempSync(join(tmpdir(), 'fanfare-monitoring-'));
let nodes, prometheus, url;

before(async () => {
  if (skip) return;
  nodes = [await startServer(), await startServer()];
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  const jobs = await Promise.all(nodes.map(async (node, at) => {
    writeFileSync(join(folder, `${at}.token`), await metricsToken(node));
    return `  - job_name: fanfare${at}
    scrape_interval: 1s
    authorization: { credentials_file: ${at}.token }
    relabel_configs: [{ target_label: job, replacement: fanfare }]
    static_configs: [{ targets: ["${new URL(node.url).host}"] }]`;
  }));
  copyFileSync(new URL('deploy/monitoring/fanfare.rules.yml', ROOT), join(folder, 'fanfare.rules.yml'));
  const config = join(folder, 'prometheus.yml');
  writeFileSync(config, `global: { evaluation_interval: 1s }\nrule_files: [fanfare.rules.yml]\nscrape_configs:\n${jobs.join('\n')}\n`);
  prometheus = spawn('prometheus', [`--config.file=${config}`, `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`, '--enable-feature=native-histograms'], { stdio: 'ignore' });
  await until(async () => (await query('sum(fanfare_ready)')) === 2, 'both nodes are scraped');
});

after(async () => {
  prometheus?.kill();
  await Promise.all((nodes ?? []).map((node) => node.stop()));
  rmSync(folder, { recursive: true, force: true });
});

const query = async (text) => {
  const answer = await (await fetch(`${url}/api/v1/query?query=${encodeURIComponent(text)}`)).json();
  return answer.data.result.length === 1 ? Number(answer.data.result[0].value?.[1] ?? NaN) : answer.data.result.length;
};

/** A token that may read metrics and nothing else. */
const metricsToken = async (node) => {
  const created = await node.cli('token', 'create', '--name', 'prometheus', '--role', 'metrics', '--json');
  return JSON.parse(created).secret;
};

test('a token for metrics reads metrics alone, and nobody reads them without one', { skip }, async () => {
  const [node] = nodes;
  const get = (path, token) => fetch(`${node.url}${path}`, token && { headers: { authorization: `Bearer ${token}` } });
  const token = await metricsToken(node);
  assert.equal((await get('/metrics')).status, 401);
  assert.equal((await get('/metrics', token)).status, 200);
  for (const path of ['/api/v1/apps', '/api/v1/server', '/api/v1/operators']) {
    assert.equal((await get(path, token)).status, 403, path);
  }
});

test('Prometheus has the numbers of what two nodes did, native histograms included', { skip }, async () => {
  for (const [at, node] of nodes.entries()) {
    const channels = Array.from({ length: 3 }, () => node.client().subscribe('metrics'));
    await Promise.all(channels.map((channel) => new Promise((done) => channel.bind('pusher:subscription_succeeded', done))));
    const received = channels.map((channel) => new Promise((done) => channel.bind(`event-${at}`, done)));
    for (let event = 0; event <= at; event += 1) await node.sdk().trigger('metrics', `event-${event}`, 'data');
    await Promise.all(received);
  }
  const sums = {
    'sum(fanfare_events_published_total)': 3,
    'sum(fanfare_deliveries_total)': 9,
    'sum(fanfare_connections{transport="websocket"})': 6,
    'sum(fanfare_app_deliveries_total)': 9,
    'sum(histogram_count(fanfare_publish_to_write_seconds))': 3,
    // A Prometheus that takes native histograms drops the classic buckets, so the alert must not need them.
    'count(fanfare_publish_to_write_seconds_bucket) or vector(0)': 0,
    [`count(${/\((\s+histogram_quantile[^>]*)\) > 0.25/.exec(monitoring('fanfare.rules.yml'))[1]})`]: 2,
  };
  for (const [text, value] of Object.entries(sums)) {
    await until(async () => (await query(text)) === value, `${text} is ${value}`);
  }
});

test('every metric that alerts and dashboard ask for is one of the node', { skip }, async () => {
  const names = new Set(`${monitoring('fanfare.rules.yml')}${monitoring('fanfare.dashboard.json')}`.match(/\b(fanfare|process)_[a-z_]+\b/g));
  const known = new Set([...readFileSync(new URL('docs/metrics.md', ROOT), 'utf8').matchAll(/^\| `([a-z_]+)`/gm)].map(([, name]) => name));
  for (const name of names) assert.ok(known.has(name.replace(/_bucket$/, '')), `${name} is not in docs/metrics.md`);
});

test('with an address of their own, operators find metrics and the admin API there alone', async () => {
  const ops = `127.0.0.1:${await freePort()}`;
  const node = await startServer({ env: { FANFARE_OPS_LISTEN: ops } });
  const status = async (url) => (await fetch(url, { redirect: 'manual' })).status;
  try {
    assert.equal(await status(`http://${ops}/metrics`), 200);
    assert.equal(await status(`http://${ops}/api/v1/apps`), 401);
    for (const path of ['/metrics', '/api/v1/apps', '/docs']) assert.equal(await status(`${node.url}${path}`), 404, path);
    for (const path of ['/app/e2e-key', '/apps/1234567/channels', '/sdk/fanfare.js']) assert.equal(await status(`http://${ops}${path}`), 404, path);
    assert.equal(await status(`http://${ops}/readyz`), 200);
  } finally {
    await node.stop();
  }
});
