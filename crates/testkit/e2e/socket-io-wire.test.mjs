// Engine.IO and Socket.IO by hand: heartbeats, slow readers, and what no client of good will sends. Others must notice nothing.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { eventually, inTime, next, startServer, subscribe } from './harness.mjs';
import { frame } from './frames.mjs';
import { Polling, RawSocket, ask, join, recordSocket, request, socketClient, socketConnected } from './socket-io.mjs';

const PING_INTERVAL = 25_000;
const PING_TIMEOUT = 20_000;
/** By when a client that says nothing is gone, with time for a machine that is busy. */
const GONE = PING_INTERVAL + PING_TIMEOUT + 10_000;
/** How long strangers send nonsense. */
const LASTS = 3_000;

const server = await startServer({
  settings: { client_event_channels: 'lobby', 'socket_io.broadcast': 'lobby' },
  env: { FANFARE_SOCKET_IO_DEFAULT_APP_KEY: 'e2e-key' },
});
const sdk = server.sdk();
after(() => server.stop());

/** A client of good will, who must get every event while something happens, and stay connected. */
async function unharmed(t, happens, node = server) {
  const socket = await socketConnected(socketClient(t, node, { transports: ['websocket'] }));
  let disconnects = 0;
  socket.on('disconnect', () => (disconnects += 1));
  await join(socket, 'calm');
  const seen = recordSocket(socket);
  const result = await happens();
  await node.sdk().trigger('calm', 'e', 'last');
  await eventually(() => assert.equal(seen.at(-1)?.[1], 'last'));
  assert.equal(disconnects, 0);
  return result;
}

async function pollingClient(node = server) {
  const session = await Polling.open(node);
  await session.post(`40/${node.app.key},`);
  const packets = await session.packets();
  assert.match(packets[0], new RegExp(`^40/${node.app.key},\\{"sid":`));
  return session;
}

test('a handshake says what the client must know, and nobody keeps the answer', async (t) => {
  const { handshake } = await Polling.open(server);
  assert.deepEqual(Object.keys(handshake).toSorted(), ['maxPayload', 'pingInterval', 'pingTimeout', 'sid', 'upgrades']);
  assert.deepEqual([handshake.pingInterval, handshake.pingTimeout, handshake.upgrades], [PING_INTERVAL, PING_TIMEOUT, ['websocket']]);
  assert.ok(handshake.maxPayload <= 1_000_000);
  const raw = new RawSocket(t, server);
  const { upgrades } = JSON.parse((await raw.got((packet) => packet[0] === '0')).slice(1));
  assert.deepEqual(upgrades, []);
  const { headers } = await request(server, '&transport=polling', { headers: { origin: 'https://shop.example.com' } });
  assert.match(headers.get('content-type'), /^text\/plain; charset=utf-8$/i);
  assert.match(headers.get('cache-control'), /\bno-store\b/);
  assert.match(headers.get('access-control-allow-origin'), /^(\*|https:\/\/shop\.example\.com)$/);
});

test('requests that Engine.IO does not know are answered with its errors', async (t) => {
  await unharmed(t, async () => {
    const answers = async (query, options) => {
      const { status, text } = await request(server, query, options);
      return [status, JSON.parse(text)];
    };
    const unknownTransport = [400, { code: 0, message: 'Transport unknown' }];
    const unknownSession = [400, { code: 1, message: 'Session ID unknown' }];
    const badMethod = [400, { code: 2, message: 'Bad handshake method' }];
    const badRequest = [400, { code: 3, message: 'Bad request' }];
    const badVersion = [400, { code: 5, message: 'Unsupported protocol version' }];
    assert.deepEqual(await answers(''), unknownTransport);
    for (const transport of ['abc', 'webtransport', '__proto__', '']) assert.deepEqual(await answers(`&transport=${transport}`), unknownTransport);
    for (const sid of ['abc', '1.1', 'x'.repeat(5_000), '%00']) assert.deepEqual(await answers(`&transport=polling&sid=${sid}`), unknownSession);
    assert.deepEqual(await answers('&transport=polling&sid=abc', { method: 'POST', body: '40' }), unknownSession);
    for (const method of ['POST', 'PUT', 'DELETE']) assert.deepEqual(await answers('&transport=polling', { method }), badMethod);
    for (const path of ['/socket.io/?x', '/socket.io/?EIO=3', '/socket.io/?EIO=abc', '/socket.io/?EIO=']) {
      assert.deepEqual(await answers('&transport=polling', { path }), badVersion);
    }
    const raw = await RawSocket.connected(t, server);
    const { sid } = JSON.parse(raw.seen[0].slice(1));
    assert.deepEqual(await answers(`&transport=polling&sid=${sid}`), badRequest);
    // WebSockets are answered before they are any.
    for (const query of ['&transport=websocket&sid=abc', '&transport=abc', '']) {
      const refused = new RawSocket(t, server, { query });
      await eventually(() => assert.match(refused.head ?? '', /^HTTP\/1\.1 400 /, query));
    }
    raw.emit('chat message', 'unharmed');
    await raw.got((packet) => packet.includes('unharmed'));
  });
});

