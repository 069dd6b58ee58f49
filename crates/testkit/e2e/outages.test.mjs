// Pages without a library whose network goes and comes back while events are published: an EventSource that a browser brings back,
// and a WebSocket that the page opens again, as docs/any-client.md has it.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startBrowser } from './browser.mjs';
import { startCable } from './cluster/cable.mjs';
import { eventually, startServer } from './harness.mjs';
import { startSite } from './site.mjs';

const CHANNELS = ['kept-one', 'kept-two'];
const HISTORY = JSON.stringify([{ channels: 'kept-*', size: 100, ttl: 3600 }]);
/** Time between two events, in milliseconds. */
const PAUSE = 500;
/** How long the network is away each time. */
const AWAY = 5_000;
/** For how long events are published, and at which times the network goes, and how. */
const LASTS = 60_000;
const CUTS = [
  { at: 10_000, cut: (cable) => cable.breakOff() },
  // Neither end is told, and what the server sends meanwhile is lost.
  { at: 30_000, cut: (cable) => cable.goSilent(), heal: (cable) => cable.reset() },
];

const server = await startServer({ settings: { history: HISTORY } });
after(() => server.stop());

test('an EventSource and a plain WebSocket whose network goes twice for five seconds get every event once and in order', async (t) => {
  const cable = await startCable(server.port);
  t.after(() => cable.stop());
  const site = await startSite('http://127.0.0.1:9');
  t.after(() => site.stop());
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const page = await browser.open(site.url);
  const at = `127.0.0.1:${cable.port}`;
  const names = CHANNELS.join(',');
  await page.evaluate(listenByEventSource, `http://${at}/sse/${server.app.key}?channels=${names}`);
  await page.evaluate(listenByWebSocket, [`ws://${at}/ws/${server.app.key}`, CHANNELS]);

  const cuts = CUTS.map(async ({ at, cut, heal }) => {
    await delay(at);
    await cut(cable);
    await delay(AWAY);
    heal?.(cable);
    await cable.heal();
  });
  const sent = [];
  for (const end = Date.now() + LASTS; Date.now() < end; await delay(PAUSE)) {
    const channel = CHANNELS[sent.length % CHANNELS.length];
    sent.push(`${channel} ${sent.length}`);
    await server.sdk().trigger(channel, 'tick', sent.at(-1));
  }
  await Promise.all(cuts);

  await eventually(async () => {
    for (const kind of ['source', 'socket']) {
      const { got, recovered } = await page.evaluate((kind) => globalThis[kind], kind);
      for (const channel of CHANNELS) {
        const of = (all) => all.filter((text) => text.startsWith(`${channel} `));
        assert.deepEqual(of(got), of(sent), kind);
      }
      // Each return is told that nothing is missing.
      assert.deepEqual(recovered, Array(CUTS.length * CHANNELS.length).fill(true), kind);
    }
  }, 10_000);
  browser.assertQuiet({ expected: /net::ERR_/ });
});

/** Runs in the page. */
function listenByEventSource(url) {
  const [got, recovered] = [[], []];
  globalThis.source = { got, recovered };
  const source = new EventSource(url);
  source.addEventListener('tick', ({ data }) => got.push(data));
  return new Promise((resolve) => {
    let subscribed = 0;
    source.addEventListener('pusher:subscription_succeeded', ({ data }) => {
      subscribed += 1;
      if (subscribed === 2) resolve();
      if (subscribed > 2) recovered.push(JSON.parse(data).data.recovered);
    });
  });
}

/** Runs in the page. It hands back the position that it has reached of each channel. */
function listenByWebSocket([url, channels]) {
  const [got, recovered, positions] = [[], [], {}];
  globalThis.socket = { got, recovered };
  return new Promise((resolve) => {
    const connect = () => {
      const socket = new WebSocket(url);
      socket.onopen = () => {
        for (const channel of channels) {
          const recover = positions[channel] ? { position: positions[channel] } : true;
          socket.send(JSON.stringify({ type: 'subscribe', channel, recover }));
        }
      };
      socket.onmessage = ({ data: text }) => {
        const { event, channel, data, position } = JSON.parse(text);
        if (event === 'tick') got.push(data);
        if (event === 'pusher:subscription_succeeded') {
          if (positions[channel]) recovered.push(data.recovered);
          else positions[channel] = data.position;
          if (channels.every((name) => positions[name])) resolve();
        }
        if (position) positions[channel] = position;
      };
      socket.onclose = () => setTimeout(connect, 1000 + Math.random() * 1000);
    };
    connect();
  });
}
