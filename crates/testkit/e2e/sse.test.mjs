// Server-Sent Events: a browser's EventSource, curl, and requests as other clients send them.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startBrowser } from './browser.mjs';
import { Stream } from './event-stream.mjs';
import { eventually, freePort, next, record, seconds, startServer, subscribe } from './harness.mjs';
import { makeCertificate } from './proxy.mjs';
import { startSite } from './site.mjs';

const HISTORY = JSON.stringify([{ channels: '*kept-*', size: 100, ttl: 3600 }]);
const server = await startServer({ settings: { history: HISTORY } });
const sdk = server.sdk();
after(() => server.stop());
afterEach(() => server.disconnectClients());

const open = (path, options) => Stream.open(path, { port: server.port, ...options });
const at = (query, key = server.app.key) => `/sse/${key}?${query}`;

/** A URL that the app's backend has signed. */
function signed(query, { expires = seconds() + 60, path = `/sse/${server.app.key}` } = {}) {
  const text = `${query}&auth_expires=${expires}`;
  const signature = createHmac('sha256', server.app.secret).update(`GET\n${path}\n${text}`).digest('hex');
  return `${path}?${text}&auth_signature=${signature}`;
}

test('a page with an EventSource gets events by their names, in the order of other clients', async (t) => {
  const site = await startSite('http://127.0.0.1:9');
  t.after(() => site.stop());
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const page = await browser.open(site.url);
  await page.evaluate((url) => {
    globalThis.got = [];
    const source = new EventSource(url);
    source.addEventListener('created', ({ data, lastEventId }) => globalThis.got.push([JSON.parse(data).n, lastEventId]));
    return new Promise((resolve) => source.addEventListener('pusher:subscription_succeeded', resolve, { once: true }));
  }, server.url + at('channels=kept-orders'));
  const seen = record(await subscribe(server.client(), 'kept-orders'));
  for (const n of [1, 2, 3]) await sdk.trigger('kept-orders', 'created', { n });
  await page.waitForFunction(() => globalThis.got.length === 3);
  const got = await page.evaluate(() => globalThis.got);
  assert.deepEqual(got.map(([n]) => n), [1, 2, 3]);
  await eventually(() => assert.deepEqual(seen.map(([, { n }]) => n), [1, 2, 3]));
  got.forEach(([, id]) => assert.match(id, /^kept-orders \w+:\d+$/));
  browser.assertQuiet();
});

