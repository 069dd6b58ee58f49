// Every node is replaced, one after the other, while people are there and events come.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startUsage } from './replacing-nodes.mjs';
import { startCluster } from './topology.mjs';

const DRAIN = 4;

let cluster;
before(async () => (cluster = await startCluster({ env: { FANFARE_DRAIN_PERIOD: String(DRAIN) } })));
after(() => cluster?.stop());

test('a rolling restart loses, doubles and swaps nothing for three hundred clients', { timeout: 110_000 }, async (t) => {
  const usage = await startUsage(cluster, { clients: 300, members: 45 });
  for (const node of cluster.nodes) {
    const started = performance.now();
    let took;
    const sentAway = await usage.during(async () => {
      const code = await node.stop((DRAIN + 12) * 1000);
      assert.equal(code, 0, `${node.name} ended with ${code}:\n${node.log.slice(-3000)}`);
      took = performance.now() - started;
    });
    t.diagnostic(`${node.name} stopped within ${Math.round(took)} ms and sent ${sentAway} clients away`);
    assert.ok(took < (DRAIN + 10) * 1000);
    await node.start();
    await node.ready();
    await usage.isAsBefore();
  }
  await usage.judge(t);
  t.diagnostic(`connections: ${JSON.stringify([...usage.balancer.open])}`);
  await cluster.judgeNotices(t);
});
