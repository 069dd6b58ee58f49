// Socket.IO clients whose network is away for a while, or whose server is.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startCable } from './cluster/cable.mjs';
import { eventually, startServer } from './harness.mjs';
import { RawSocket, ask, join, nextEvent, nextEventOn, recordSocket, socketClient, socketConnected } from './socket-io.mjs';

const HISTORY = JSON.stringify([
  { channels: '*kept-*', size: 500, ttl: 300 },
  { channels: 'short-*', size: 2, ttl: 300 },
]);
/** Events are published all this time. The network is away for five seconds in the middle. */
const LASTS = 60_000;

const server = await startServer({ settings: { history: HISTORY } });
const sdk = server.sdk();
after(() => server.stop());

/** A client behind a network of its own that can be cut. */
async function behindCable(t, { recover = true, ...options } = {}) {
  const cable = await startCable(server.port);
  t.after(() => cable.stop());
  const socket = socketClient(t, server, { port: cable.port, auth: recover ? { recover } : {}, reconnectionDelay: 200, ...options });
  await socketConnected(socket);
  return { cable, socket };
}

const authorize = (socket, channel, user) => sdk.authorizeChannel(socket.id, channel, user);
const numbers = (seen, channel) => seen.filter(([, , meta]) => meta.channel === channel).map(([, n]) => n);

for (const transport of ['polling', 'websocket']) {
  test(`a client over ${transport} whose network was cut gets what it missed, and is where it was`, async (t) => {
    const { cable, socket } = await behindCable(t, { transports: [transport] });
    await join(socket, 'kept-a');
    await join(socket, 'private-kept-b', authorize(socket, 'private-kept-b'));
    await join(socket, 'live-only');
    await join(socket, 'kept-left');
    await ask(socket, 'leave', 'kept-left');
    const seen = recordSocket(socket);
    const channels = ['kept-a', 'private-kept-b', 'kept-left'];
    await sdk.trigger(channels, 'e', 1);
    await eventually(() => assert.equal(seen.length, 2));
    assert.equal(socket.recovered, false);

    const gone = nextEvent(socket, 'disconnect');
    await cable.breakOff();
    await gone;
    for (const n of [2, 3, 4]) await sdk.trigger([...channels, 'live-only'], 'e', n);
    const back = nextEvent(socket, 'connect');
    await cable.heal();
    await back;
    assert.equal(socket.recovered, true);
    await sdk.trigger([...channels, 'live-only'], 'e', 5);
    await eventually(() => {
      for (const channel of ['kept-a', 'private-kept-b']) assert.deepEqual(numbers(seen, channel), [1, 2, 3, 4, 5]);
    });
    assert.deepEqual(numbers(seen, 'kept-left'), []);
    assert.deepEqual(numbers(seen, 'live-only'), [5]);
    // And once more.
    const again = nextEvent(socket, 'connect');
    cable.reset();
    await again;
    assert.equal(socket.recovered, true);
    await sdk.trigger('kept-a', 'e', 6);
    await eventually(() => assert.deepEqual(numbers(seen, 'kept-a'), [1, 2, 3, 4, 5, 6]));
  });
}

test('a client that does not ask for recovery is told that it begins anew, and joins again', async (t) => {
  const { cable, socket } = await behindCable(t, { recover: false });
  await join(socket, 'kept-plain');
  const got = nextEvent(socket, 'e');
  await sdk.trigger('kept-plain', 'e', 1);
  const [, meta, ...more] = await got;
  assert.equal(meta.channel, 'kept-plain');
  assert.deepEqual(more, []);
  const back = nextEvent(socket, 'connect');
  cable.reset();
  await back;
  assert.equal(socket.recovered, false);
  await join(socket, 'kept-plain');
});

test('a client that went on purpose begins anew', async (t) => {
  const { socket } = await behindCable(t);
  await join(socket, 'kept-purpose');
  const seen = recordSocket(socket);
  await sdk.trigger('kept-purpose', 'e', 1);
  await eventually(() => assert.equal(seen.length, 1));
  socket.disconnect().connect();
  await socketConnected(socket);
  assert.equal(socket.recovered, false);
});

