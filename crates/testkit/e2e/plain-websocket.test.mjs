// Clients without any library: a chat page of ten lines, plain objects, and pusher-js beside them, on one channel.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startBrowser } from './browser.mjs';
import { frame } from './frames.mjs';
import { next, record, startHttp, startServer } from './harness.mjs';
import { PlainClient, upgrade } from './plain-client.mjs';

/** How long strangers send nonsense. */
const LASTS = 3000;

let server;
before(async () => {
  server = await startServer({ settings: { client_event_channels: 'chat-*' } });
});
after(() => server.stop());

const path = (query) => `/ws/${server.app.key}${query}`;

const open = (query) => new PlainClient(server.port, path(query));

const CHAT_PAGE = (url) => `<!doctype html><title>Chat</title><link rel="icon" href="data:,">
<input id="text"><ul id="chat"></ul>
<script>
  const socket = new WebSocket('${url}');
  const show = (text) => chat.appendChild(document.createElement('li')).append(text);
  socket.onmessage = ({ data }) => show(data);
  socket.onclose = ({ code, reason }) => show('closed: ' + code + ' ' + reason);
  text.onchange = () => { socket.send(text.value); show(text.value); text.value = ''; };
</script>`;

test('two tabs of a chat page, a plain client, pusher-js and a backend see one order', async (t) => {
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const site = await startHttp((_, response) => {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(CHAT_PAGE(`ws://127.0.0.1:${server.port}${path('?raw=chat-1')}`));
  });
  t.after(() => site.stop());
  const plain = open('?channels=chat-1');
  await plain.got(({ event }) => event === 'pusher:subscription_succeeded');
  const pusher = server.client();
  const channel = pusher.subscribe('chat-1');
  const seenByPusher = record(channel);
  await next(channel, 'pusher:subscription_succeeded');

  const tabs = [await browser.open(site.url), await browser.open(site.url)];
  // A raw client can't say when it is subscribed: it sees what a backend publishes from then on.
  for (const tab of tabs) {
    for (;;) {
      await server.sdk().trigger('chat-1', 'ready', 'ready');
      await delay(50);
      if ((await tab.locator('#chat li').count()) > 0) break;
    }
  }
  const lines = async (tab) => (await tab.locator('#chat li').allTextContents()).filter((line) => line !== 'ready');
  const say = async (tab, text) => {
    await tab.locator('#text').fill(text);
    await tab.locator('#text').press('Enter');
  };
  const arrives = (text) => Promise.all(tabs.map((tab) => tab.locator('#chat li', { hasText: text }).waitFor()));
  await say(tabs[0], 'Grüezi 🎉 <b>you</b>');
  await arrives('Grüezi');
  await say(tabs[1], '{"json": true}');
  await arrives('json');
  plain.send({ type: 'event', channel: 'chat-1', event: 'client-message', data: 'from an object', ref: 1 });
  await arrives('from an object');
  channel.trigger('client-message', { from: 'pusher-js' });
  await arrives('pusher-js');
  await server.sdk().trigger('chat-1', 'news', 'from the backend');
  await arrives('from the backend');

  const said = ['Grüezi 🎉 <b>you</b>', '{"json": true}', 'from an object', '{"from":"pusher-js"}', 'from the backend'];
  for (const tab of tabs) assert.deepEqual(await lines(tab), said);
  await plain.got(({ data }) => data === 'from the backend');
  const ofPlain = plain.events().filter(({ event }) => event !== 'ready');
  assert.deepEqual(
    ofPlain.map(({ data }) => data),
    [said[0], { json: true }, { from: 'pusher-js' }, said[4]],
  );
  assert.deepEqual(await plain.got(({ event }) => event === 'pusher:ack'), { event: 'pusher:ack', data: {}, ref: 1 });
  const ofPusher = seenByPusher.filter(([event]) => event !== 'ready').map(([, data]) => data);
  assert.deepEqual(ofPusher, [said[0], { json: true }, 'from an object', said[4]]);
  plain.close();
  browser.assertQuiet();
});

test('a refusal says why: by a close code, and to objects by an error with the ref', async () => {
  const plain = open('');
  await plain.got(({ event }) => event === 'pusher:connection_established');
  plain.send({ type: 'subscribe', channel: 'private-a', ref: 'x' });
  const error = await plain.got(({ event }) => event === 'pusher:error');
  assert.equal(error.ref, 'x');
  assert.match(error.data.message, /Auth info required/);
  plain.close();
  for (const [query, expected, reason] of [
    ['?raw=private-a', 4009, /isn't public/],
    ['?raw=a&channels=b', 1008, /exclude each other/],
  ]) {
    const { code, reason: told } = await open(query).closed;
    assert.equal(code, expected);
    assert.match(told, reason);
  }
});

test('nonsense harms nobody else', async () => {
  const [listener, talker] = [open('?channels=chat-2'), open('?channels=chat-2')];
  for (const client of [listener, talker]) await client.got(({ event }) => event === 'pusher:subscription_succeeded');
  const until = Date.now() + LASTS;
  const strangers = Array.from({ length: 8 }, (_, number) => nonsense(until, number % 2 === 0 ? '?channels=chat-3' : '?raw=chat-3'));
  let count = 0;
  while (Date.now() < until) {
    count += 1;
    talker.send({ type: 'event', channel: 'chat-2', event: 'client-n', data: count, ref: count });
    await talker.got(({ ref }) => ref === count);
    await listener.got(({ data }) => data === count);
    await delay(150);
  }
  await Promise.all(strangers);
  assert.deepEqual(
    listener.events().map(({ data }) => data),
    Array.from({ length: count }, (_, index) => index + 1),
  );
  for (const client of [listener, talker]) client.close();
});

/** Text frames of broken objects, and now and then a frame of broken bytes, on one connection after the other. */
async function nonsense(until, query) {
  const whole = '{"type":"subscribe","channel":"chat-3","auth":"k:s","recover":{"position":"e:1"},"rewind":5,"ref":"r"}';
  for (let turn = 0; Date.now() < until; turn += 1) {
    const socket = connect(server.port, '127.0.0.1').on('error', () => {});
    socket.resume();
    await once(socket, 'connect');
    socket.write(upgrade(path(query)));
    for (let number = 0; number < 50 && !socket.destroyed && Date.now() < until; number += 1) {
      const bytes = Buffer.from(whole);
      for (let flips = 0; flips < 1 + (number % 4); flips += 1) {
        const [at, value] = randomBytes(2);
        bytes[at % bytes.length] = value % 128;
      }
      socket.write(frame(0x81, bytes.toString('latin1')));
      if (number % 10 === 9) await delay(5);
    }
    if (turn % 3 === 0 && !socket.destroyed) socket.write(randomBytes(64));
    await delay(20);
    socket.destroy();
  }
}
