// Two installations, each with a store of its own, find each other at one cluster.url under one prefix.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { freePort } from '../harness.mjs';
import { Node, binary } from './node.mjs';
import { sql } from './postgres.mjs';
import { startCluster } from './topology.mjs';
import { until } from './until.mjs';

const run = promisify(execFile);
const ROOM = 'presence-room';
let cluster;
before(async () => {
  cluster = await startCluster({ nodes: 1 });
});
after(() => cluster?.stop());

/** A node with a store of its own, which has the same app, as staging often has. */
async function startStranger(prefix) {
  const url = cluster.shared.ask ? `redis://127.0.0.1:${cluster.shared.port}` : cluster.shared.url;
  const { id, key, secret } = cluster.app;
  const env = { FANFARE_DEMO: 'false', FANFARE_CLUSTER_URL: url, ...(prefix && { FANFARE_CLUSTER_PREFIX: prefix }) };
  const node = new Node('stranger', await freePort(), env);
  await node.start();
  await until('it has a store', () => node.log.includes('listening'));
  const words = ['app', 'create', '--name', 'App', '--id', id, '--key', key, '--secret', secret];
  await run(binary(), words, { env: { PATH: process.env.PATH, FANFARE_DATA_DIR: node.folder }, cwd: node.folder });
  return node;
}

test('a node of another installation says so, takes nothing and disturbs nobody, until the first one is gone for a minute', { timeout: 60_000 }, async (t) => {
  const [node] = cluster.nodes;
  const member = cluster.client(node, { user: 'ours' });
  await member.subscribes(ROOM);
  const stranger = await startStranger();
  t.after(() => stranger.remove());
  await until('the stranger says why it waits', () => /another installation.*cluster\.prefix/.test(stranger.log));
  assert.equal(await stranger.probe(), 503);
  assert.equal(await node.probe(), 200);
  await cluster.countsAreRight(ROOM);
  await node.stop();
  await expireClaim();
  await stranger.ready();
});

test('with a prefix of its own it serves beside them', { timeout: 60_000 }, async (t) => {
  const stranger = await startStranger('staging');
  t.after(() => stranger.remove());
  await stranger.ready();
});

/** Lets the minute pass for which an installation keeps its names after its last heartbeat. */
async function expireClaim() {
  const { shared } = cluster;
  if (shared.ask) {
    const left = Number((await shared.ask('PTTL {fanfare}:installation')).slice(1));
    assert.ok(left > 40_000 && left <= 60_000, `${left} ms`);
    await shared.ask('PEXPIRE {fanfare}:installation 1');
  } else {
    await sql(shared.url, 'UPDATE fanfare_cluster.installation SET until_ms = until_ms - 60000');
  }
}