test('curl shows an event as soon as it is published', async (t) => {
  const curl = spawn('curl', ['-sNi', server.url + at('channels=news')]);
  t.after(() => curl.kill());
  let text = '';
  curl.stdout.setEncoding('utf8').on('data', (chunk) => (text += chunk));
  await eventually(() => assert.match(text, /subscription_succeeded/));
  await sdk.trigger('news', 'headline', { text: 'Zürich 🎉' });
  await eventually(() => assert.match(text, /\nevent: headline\ndata: {"text":"Zürich 🎉"}\n\n/));
  assert.match(text, /^HTTP\/1\.1 200 OK\r\ncontent-type: text\/event-stream; charset=utf-8\r\n/);
  assert.match(text, /\nevent: pusher:connection_established\nretry: [23]\d{3}\ndata: {/);
});

test('data of several lines and the whole message arrive as they were published', async (t) => {
  const [plain, whole] = [await open(at('channels=lines')), await open(at('channels=lines&enveloped=true'))];
  t.after(() => [plain, whole].forEach((stream) => stream.close()));
  await Promise.all([plain, whole].map((stream) => stream.subscribed()));
  const { status } = await server.signed('POST', '/events', { body: JSON.stringify({ name: 'e', channel: 'lines', data: 'one\ntwo' }) });
  assert.equal(status, 200);
  await plain.has(1);
  const [event] = await whole.has(1);
  assert.deepEqual(JSON.parse(event.data), { channel: 'lines', event: 'e', data: 'one\ntwo' });
  assert.equal(event.event, undefined);
});

test('a signed URL opens private and presence channels, and shows its member to others', async (t) => {
  const members = await subscribe(server.client({ user: { user_id: 'bob' } }), 'presence-room');
  const joined = next(members, 'pusher:member_added');
  const member = encodeURIComponent(JSON.stringify({ user_id: 'ada', user_info: { name: 'Ada' } }));
  const stream = await open(signed(`channels=private-a,presence-room&channel_data=${member}`));
  t.after(() => stream.close());
  await stream.subscribed(2);
  assert.deepEqual(await joined, { id: 'ada', info: { name: 'Ada' } });
  await sdk.trigger('private-a', 'e', 1);
  assert.equal((await stream.has(1))[0].data, '1');
  const left = next(members, 'pusher:member_removed');
  stream.close();
  assert.equal((await left).id, 'ada');
});

test('what a client may not have is refused for good, with the reason', async () => {
  const refused = async (path) => {
    const { request, response } = await open(path);
    let text = '';
    response.on('data', (chunk) => (text += chunk));
    await once(response, 'end');
    request.destroy();
    return `${response.statusCode} ${text}`;
  };
  assert.match(await refused(at('channels=private-a')), /^403 private-a isn't public: send a token/);
  assert.match(await refused(signed('channels=private-a', { expires: seconds() - 1 })), /^403 The URL has expired/);
  assert.match(await refused(signed('channels=private-a').replace('private-a', 'private-b')), /^403 Invalid signature: sign "GET/);
  assert.match(await refused(signed('channels=presence-a')), /^400 Missing parameter: channel_data/);
  assert.match(await refused(signed('channels=private-encrypted-a')), /^400 .* is encrypted/);
  assert.match(await refused(at('')), /^400 Missing parameter: channels/);
  assert.match(await refused(at('raw=a')), /^400 raw is for WebSockets at \/ws\/KEY: name the channels/);
  assert.match(await refused(at('channels=a&rewind=all')), /^400 rewind must be a number/);
  assert.match(await refused(at('channels=a', 'nokey')), /^404 Could not find an app with key/);
  assert.match(await refused(at('channels=a&token=x')), /^403 This app takes no tokens/);
});

test('a backend gets the events of its app with a signed request', async (t) => {
  const path = `/apps/${server.app.id}/events/stream`;
  const query = `auth_key=${server.app.key}&auth_timestamp=${seconds()}&auth_version=1.0&channels=private-a`;
  const signature = createHmac('sha256', server.app.secret).update(`GET\n${path}\n${query}`).digest('hex');
  const stream = await open(`${path}?${query}&auth_signature=${signature}`);
  t.after(() => stream.close());
  await stream.subscribed();
  await sdk.trigger('private-a', 'e', { to: 'a backend' });
  assert.equal((await stream.has(1))[0].data, '{"to":"a backend"}');
  const wrong = await open(`${path}?${query}&auth_signature=${'0'.repeat(64)}`);
  assert.equal(wrong.response.statusCode, 401);
});

test('a client that returns gets what it missed of all its channels, once and in order', async (t) => {
  const path = at('channels=kept-a,kept-b,plain');
  const first = await (await open(path)).subscribed(3);
  await sdk.trigger('kept-b', 'e', 0);
  await first.has(1);
  const { lastId } = first;
  assert.match(lastId, /^kept-a \w+:0 kept-b \w+:\d+$/);
  first.close();
  for (const n of [1, 2, 3, 4]) await sdk.trigger(n % 2 ? 'kept-a' : 'kept-b', 'e', n);
  for (const headers of [{ 'last-event-id': lastId }, undefined]) {
    const again = headers ? path : `${path}&last_event_id=${encodeURIComponent(lastId)}`;
    const stream = await (await open(again, { headers })).subscribed(3);
    t.after(() => stream.close());
    await sdk.trigger('kept-a', 'live', 5);
    const got = (await stream.has(5 + (headers ? 0 : 1))).map(({ data }) => Number(data));
    assert.deepEqual(got.slice(0, 5), [1, 3, ...(headers ? [2, 4, 5] : [5, 2, 4])]);
    const recovered = stream.of('pusher:subscription_succeeded').map(({ data }) => JSON.parse(data).data.recovered);
    assert.deepEqual(recovered, [true, true, undefined]);
  }
});

test('a client whose position is gone is told so', async (t) => {
  const stream = await open(at('channels=kept-a'), { headers: { 'last-event-id': 'kept-a gone:1' } });
  t.after(() => stream.close());
  await stream.subscribed();
  const { data } = JSON.parse(stream.of('pusher:subscription_succeeded')[0].data);
  assert.deepEqual([data.recovered, data.reason], [false, 'expired']);
});

test('a new client may begin with the last events', async (t) => {
  for (const n of [1, 2, 3]) await sdk.trigger('kept-rewind', 'e', n);
  const stream = await open(at('channels=kept-rewind&rewind=2'));
  t.after(() => stream.close());
  assert.deepEqual((await stream.has(2)).map(({ data }) => data), ['2', '3']);
});

test('an idle stream gets comments, whichever way it is served', async (t) => {
  const node = await startServer({ env: { FANFARE_WEBSOCKET_PING_INTERVAL: '1' } });
  t.after(() => node.stop());
  const { port } = node;
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  await new Promise((resolve) => http.get({ host: '127.0.0.1', port, path: '/healthz', agent }, (response) => response.resume().on('end', resolve)));
  const streams = [await open(at('channels=news'), { port }), await open(at('channels=news'), { port, agent })];
  t.after(() => streams.forEach((stream) => stream.close()));
  // The second one has come on a connection that was used before.
  assert.deepEqual(streams.map(({ response }) => response.headers.connection), ['close', undefined]);
  await Promise.all(streams.map((stream) => stream.subscribed()));
  await eventually(() => assert.ok(streams.every((stream) => stream.comment)));
  await node.sdk().trigger('news', 'e', 1);
  for (const stream of streams) assert.equal((await stream.has(1))[0].data, '1');
});

test('a stream over TLS gets events with HTTP/1.1 and with HTTP/2, and is ended in words', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-sse-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await makeCertificate(folder);
  const port = await freePort();
  const node = await startServer({
    settings: { history: HISTORY },
    env: {
      FANFARE_TLS_CERTIFICATE: join(folder, 'fullchain.pem'),
      FANFARE_TLS_KEY: join(folder, 'privkey.pem'),
      FANFARE_TLS_LISTEN: `127.0.0.1:${port}`,
    },
  });
  t.after(() => node.stop());
  const request = https.get({ host: '127.0.0.1', port, path: at('channels=kept-b', node.app.key), rejectUnauthorized: false });
  const [response] = await once(request, 'response');
  const first = await new Stream(request, response).subscribed();
  const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  session.on('error', () => {});
  t.after(() => session.destroy());
  const stream = session.request({ ':path': at('channels=kept-a,kept-b', node.app.key) });
  let text = '';
  stream.setEncoding('utf8').on('data', (chunk) => (text += chunk));
  await eventually(() => assert.equal(text.match(/subscription_succeeded"/g)?.length, 2, text));
  await node.sdk().trigger('kept-b', 'e', { over: 'h2' });
  await eventually(() => assert.match(text, /event: e\ndata: {"over":"h2"}\nid: kept-a \w+:0 kept-b \w+:1\n\n/));
  assert.equal((await first.has(1))[0].data, '{"over":"h2"}');
  const ended = once(stream, 'end');
  await node.end();
  await ended;
  assert.equal(await first.ended, 'whole');
  assert.match(text, /event: pusher:error\nretry: 1000\ndata: .*"code":4200/);
  await node.start();
});

test('an EventSource goes on over restarts of the server without a gap', async (t) => {
  const node = await startServer({ held: true, settings: { history: HISTORY }, env: { FANFARE_DRAIN_PERIOD: '1' } });
  t.after(() => node.stop());
  const site = await startSite('http://127.0.0.1:9');
  t.after(() => site.stop());
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const page = await browser.open(site.url);
  await page.evaluate((url) => {
    globalThis.got = [];
    globalThis.told = [];
    const source = new EventSource(url);
    source.addEventListener('tick', ({ data }) => globalThis.got.push(Number(data)));
    source.addEventListener('pusher:subscription_succeeded', ({ data }) => globalThis.told.push(JSON.parse(data).data.recovered));
    return new Promise((resolve) => source.addEventListener('pusher:subscription_succeeded', resolve, { once: true }));
  }, node.url + at('channels=kept-ticks', node.app.key));
  await node.sdk().trigger('kept-ticks', 'tick', 1);
  await page.waitForFunction(() => globalThis.got.length === 1);
  // A single node keeps histories in its memory, so a client that was there before is told that they are gone.
  assert.equal((await node.end()).code, 0);
  await node.start();
  await page.waitForFunction(() => globalThis.told.length === 2);
  assert.deepEqual(await page.evaluate(() => globalThis.told), [undefined, false]);
  await node.sdk().trigger('kept-ticks', 'tick', 2);
  await page.waitForFunction(() => globalThis.got.length === 2);
  assert.deepEqual(await page.evaluate(() => globalThis.got), [1, 2]);
});

test('a stream that is not read is dropped, and others get every event', async (t) => {
  const node = await startServer({ env: { FANFARE_OUTBOX_MAX_BYTES: '65536' } });
  t.after(() => node.stop());
  const stuck = connect({ port: node.port, host: '127.0.0.1' });
  t.after(() => stuck.destroy());
  stuck.on('error', () => {});
  stuck.write(`GET ${at('channels=big', node.app.key)} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await once(stuck, 'data');
  stuck.pause();
  const reads = await (await open(at('channels=big', node.app.key), { port: node.port })).subscribed();
  t.after(() => reads.close());
  const ended = reads.ended.then(() => assert.fail('the stream that is read has ended'));
  ended.catch(() => {});
  const data = 'x'.repeat(9_000);
  let sent = 0;
  while (!/disconnecting a slow consumer/.test(node.log) && sent < 2_000) {
    // Less than the outbox holds, and the one that reads has it before there is more.
    await Promise.all(Array.from({ length: 5 }, () => node.sdk().trigger('big', 'e', data)));
    sent += 5;
    while (reads.published.length < sent) await Promise.race([delay(1), ended]);
  }
  assert.match(node.log, /disconnecting a slow consumer/);
  await reads.has(sent);
});

test('requests that are no requests for a stream harm nobody', async (t) => {
  const stream = await (await open(at('channels=news'))).subscribed();
  t.after(() => stream.close());
  const random = (length) => String.fromCharCode(...Array.from({ length }, () => Math.floor(Math.random() * 256)));
  const end = Date.now() + 3_000;
  while (Date.now() < end) {
    const heads = Array.from({ length: 20 }, () => {
      const query = Math.random() < 0.5 ? `channels=${encodeURIComponent(random(20))}` : random(30).replace(/[\s\0]/g, '');
      const id = Math.random() < 0.5 ? random(40).replace(/[\r\n\0]/g, '') : 'kept-a x:1 '.repeat(100);
      return `GET /sse/${Math.random() < 0.8 ? server.app.key : random(10).replace(/\s/g, '')}?${query} HTTP/1.1\r\nHost: x\r\nLast-Event-ID: ${id}\r\n\r\n${Math.random() < 0.3 ? random(100) : ''}`;
    });
    await Promise.all(
      heads.map(async (head) => {
        const socket = connect({ port: server.port, host: '127.0.0.1' });
        socket.on('error', () => {});
        socket.write(head, 'latin1');
        await Promise.race([once(socket, 'data').catch(() => {}), once(socket, 'close')]);
        socket.destroy();
      }),
    );
  }
  await sdk.trigger('news', 'still', 'there');
  await eventually(() => assert.equal(stream.of('still').length, 1));
});
