import { beforeEach, describe, expect, test, vi } from 'vitest';
import { ScriptedSocket } from '../support/scripted-socket.js';
import { client, connected } from './setup.js';

class FakeDocument extends EventTarget {
  visibilityState = 'visible';
}

let page: EventTarget;
let document: FakeDocument;

beforeEach(() => {
  page = new EventTarget();
  document = new FakeDocument();
  vi.stubGlobal('addEventListener', page.addEventListener.bind(page));
  vi.stubGlobal('removeEventListener', page.removeEventListener.bind(page));
  vi.stubGlobal('document', document);
});

const sockets = () => ScriptedSocket.all.length;
const hide = (state: string) => {
  document.visibilityState = state;
  document.dispatchEvent(new Event('visibilitychange'));
};

test('a network that is back ends the wait for the next attempt', () => {
  const made = client();
  made.connect();
  for (let n = 0; n < 5; n += 1) {
    ScriptedSocket.last.end();
    vi.advanceTimersByTime(30_000);
  }
  ScriptedSocket.last.end();
  const before = sockets();
  page.dispatchEvent(new Event('online'));
  expect(sockets()).toBe(before + 1);
});

test('an attempt that was begun on another network is begun anew', () => {
  client().connect();
  page.dispatchEvent(new Event('online'));
  expect(sockets()).toBe(2);
  expect(ScriptedSocket.all[0]!.readyState).toBe(3);
});

test.each(['online', 'offline', 'pageshow'])('on %s a connection must prove within seconds that it lives', (event) => {
  const made = connected();
  page.dispatchEvent(new Event(event));
  expect(ScriptedSocket.last.sentOf('pusher:ping')).toHaveLength(1);
  vi.advanceTimersByTime(4000);
  expect(made.state).toBe('connecting');
});

test('a connection that proves that it lives goes on', () => {
  const made = connected();
  page.dispatchEvent(new Event('offline'));
  ScriptedSocket.last.receive('pusher:pong');
  vi.advanceTimersByTime(60_000);
  expect(made.state).toBe('connected');
  expect(sockets()).toBe(1);
});

test('a page that is seen again asks at once, one that is hidden does not', () => {
  connected();
  hide('hidden');
  expect(ScriptedSocket.last.sentOf('pusher:ping')).toEqual([]);
  hide('visible');
  expect(ScriptedSocket.last.sentOf('pusher:ping')).toHaveLength(1);
});

test('a page that is seen again does not wait for the next attempt', () => {
  client().connect();
  ScriptedSocket.last.end();
  hide('hidden');
  hide('visible');
  expect(sockets()).toBe(2);
});

test('a device that has slept for longer than the server waits connects at once', () => {
  const made = connected();
  vi.setSystemTime(Date.now() + 3_600_000);
  vi.advanceTimersByTime(5_000);
  expect(made.state).toBe('connecting');
  vi.advanceTimersByTime(250);
  expect(sockets()).toBe(2);
});

test('a device that has slept for less asks whether the server is there', () => {
  const made = connected();
  vi.setSystemTime(Date.now() + 40_000);
  vi.advanceTimersByTime(5_000);
  expect(ScriptedSocket.last.sentOf('pusher:ping')).toHaveLength(1);
  ScriptedSocket.last.receive('pusher:pong');
  vi.advanceTimersByTime(10_000);
  expect(made.state).toBe('connected');
});

test('an attempt that hung when the device fell asleep is begun anew', () => {
  client({ connectTimeout: 600_000 }).connect();
  vi.setSystemTime(Date.now() + 60_000);
  vi.advanceTimersByTime(5_000);
  expect(sockets()).toBe(2);
  expect(ScriptedSocket.all[0]!.readyState).toBe(3);
});

test('the slow timers of a hidden page are no sleep', () => {
  connected();
  document.visibilityState = 'hidden';
  vi.setSystemTime(Date.now() + 60_000);
  vi.advanceTimersByTime(5_000);
  expect(ScriptedSocket.last.sentOf('pusher:ping')).toEqual([]);
});

test('a client that is disconnected watches nothing', () => {
  const made = connected();
  made.disconnect();
  page.dispatchEvent(new Event('online'));
  hide('visible');
  vi.advanceTimersByTime(60_000);
  expect(sockets()).toBe(1);
});

describe('a page that is left and kept for the way back', () => {
  const dispatch = (name: string, persisted = true) =>
    page.dispatchEvent(Object.assign(new Event(name), { persisted }));
  const leave = () => {
    dispatch('pagehide');
    hide('hidden');
  };

  test('closes its connection, without an error', () => {
    const made = connected();
    const errors: unknown[] = [];
    made.on('error', (error) => errors.push(error));
    leave();
    expect(ScriptedSocket.last.readyState).toBe(3);
    expect(made.state).toBe('connecting');
    expect(made.socketId).toBeUndefined();
    vi.advanceTimersByTime(60_000);
    expect(sockets()).toBe(1);
    expect(made.state).toBe('connecting');
    expect(errors).toEqual([]);
  });

  test('keeps its channels, and asks for what they missed when it is back', () => {
    const made = connected();
    const channel = made.channel('news');
    const { socketId } = ScriptedSocket.last;
    ScriptedSocket.last.confirm('news', { position: '1' });
    ScriptedSocket.last.receive('e', 1, { channel: 'news', position: '2' });
    leave();
    expect(channel.state).toBe('pending');
    dispatch('pageshow');
    ScriptedSocket.last.greet();
    expect(sockets()).toBe(2);
    expect(ScriptedSocket.last.sentOf('pusher:subscribe')).toMatchObject([
      { channel: 'news', recover: { position: '2', socket_id: socketId } },
    ]);
  });

  test('connects at once when it is back, even in a tab that is not seen', () => {
    connected();
    leave();
    dispatch('pageshow');
    expect(sockets()).toBe(2);
    hide('visible');
    expect(sockets()).toBe(2);
    expect(ScriptedSocket.last.readyState).toBe(0);
  });

  test('connects when it is seen again, if nobody says that it is back', () => {
    connected();
    leave();
    hide('visible');
    expect(sockets()).toBe(2);
  });

  test('begins with the first wait again if the attempt after that fails', () => {
    const made = client();
    made.connect();
    for (let n = 0; n < 5; n += 1) {
      ScriptedSocket.last.end();
      vi.advanceTimersByTime(30_000);
    }
    leave();
    dispatch('pageshow');
    const before = sockets();
    ScriptedSocket.last.end();
    vi.advanceTimersByTime(1_000);
    expect(sockets()).toBe(before + 1);
  });

  test('gives up an attempt to connect, and the wait for one', () => {
    client().connect();
    leave();
    expect(ScriptedSocket.last.readyState).toBe(3);
    dispatch('pageshow');
    expect(sockets()).toBe(2);
    ScriptedSocket.last.end();
    leave();
    vi.advanceTimersByTime(60_000);
    expect(sockets()).toBe(2);
    dispatch('pageshow');
    expect(sockets()).toBe(3);
  });

  test('stays disconnected if the application wants it so', () => {
    const made = connected();
    leave();
    made.disconnect();
    dispatch('pageshow');
    hide('visible');
    expect(made.state).toBe('disconnected');
    expect(sockets()).toBe(1);
    made.connect();
    expect(sockets()).toBe(2);
  });

  test('leaves its connection to the browser if it is not kept', () => {
    const made = connected();
    dispatch('pagehide', false);
    expect(made.state).toBe('connected');
    expect(ScriptedSocket.last.readyState).toBe(1);
  });
});