test('a client that asks with the position of the last event gets what came after it', async (t) => {
  const { cable, socket } = await behindCable(t, { recover: false });
  await join(socket, 'kept-position', { recover: true });
  const got = nextEvent(socket, 'e');
  await sdk.trigger('kept-position', 'e', 1);
  const [, { position }] = await got;
  assert.equal(typeof position, 'string');
  const gone = nextEvent(socket, 'disconnect');
  await cable.breakOff();
  await gone;
  for (const n of [2, 3]) await sdk.trigger('kept-position', 'e', n);
  await cable.heal();
  await socketConnected(socket);
  const seen = recordSocket(socket);
  const told = nextEventOn(socket, 'pusher:subscription_succeeded', 'kept-position');
  await join(socket, 'kept-position', { recover: { position } });
  assert.equal((await told)[0].recovered, true);
  await sdk.trigger('kept-position', 'e', 4);
  await eventually(() => assert.deepEqual(numbers(seen, 'kept-position'), [2, 3, 4]));
});

test('a client may begin with the last events', async (t) => {
  for (const n of [1, 2, 3]) await sdk.trigger('kept-rewind', 'e', n);
  const socket = await socketConnected(socketClient(t, server));
  const seen = recordSocket(socket);
  await join(socket, 'kept-rewind', { recover: true, rewind: 2 });
  await eventually(() => assert.deepEqual(numbers(seen, 'kept-rewind'), [2, 3]));
});

test('a client that returns before its old connection is known to be lost takes its place', async (t) => {
  const old = await RawSocket.connected(t, server, { data: { recover: true } });
  const { pid } = old.answer;
  old.emit('join', 'kept-place');
  await old.got((packet) => packet.includes('subscription_succeeded'));
  await sdk.trigger('kept-place', 'e', 1);
  await eventually(() => assert.equal(old.events.length, 1));
  const offset = old.events[0].at(-1);
  assert.equal(typeof offset, 'string');
  await sdk.trigger('kept-place', 'e', 2);
  const raw = await RawSocket.connected(t, server, { data: { recover: true, pid, offset } });
  assert.equal(raw.answer.pid, pid);
  await sdk.trigger('kept-place', 'e', 3);
  await eventually(() => assert.deepEqual(raw.events.map(([, n]) => n), [2, 3]));
});

test('a client whose pid or offset means nothing begins anew', async (t) => {
  const first = await RawSocket.connected(t, server, { data: { recover: true } });
  first.emit('join', 'kept-nothing');
  await first.got((packet) => packet.includes('subscription_succeeded'));
  await sdk.trigger('kept-nothing', 'e', 1);
  await eventually(() => assert.equal(first.events.length, 1));
  const { pid } = first.answer;
  first.socket.destroy();
  const cases = [{ pid: 'unknown', offset: first.events[0].at(-1) }, { pid, offset: 'kept-nothing gone:1' }, { pid, offset: '' }];
  for (const data of cases) {
    const raw = await RawSocket.connected(t, server, { data: { recover: true, ...data } });
    // Or the channel is joined, and says that what was missed is not there.
    if (raw.answer.pid === data.pid) await raw.got((packet) => /subscription_succeeded.*"recovered":false/.test(packet));
    assert.deepEqual(raw.events, []);
  }
});

test('what was written to a network that carried nothing any more follows', async (t) => {
  const { cable, socket } = await behindCable(t, { transports: ['websocket'] });
  await join(socket, 'kept-silent');
  const seen = recordSocket(socket);
  await sdk.trigger('kept-silent', 'e', 1);
  await eventually(() => assert.equal(seen.length, 1));
  cable.goSilent();
  for (const n of [2, 3]) await sdk.trigger('kept-silent', 'e', n);
  const back = nextEvent(socket, 'connect');
  await cable.breakOff();
  await sdk.trigger('kept-silent', 'e', 4);
  await cable.heal();
  await back;
  assert.equal(socket.recovered, true);
  await sdk.trigger('kept-silent', 'e', 5);
  await eventually(() => assert.deepEqual(numbers(seen, 'kept-silent'), [1, 2, 3, 4, 5]));
});