test('a second poll beside the first ends the session', async (t) => {
  await unharmed(t, async () => {
    const session = await Polling.open(server);
    const first = session.poll();
    // The first has to arrive before the second.
    await delay(200);
    const second = await session.poll();
    assert.ok([400, 500].includes(second.status), String(second.status));
    const { status, text } = await first;
    assert.deepEqual([status, text], [200, '1']);
    assert.equal((await session.poll()).status, 400);
  });
});

test('a client that says it closes is gone at once', async (t) => {
  const session = await Polling.open(server);
  const poll = session.poll();
  assert.deepEqual((await session.post('1')).text, 'ok');
  assert.deepEqual([(await poll).status, (await poll).text], [200, '6']);
  assert.equal((await session.poll()).status, 400);
  const raw = await RawSocket.connected(t, server);
  raw.send('1');
  await raw.closed();
});

test('a close frame is answered, and a frame against the rules of WebSockets is closed with its code', async (t) => {
  const close = (code) => Buffer.from([code >> 8, code & 255]);
  for (const [sent, code] of [
    [frame(0x88, close(1000)), 1000],
    [frame(0x88, close(4321)), 4321],
    [frame(0x83, Buffer.from('reserved')), 1002],
    [frame(0x81, Buffer.from([0xff])), 1007],
  ]) {
    const raw = await RawSocket.connected(t, server);
    raw.socket.write(sent);
    await raw.closed();
    assert.equal(raw.code, code);
  }
});

test('a body that is too large is answered with 413', async (t) => {
  await unharmed(t, async () => {
    const session = await pollingClient();
    const { maxPayload } = session.handshake;
    const { status } = await session.post('4'.padEnd(maxPayload + 1, 'x')).catch(() => ({ status: 413 }));
    assert.equal(status, 413);
    const raw = await RawSocket.connected(t, server);
    raw.send('4'.padEnd(maxPayload + 1, 'x'));
    await raw.closed();
  });
});

test('bodies that are no packets end the session', async (t) => {
  await unharmed(t, async () => {
    for (const body of ['abc', '', '\x1e', '9', '4\x1eabc', 'b', 'bx', '0{}', `40/${server.app.key},\x1eabc`]) {
      const session = await pollingClient();
      const polled = session.poll();
      const { status } = await session.post(body);
      assert.ok([200, 400].includes(status), `${JSON.stringify(body)}: ${status}`);
      // What waits there is answered, at the latest with the end of the session.
      await polled;
      await inTime(`the session ends after ${JSON.stringify(body)}`, 5_000, session.lastWords());
    }
  });
});

test('packets that are none of Socket.IO end their connection', async (t) => {
  await unharmed(t, async () => {
    const ns = `/${server.app.key},`;
    const packets = [
      'abc',
      '4',
      '4abc',
      '49',
      `42${ns}`,
      `42${ns}{}`,
      `42${ns}[]`,
      `42${ns}[`,
      `42${ns}[{}]`,
      `42${ns}1x["e"]`,
      `42x["e"]`,
      `42${ns}["connect"]`,
      `42${ns}["disconnect"]`,
      `42${ns}abc["e"]`,
      `43${ns}1{}`,
      `40${ns}[`,
      `40${ns}"text"`,
      `44${ns}{"message":"x"}`,
      `45-["e"]`,
      `45${ns}["e",{"_placeholder":true,"num":0}]`,
      `42/other,["e"]`,
      '42["e"]',
      '4\x1e4',
    ];
    for (const packet of packets) {
      const raw = await RawSocket.connected(t, server);
      raw.send(packet);
      await raw.closed(`the server closes the connection after ${packet}`);
    }
  });
});

test('packets that mean nothing here are ignored', async (t) => {
  const raw = await RawSocket.connected(t, server);
  // An ack that nobody waits for, a heartbeat that nobody asked for, and noop.
  for (const packet of [`43${raw.namespace}7[1]`, '3', '6']) raw.send(packet);
  raw.emit('chat message', 'still there');
  await raw.got((packet) => packet.includes('still there'));
});

