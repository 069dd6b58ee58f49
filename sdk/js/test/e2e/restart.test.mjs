// A node whose history is in Redis restarts. Who comes back to it has missed nothing.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, test } from 'node:test';
import PusherJs from 'pusher-js';
import WebSocket from 'ws';
import { startBrowser } from '../../../../crates/testkit/e2e/browser.mjs';
import { startCluster } from '../../../../crates/testkit/e2e/cluster/topology.mjs';
import { startHttp } from '../../../../crates/testkit/e2e/harness.mjs';
import { Fanfare } from '../../dist/es/index.js';
import FanfarePusher from '../../dist/es/pusher.js';
import { recover } from '../../dist/es/recover.js';
import { until } from '../support/wait.mjs';

const history = JSON.stringify([{ channels: '*', size: 100, ttl: 300 }]);
const cluster = await startCluster({ nodes: 1, settings: { history } });
after(() => cluster.stop());
const [node] = cluster.nodes;
const { key } = cluster.app;
const { default: PusherHttp } = await import('../../../../crates/testkit/e2e/node_modules/pusher/lib/pusher.js');
const sdk = new PusherHttp({
  appId: cluster.app.id,
  key,
  secret: cluster.app.secret,
  host: '127.0.0.1',
  port: node.port,
  useTLS: false,
});
const options = {
  cluster: 'x',
  wsHost: '127.0.0.1',
  wsPort: node.port,
  forceTLS: false,
  enabledTransports: ['ws'],
  WebSocket,
};

const ofPusher = (pusher) => ({
  bind: (name, listener) => pusher.subscribe(name).bind('e', listener),
  isSubscribed: (name) => pusher.channel(name).subscribed,
  end: () => pusher.disconnect(),
});
const libraries = {
  '@fanfare/client': () => {
    const client = new Fanfare(key, { url: `http://127.0.0.1:${node.port}`, WebSocket });
    client.on('error', () => {});
    return {
      bind: (name, listener) => client.channel(name).bind('e', listener),
      isSubscribed: (name) => client.channel(name).state === 'subscribed',
      end: () => client.disconnect(),
    };
  },
  '@fanfare/client over streaming': () => {
    const client = new Fanfare(key, { url: `http://127.0.0.1:${node.port}`, transports: ['streaming'] });
    client.on('error', () => {});
    return {
      bind: (name, listener) => client.channel(name).bind('e', listener),
      isSubscribed: (name) => client.channel(name).state === 'subscribed',
      end: () => client.disconnect(),
    };
  },
  '@fanfare/client/pusher': () => ofPusher(new FanfarePusher(key, options)),
  'pusher-js with recover()': () => ofPusher(recover(new PusherJs(key, options))),
};

for (const [library, make] of Object.entries(libraries)) {
  test(`${library}: what was sent on both sides of a restart arrives, once and in order`, async (t) => {
    const client = make();
    t.after(() => client.end());
    const name = `orders-${Object.keys(libraries).indexOf(library)}`;
    const seen = [];
    client.bind(name, (n) => seen.push(n));
    await until(() => client.isSubscribed(name));
    await sdk.trigger(name, 'e', 1);
    await until(() => seen.length === 1);
    // Two restarts, and nobody who waits for the client between them.
    for (const n of [2, 4]) {
      await restart();
      await sdk.trigger(name, 'e', n);
      await sdk.trigger(name, 'e', n + 1);
    }
    await until(() => seen.length >= 5, `5 events, got ${seen}`);
    assert.deepEqual(seen, [1, 2, 3, 4, 5]);
  });
}

test('a page: what was sent while it was offline and the server restarted arrives', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const script = await readFile(new URL('../../dist/fanfare.js', import.meta.url));
  const site = await startHttp((request, response) =>
    request.url === '/fanfare.js'
      ? response.writeHead(200, { 'content-type': 'text/javascript' }).end(script)
      : response
          .writeHead(200, { 'content-type': 'text/html' })
          .end('<!doctype html><script src="/fanfare.js"></script>'),
  );
  t.after(() => site.stop());
  const page = await browser.open(site.url);
  await page.evaluate(
    async ([appKey, url]) => {
      const client = new globalThis.Fanfare(appKey, { url });
      Object.assign(globalThis, { client, seen: [], gaps: [] });
      const channel = client.channel('orders-page');
      channel.bind('e', (n) => globalThis.seen.push(n));
      channel.on('gap', ({ reason }) => globalThis.gaps.push(reason));
      await channel.ready();
    },
    [key, `http://127.0.0.1:${node.port}`],
  );
  await sdk.trigger('orders-page', 'e', 1);
  await page.waitForFunction(() => globalThis.seen.length === 1);
  await page.context().setOffline(true);
  await restart();
  await sdk.trigger('orders-page', 'e', 2);
  await page.context().setOffline(false);
  await page.waitForFunction(() => globalThis.seen.length === 2, undefined, { timeout: 20_000 });
  assert.deepEqual(await page.evaluate(() => [globalThis.seen, globalThis.gaps]), [[1, 2], []]);
});

async function restart() {
  await node.stop();
  await node.start();
  await node.ready();
}