test('namespaces of one connection recover each for itself', async (t) => {
  const app = await server.createApp({ id: '7654321', key: 'other-key', secret: 'other-secret', settings: { history: HISTORY } });
  await eventually(async () => socketConnected(socketClient(t, server, { key: app.key })));
  const { cable, socket } = await behindCable(t);
  const other = socket.io.socket(`/${app.key}`, { auth: { recover: true } });
  t.after(() => other.disconnect());
  await socketConnected(other);
  const sockets = [socket, other];
  const backends = [sdk, server.sdk({ app })];
  await Promise.all(sockets.map((each) => join(each, 'kept-both')));
  const seen = sockets.map(recordSocket);
  const publish = (n) => Promise.all(backends.map((backend, index) => backend.trigger('kept-both', 'e', `${index} ${n}`)));
  await publish(1);
  await eventually(() => seen.forEach((events) => assert.equal(events.length, 1)));
  const gone = nextEvent(socket, 'disconnect');
  await cable.breakOff();
  await gone;
  await publish(2);
  const back = sockets.map((each) => nextEvent(each, 'connect'));
  await cable.heal();
  await Promise.all(back);
  assert.deepEqual(sockets.map(({ recovered }) => recovered), [true, true]);
  await publish(3);
  const expected = [0, 1].map((index) => [1, 2, 3].map((n) => `${index} ${n}`));
  await eventually(() => assert.deepEqual(seen.map((events) => numbers(events, 'kept-both')), expected));
});

test('a client that missed more than the history keeps is told', async (t) => {
  const { cable, socket } = await behindCable(t);
  await join(socket, 'short-a');
  const seen = recordSocket(socket);
  await sdk.trigger('short-a', 'e', 1);
  await eventually(() => assert.equal(seen.length, 1));
  const gone = nextEvent(socket, 'disconnect');
  await cable.breakOff();
  await gone;
  for (const n of [2, 3, 4, 5]) await sdk.trigger('short-a', 'e', n);
  const told = nextEventOn(socket, 'pusher:subscription_succeeded', 'short-a');
  await cable.heal();
  await socketConnected(socket);
  if (socket.recovered) assert.equal((await told)[0].recovered, false);
});

test('a client that comes back to a restarted server is told that it begins anew', async (t) => {
  const node = await startServer({ settings: { history: HISTORY } });
  t.after(() => node.stop());
  const socket = await socketConnected(socketClient(t, node, { auth: { recover: true } }));
  await join(socket, 'kept-restart');
  const got = nextEvent(socket, 'e');
  await node.sdk().trigger('kept-restart', 'e', 1);
  await got;
  const back = nextEvent(socket, 'connect');
  await node.end();
  await node.start();
  await back;
  assert.equal(socket.recovered, false);
  await join(socket, 'kept-restart');
});

describe('for a minute', { concurrency: true }, () => {
  // Two events a second, for all of these clients.
  const sent = [];
  let publisher;
  const publish = async () => {
    const end = Date.now() + LASTS;
    while (Date.now() < end) {
      sent.push(sent.length);
      await sdk.trigger('kept-minute', 'tick', sent.at(-1));
      await delay(500);
    }
  };

  /** Cuts the network of one in the middle. */
  const awayInTheMiddle = async (cable) => {
    publisher ??= publish();
    await delay(LASTS / 2);
    await cable.breakOff();
    await delay(5_000);
    await cable.heal();
    await publisher;
  };

  for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
    test(`a client over ${transports} gets each event once, in order`, async (t) => {
      const { cable, socket } = await behindCable(t, { transports });
      await join(socket, 'kept-minute');
      const seen = recordSocket(socket);
      const recovered = [];
      socket.on('connect', () => recovered.push(socket.recovered));
      await awayInTheMiddle(cable);
      await eventually(() => assert.deepEqual(numbers(seen, 'kept-minute'), sent.slice(seen[0][1])));
      assert.ok(seen[0][1] < 5, `the first is ${seen[0][1]}`);
      assert.deepEqual(recovered, [true]);
    });
  }

  test('a client that joins again with its last position gets each event once, in order', async (t) => {
    const { cable, socket } = await behindCable(t, { recover: false });
    const seen = recordSocket(socket);
    const told = [];
    socket.on('pusher:subscription_succeeded', ({ recovered }) => told.push(recovered));
    const again = () => {
      const position = seen.at(-1)?.[2].position;
      return join(socket, 'kept-minute', { recover: position ? { position } : true });
    };
    await again();
    socket.on('connect', again);
    await awayInTheMiddle(cable);
    await eventually(() => assert.deepEqual(numbers(seen, 'kept-minute'), sent.slice(seen[0][1])));
    assert.deepEqual(told, [undefined, true]);
  });
});
