// Every node becomes the program that is installed now, one after the other, with its port open, while clients are there and events
// come.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startUsage } from './replacing-nodes.mjs';
import { startCluster } from './topology.mjs';
import { until } from './until.mjs';

const DRAIN = 3;
const STARTED = /listening: clients and backends are served/g;

let cluster;
before(async () => (cluster = await startCluster({ env: { FANFARE_DRAIN_PERIOD: String(DRAIN) } })));
after(() => cluster?.stop());

test('an upgrade of every node loses, doubles and swaps nothing, and no publish finds a closed port', { timeout: 110_000 }, async (t) => {
  const usage = await startUsage(cluster, { clients: 120, members: 30 });
  for (const node of cluster.nodes) {
    const [pid, starts, started] = [node.pid, node.log.match(STARTED).length, performance.now()];
    const sentAway = await usage.during(async () => {
      await cluster.command('upgrade', '--pid', String(pid));
      const isNew = () => node.log.match(STARTED).length > starts;
      await until(`${node.name} is the new program`, isNew, { within: (DRAIN + 20) * 1000, explain: () => node.log.slice(-3000) });
      await node.ready();
    });
    assert.equal(node.pid, pid);
    t.diagnostic(`${node.name} became the new program within ${Math.round(performance.now() - started)} ms and sent ${sentAway} clients away`);
    await usage.isAsBefore();
  }
  await usage.judge(t);
  // A node that isn't connected to the others yet may say so; none may be out of reach.
  const unreached = cluster.history.published('refused').filter(({ status }) => status === 0);
  assert.deepEqual(unreached, []);
  await cluster.judgeNotices(t);
});
