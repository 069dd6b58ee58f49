import { beforeEach, expect, test, vi } from 'vitest';
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