test('packets as the protocol has them are answered as the reference does', async (t) => {
  const raw = await RawSocket.connected(t, server);
  const { namespace: ns } = raw;
  raw.send(`42${ns}12["join","public"]`);
  assert.equal(await raw.got((packet) => packet.startsWith(`43${ns}`)), `43${ns}12[{"ok":true}]`);
  raw.send(`41${ns}`);
  raw.send(`40${ns}`);
  await eventually(() => assert.equal(raw.seen.filter((packet) => packet.startsWith(`40${ns}`)).length, 2));
  raw.send('40/nokey');
  const refused = await raw.got((packet) => packet.startsWith('44'));
  assert.match(refused, /^44\/nokey,\{"message":".*nokey.*","data":\{"code":4001\}\}$/);
});

test('an upgrade is answered step by step, and the session cannot be taken by another', async (t) => {
  const session = await pollingClient();
  const upgrade = new RawSocket(t, server, { query: `&transport=websocket&sid=${session.sid}` });
  upgrade.send('2probe');
  await upgrade.got((packet) => packet === '3probe');
  // The end of the poll, after what was sent before.
  for (let text; text !== '6'; ) ({ text } = await session.poll());
  upgrade.send('5');
  upgrade.send(`42/${server.app.key},1["join","upgraded"]`);
  await upgrade.got((packet) => packet === `43/${server.app.key},1[{"ok":true}]`);
  assert.equal((await session.poll()).status, 400);
  const another = new RawSocket(t, server, { query: `&transport=websocket&sid=${session.sid}` });
  await eventually(() => assert.match(another.head ?? '', /^HTTP\/1\.1 400 /));
  await sdk.trigger('upgraded', 'e', 1);
  await upgrade.got((packet) => packet.startsWith(`42/${server.app.key},["e",1`));
});

test('polls of a browser leave it connections for its other tabs', async () => {
  const browser = { 'user-agent': 'Mozilla/5.0 (X11)' };
  const tabs = await Promise.all(Array.from({ length: 6 }, () => pollingClient()));
  // Each is told of the channel that all join.
  await Promise.all(tabs.map((tab) => tab.packets()));
  const answers = [];
  const polls = tabs.map(async (tab, number) => answers.push([number, (await tab.poll(browser)).text]));
  // Four of them hang until there is something for them.
  await eventually(() => assert.equal(answers.length, 2));
  assert.deepEqual(answers.map(([, text]) => text), ['6', '6']);
  await Promise.all(tabs.map((tab) => tab.post(`42/${server.app.key},1["join","tabs"]`)));
  await Promise.all(polls);
  const joined = `43/${server.app.key},1[{"ok":true}]`;
  assert.equal(answers.filter(([, text]) => text.includes(joined)).length, 4);
});

test('a probe that is given up leaves the client on polling', async (t) => {
  const session = await pollingClient();
  const probe = new RawSocket(t, server, { query: `&transport=websocket&sid=${session.sid}` });
  probe.send('2probe');
  await probe.got((packet) => packet === '3probe');
  probe.socket.destroy();
  await session.post(`42/${server.app.key},1["join","given-up"]`);
  for (;;) if ((await session.packets()).includes(`43/${server.app.key},1[{"ok":true}]`)) break;
  await sdk.trigger('given-up', 'e', 1);
  for (;;) if ((await session.packets()).some((packet) => packet.includes('["e",1'))) break;
});

test('nonsense harms nobody else', async (t) => {
  const [listener, talker] = await Promise.all([1, 2].map(() => socketConnected(socketClient(t, server))));
  const seen = recordSocket(listener);
  const until = Date.now() + LASTS;
  const strangers = Array.from({ length: 8 }, (_, number) => (number % 2 ? nonsense(t, until) : nonsenseByPost(until)));
  let count = 0;
  while (Date.now() < until) {
    count += 1;
    assert.deepEqual(await ask(talker, 'n', count), { ok: true });
    await delay(150);
  }
  await Promise.all(strangers);
  const mine = () => seen.filter(([event]) => event === 'n').map(([, data]) => data);
  await eventually(() => assert.deepEqual(mine(), Array.from({ length: count }, (_, index) => index + 1)));
});

