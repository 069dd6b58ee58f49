// Many clients in one process and a server that is away: how long after its return the last of them is back.
import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { after, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import WebSocket from 'ws';
import { startServer } from '../../../../crates/testkit/e2e/harness.mjs';
import { Fanfare } from '../../dist/es/index.js';
import { until } from '../support/wait.mjs';

const CLIENTS = 100;
// What docs/sdk.md promises for an outage of up to a minute.
const BACK_WITHIN = 3_000;

const server = await startServer();
after(() => server.stop());
const clients = Array.from({ length: CLIENTS }, () => {
  const client = new Fanfare(server.app.key, { url: server.url, WebSocket });
  client.on('error', () => {});
  return client;
});
after(() => clients.forEach((client) => client.disconnect()));
const channels = clients.map((client) => client.channel('news'));
await Promise.all(channels.map((channel) => channel.ready()));

for (const gap of [40, 2_000, 20_000]) {
  test(`after ${gap} ms without a server, ${CLIENTS} clients are back within ${BACK_WITHIN} ms`, async (t) => {
    // A busy machine runs timers late, which is not the client's doing.
    const lateness = monitorEventLoopDelay({ resolution: 10 });
    lateness.enable();
    const back = new Array(CLIENTS);
    const offs = channels.map((channel, n) => channel.on('subscribed', () => (back[n] = performance.now())));
    await server.end();
    await delay(gap);
    await server.start();
    const returned = performance.now();
    await until(() => !back.includes(undefined), 'all are subscribed again');
    offs.forEach((off) => off());
    const late = lateness.max / 1e6;
    lateness.disable();
    const times = back.map((at) => at - returned).sort((a, b) => a - b);
    const at = (share) => Math.round(times[Math.floor(share * (CLIENTS - 1))]);
    t.diagnostic(`back after ${at(0)} / ${at(0.5)} / ${at(1)} ms (first, half, last); timers up to ${Math.round(late)} ms late`);
    assert.ok(at(1) <= BACK_WITHIN + 2 * late, `the last one is back after ${at(1)} ms`);
    // Timers that are late come together.
    const spread = at(0.95) - at(0.05) + late;
    if (gap >= 2_000) assert.ok(spread > 500, `they come in one moment: ${at(0.05)} to ${at(0.95)} ms`);
    assert.deepEqual(new Set(clients.map(({ transport }) => transport)), new Set(['websocket']));
  });
}