/** A packet with some characters changed. */
function broken(number) {
  const bytes = Buffer.from(`42/${server.app.key},7["join","chat-3",{"auth":"k:s","recover":{"position":"e:1"},"rewind":5}]`);
  for (let flips = 0; flips < 1 + (number % 4); flips += 1) {
    const [at, value] = randomBytes(2);
    bytes[at % bytes.length] = value % 128;
  }
  return bytes.toString('latin1');
}

async function nonsense(t, until) {
  for (let turn = 0; Date.now() < until; turn += 1) {
    const raw = await RawSocket.connected(t, server);
    for (let number = 0; number < 50 && !raw.socket.destroyed && Date.now() < until; number += 1) {
      raw.send(broken(number));
      if (number % 10 === 9) await delay(5);
    }
    if (turn % 3 === 0 && !raw.socket.destroyed) raw.socket.write(randomBytes(64));
    await delay(20);
    raw.socket.destroy();
  }
}

async function nonsenseByPost(until) {
  while (Date.now() < until) {
    const session = await pollingClient();
    const poll = session.poll().catch(() => {});
    for (let number = 0; number < 5; number += 1) {
      const body = number % 2 ? broken(number) : randomBytes(100);
      await session.post(body).catch(() => {});
    }
    await session.post('1').catch(() => {});
    await poll;
  }
}

test('clients that read too slowly are dropped, and others get every event', async (t) => {
  const node = await startServer({ env: { FANFARE_OUTBOX_MAX_BYTES: '262144' } });
  t.after(() => node.stop());
  const stuck = await RawSocket.connected(t, node);
  stuck.emit('join', 'big');
  await stuck.got((packet) => packet.includes('subscription_succeeded'));
  stuck.socket.pause();
  const idle = await pollingClient(node);
  await idle.post(`42/${node.app.key},["join","big"]`);
  await idle.packets();
  const reader = await socketConnected(socketClient(t, node, { transports: ['websocket'] }));
  await join(reader, 'big');
  const seen = recordSocket(reader);
  const data = 'x'.repeat(9_000);
  let sent = 0;
  const dropped = () => node.log.match(/disconnecting a slow consumer/g)?.length ?? 0;
  while (dropped() < 2 && sent < 2_000) {
    await Promise.all(Array.from({ length: 20 }, () => node.sdk().trigger('big', 'e', data)));
    sent += 20;
  }
  assert.equal(dropped(), 2, node.log);
  await eventually(() => assert.equal(seen.length, sent));
  assert.match(await idle.lastWords(), /You read too slowly/);
  assert.equal(reader.connected, true);
});

describe('in the time of two heartbeats', { concurrency: true }, () => {
  test('clients that answer heartbeats stay, on either transport', async (t) => {
    const sockets = ['polling', 'websocket'].map((transport) => socketClient(t, server, { transports: [transport] }));
    await Promise.all(sockets.map(socketConnected));
    const ids = sockets.map(({ id }) => id);
    const raw = await RawSocket.connected(t, server);
    await eventually(() => assert.equal(raw.heartbeats, 2), 2 * PING_INTERVAL + 5_000);
    await Promise.all(sockets.map((socket) => join(socket, 'news')));
    assert.deepEqual(sockets.map(({ id }) => id), ids);
  });

  test('a client that answers no heartbeat is dropped, and its membership ends', async (t) => {
    const room = await subscribe(server.client({ user: { user_id: 'bob' } }), 'presence-silent');
    const raw = await RawSocket.connected(t, server, { answersHeartbeats: false });
    const { auth, channel_data } = sdk.authorizeChannel(raw.answer.sid, 'presence-silent', { user_id: 'ada' });
    const added = next(room, 'pusher:member_added');
    raw.emit('join', 'presence-silent', { auth, channel_data });
    await added;
    const removed = next(room, 'pusher:member_removed');
    await raw.closed('the server drops the client', GONE);
    assert.equal((await removed).id, 'ada');
    server.disconnectClients();
  });

  test('a client that stops polling is dropped', async () => {
    const session = await pollingClient();
    await delay(GONE);
    assert.deepEqual(JSON.parse((await session.poll()).text), { code: 1, message: 'Session ID unknown' });
  });

  test('a client that polls and answers no heartbeat is dropped', async () => {
    const session = await pollingClient();
    const until = Date.now() + GONE;
    for (let status = 200; status === 200; ) {
      assert.ok(Date.now() < until, 'it is still there');
      ({ status } = await session.poll());
    }
  });

  test('a connection without a namespace is closed', async (t) => {
    const raw = new RawSocket(t, server);
    await raw.got((packet) => packet[0] === '0');
    await raw.closed('the server drops the client', GONE);
  });
});
