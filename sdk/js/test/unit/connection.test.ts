import { expect, test, vi } from 'vitest';
import type { FanfareError, Options } from '../../src/index.js';
import { ScriptedSocket } from '../support/scripted-socket.js';
import { client, connected } from './setup.js';

const sockets = () => ScriptedSocket.all.length;

test('nothing happens until a connection is needed', () => {
  const made = client();
  expect(made.state).toBe('initialized');
  expect(sockets()).toBe(0);
  made.channel('news');
  expect(made.state).toBe('connecting');
  expect(ScriptedSocket.last.url).toMatch(
    /^wss:\/\/realtime\.example\.com\/app\/KEY\?protocol=7&client=fanfare-js&version=\d+\.\d+\.\d+$/,
  );
});

test('a client is connected when the server greets it', () => {
  const made = client();
  const states: string[] = [];
  made.on('state', ({ current }) => states.push(current));
  made.connect();
  ScriptedSocket.last.greet();
  expect(states).toEqual(['connecting', 'connected']);
  expect(made.socketId).toBe(ScriptedSocket.last.socketId);
  expect(made.transport).toBe('websocket');
});

test('urls may be of http and ws, with port and path', () => {
  for (const [url, socket] of [
    ['http://127.0.0.1:6001', 'ws://127.0.0.1:6001/app/KEY'],
    ['ws://host/prefix/', 'ws://host/prefix/app/KEY'],
    ['https://host:8443/a/b', 'wss://host:8443/a/b/app/KEY'],
  ]) {
    client({ url }).connect();
    expect(ScriptedSocket.last.url.split('?')[0]).toBe(socket);
  }
  expect(() => client({ url: 'realtime.example.com' })).toThrow(/give { url: 'https:\/\/HOST' }/);
});

test('a lost connection is followed by another, within a second at first', () => {
  const made = connected();
  vi.advanceTimersByTime(60_000);
  ScriptedSocket.last.receive('pusher:pong');
  ScriptedSocket.last.end();
  expect(made.state).toBe('connecting');
  vi.advanceTimersByTime(999);
  expect(sockets()).toBe(1);
  vi.advanceTimersByTime(1);
  expect(sockets()).toBe(2);
  ScriptedSocket.last.greet();
  expect(made.state).toBe('connected');
});

/** Milliseconds from the server's return, `outage` milliseconds after it was lost, to the next attempt. */
function away(outage: number, code = 1006): number {
  const made = connected();
  vi.advanceTimersByTime(10_000);
  const returnsAt = Date.now() + outage;
  refuseUntil(returnsAt, code);
  made.disconnect();
  return Date.now() - returnsAt;
}

/** The connection ends, and so does each attempt that begins before `time`. */
function refuseUntil(time: number, code = 1006): void {
  do {
    const before = sockets();
    ScriptedSocket.last.end(code);
    while (sockets() === before) vi.advanceTimersToNextTimer();
    code = 1006;
  } while (Date.now() < time);
}

test.each([
  [40, 2_000],
  [2_000, 2_000],
  [20_000, 2_000],
  [60_000, 2_000],
  [180_000, 4_000],
  [300_000, 4_000],
  [3_600_000, 28_000],
])('after an outage of %i ms the next attempt comes within %i ms, at the latest moment of each wait', (outage, limit) => {
  for (const code of [1006, 4200, 4100]) expect(away(outage, code)).toBeLessThanOrEqual(limit);
});

test.each([2_000, 20_000, 60_000])('clients that were lost in one moment come back over a second, %i ms later', (outage) => {
  // A generator of Lehmer's, so that each run is the same.
  let state = 1;
  vi.mocked(Math.random).mockImplementation(() => (state = (state * 48271) % 0x7fffffff) / 0x7fffffff);
  const times = Array.from({ length: 200 }, () => away(outage)).sort((a, b) => a - b);
  expect(times.at(-1)!).toBeLessThanOrEqual(2_000);
  expect(times[190]! - times[10]!).toBeGreaterThan(1_000);
  const tenths = Array.from({ length: 20 }, (_, n) => times.filter((it) => Math.floor(it / 100) === n).length);
  expect(Math.max(...tenths)).toBeLessThan(30);
});

test('waits are as long as the outage, and no longer than max', () => {
  const delays = (options: Options) => {
    const made = client(options);
    const all: number[] = [];
    made.on('error', ({ retryIn }) => all.push(retryIn!));
    made.connect();
    for (const start = Date.now(); Date.now() - start < 600_000; ) {
      ScriptedSocket.last.end();
      vi.advanceTimersByTime(all.at(-1)!);
    }
    made.disconnect();
    return [...new Set(all)];
  };
  expect(delays({})).toEqual([1000, 2000, 4000, 28000]);
  expect(delays({ backoff: { first: 100 } })).toEqual([100, 200, 400, 800, 1600, 2000, 4000, 28000]);
  expect(delays({ backoff: { max: 3000 } })).toEqual([1000, 2000, 3000]);
});

test('news of the network begins the outage anew: the network was away, and not the server', () => {
  const page = new EventTarget();
  vi.stubGlobal('addEventListener', page.addEventListener.bind(page));
  vi.stubGlobal('removeEventListener', page.removeEventListener.bind(page));
  connected();
  refuseUntil(Date.now() + 600_000);
  ScriptedSocket.last.end();
  page.dispatchEvent(new Event('online'));
  ScriptedSocket.last.end();
  const before = sockets();
  vi.advanceTimersByTime(2_000);
  expect(sockets()).toBe(before + 1);
});

test('jitter is full: the next attempt may come at once', () => {
  vi.mocked(Math.random).mockReturnValue(0);
  connected();
  ScriptedSocket.last.end();
  vi.advanceTimersByTime(0);
  expect(sockets()).toBe(2);
});

test('a connection that never lasts is no reason to hurry', () => {
  const made = connected();
  const delays: number[] = [];
  made.on('error', ({ retryIn }) => delays.push(retryIn!));
  for (let n = 0; n < 4; n += 1) {
    vi.advanceTimersByTime(100);
    ScriptedSocket.last.end(4200, 'again');
    vi.advanceTimersByTime(delays.at(-1)!);
    ScriptedSocket.last.greet();
  }
  expect(delays).toEqual([250, 2000, 2000, 2000]);
});

test.each([
  [4000, 'never'],
  [4001, 'never'],
  [4009, 'never'],
  [4300, 'never'],
  [4999, 'never'],
  [4100, 2000],
  [4101, 2000],
  [4199, 2000],
  [4200, 250],
  [4299, 250],
  [1000, 1000],
  [1006, 1000],
  [1012, 1000],
])('after close code %i the next attempt comes in %s ms at the latest', (code, delay) => {
  const made = connected();
  const errors: FanfareError[] = [];
  made.on('error', (error) => errors.push(error));
  vi.advanceTimersByTime(10_000);
  ScriptedSocket.last.end(code, 'because');
  expect(errors).toMatchObject([{ closeCode: code, ...(delay !== 'never' && { retryIn: delay }) }]);
  // Only what the server said has a row in its documentation.
  expect(errors[0]!.message.includes(`/docs/errors#${code}`)).toBe(code >= 4000);
  expect(made.state).toBe(delay === 'never' ? 'disconnected' : 'connecting');
  vi.advanceTimersByTime(delay === 'never' ? 600_000 : (delay as number));
  expect(sockets()).toBe(delay === 'never' ? 1 : 2);
});

test.each([4100, 4101])('after close code %i a second passes in any case', (code) => {
  vi.mocked(Math.random).mockReturnValue(0);
  connected();
  ScriptedSocket.last.end(code);
  vi.advanceTimersByTime(999);
  expect(sockets()).toBe(1);
  vi.advanceTimersByTime(1);
  expect(sockets()).toBe(2);
});

test('a refusal as the first message counts as one in a close frame', () => {
  const made = client();
  const errors: FanfareError[] = [];
  made.on('error', (error) => errors.push(error));
  made.connect();
  ScriptedSocket.last.receive('pusher:error', { code: 4001, message: 'Could not find an app with key KEY' });
  expect(made.state).toBe('disconnected');
  expect(errors).toMatchObject([{ code: 'connection_refused', closeCode: 4001 }]);
  expect(errors[0]!.message).toContain('Could not find an app with key KEY');
  expect(errors[0]!.message).toMatch(/\(4001, see https?:\/\/\S+\/docs\/errors#4001\)$/);
});

test('who was refused may try again by hand', () => {
  const made = connected();
  ScriptedSocket.last.end(4009);
  made.connect();
  ScriptedSocket.last.greet();
  expect(made.state).toBe('connected');
});

test('without a connection for ten seconds the state is unavailable, and attempts go on', () => {
  const made = client();
  made.connect();
  ScriptedSocket.last.end();
  vi.advanceTimersByTime(10_000);
  expect(made.state).toBe('unavailable');
  while (ScriptedSocket.last.readyState === 3) vi.advanceTimersByTime(1000);
  ScriptedSocket.last.greet();
  expect(made.state).toBe('connected');
});

test('an attempt without an answer ends', () => {
  client({ connectTimeout: 5000 }).connect();
  vi.advanceTimersByTime(5000);
  expect(ScriptedSocket.last.readyState).toBe(3);
  vi.advanceTimersByTime(1000);
  expect(sockets()).toBe(2);
});

test('a silent server is asked, and left when it does not answer', () => {
  const made = connected();
  vi.advanceTimersByTime(119_999);
  expect(ScriptedSocket.last.sent).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(ScriptedSocket.last.sent).toEqual([{ event: 'pusher:ping', data: {} }]);
  ScriptedSocket.last.receive('pusher:pong');
  vi.advanceTimersByTime(120_000);
  expect(ScriptedSocket.last.sentOf('pusher:ping')).toHaveLength(2);
  vi.advanceTimersByTime(15_000);
  expect(made.state).toBe('connecting');
  vi.advanceTimersByTime(250);
  expect(sockets()).toBe(2);
});

test('anything that is heard counts as life', () => {
  connected({ activityTimeout: 1000 });
  for (let n = 0; n < 10; n += 1) {
    vi.advanceTimersByTime(900);
    ScriptedSocket.last.receive('e', 1, { channel: 'news' });
  }
  expect(ScriptedSocket.last.sentOf('pusher:ping')).toEqual([]);
});

test('a ping of the server is answered', () => {
  connected();
  ScriptedSocket.last.receive('pusher:ping', {});
  expect(ScriptedSocket.last.sent).toEqual([{ event: 'pusher:pong', data: {} }]);
});

test('what is no message is reported and harms nothing', () => {
  const made = connected();
  const errors: FanfareError[] = [];
  made.on('error', (error) => errors.push(error));
  for (const data of ['nonsense', '[]', '17', 'null', '{}']) ScriptedSocket.last.onmessage!({ data });
  ScriptedSocket.last.onmessage!({ data: new Uint8Array(2) });
  expect(errors.map(({ code }) => code)).toEqual(Array(5).fill('invalid_message'));
  expect(made.state).toBe('connected');
});

test('what the server says of a close is told once, with the close', () => {
  const made = connected();
  const errors: FanfareError[] = [];
  made.on('error', (error) => errors.push(error));
  ScriptedSocket.last.receive('pusher:error', { code: 4200, message: 'shutting down' }).end(4200, 'shutting down');
  expect(errors).toMatchObject([{ code: 'connection_lost', closeCode: 4200 }]);
});

test.each([null, 4301])('an error of the server with code %s is told, and the connection stays', (code) => {
  const made = connected();
  const errors: FanfareError[] = [];
  made.on('error', (error) => errors.push(error));
  ScriptedSocket.last.receive('pusher:error', { code, message: 'too fast' });
  if (!code) ScriptedSocket.last.receive('pusher:pong');
  expect(errors).toMatchObject([{ code: 'server_error', closeCode: code, message: 'The server said: too fast' }]);
  expect(made.state).toBe('connected');
});

test('disconnect() ends everything, whenever it is called', () => {
  const made = client();
  made.connect();
  made.disconnect();
  expect(ScriptedSocket.last.readyState).toBe(3);
  made.connect();
  ScriptedSocket.last.end();
  made.disconnect();
  made.connect();
  ScriptedSocket.last.greet();
  made.disconnect();
  expect(made.state).toBe('disconnected');
  expect(vi.getTimerCount()).toBe(0);
});

test('a signal disconnects', () => {
  const abort = new AbortController();
  const made = connected({ signal: abort.signal });
  abort.abort();
  expect(made.state).toBe('disconnected');
});

test.each([
  ['http://host:6002', /^No connection to http:\/\/host:6002, trying again in 1000 ms: .*\(1006\)\. Check host and port; a server with TLS needs https:\/\/$/],
  ['https://host', /^No connection to https:\/\/host, .*; a server without TLS needs http:\/\/$/],
])('an address that never answered is in the error, with what may be wrong: %s', (url, expected) => {
  const made = client({ url });
  const errors: FanfareError[] = [];
  made.on('error', (error) => errors.push(error));
  made.connect();
  ScriptedSocket.last.end();
  expect(errors[0]!.message).toMatch(expected);
  vi.advanceTimersByTime(1000);
  ScriptedSocket.last.greet();
  ScriptedSocket.last.end();
  expect(errors[1]!.message).toBe(`No connection to ${url}, trying again in 2000 ms: lost (1006)`);
});

test('what a WebSocket class says of its failure is the reason', () => {
  const made = client();
  const errors: FanfareError[] = [];
  made.on('error', (error) => errors.push(error));
  made.connect();
  ScriptedSocket.last.onerror!({ message: 'connect ECONNREFUSED 127.0.0.1:6002' });
  ScriptedSocket.last.end();
  expect(errors).toMatchObject([{ reason: 'connect ECONNREFUSED 127.0.0.1:6002' }]);
});

test('an address that never answered is on the console once, if nobody listens', async () => {
  const { Fanfare } = await import('../../src/index.js');
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
  const made = new Fanfare('KEY', { url: 'http://host:1', WebSocket: ScriptedSocket, transports: ['websocket'] });
  made.connect();
  for (let n = 0; n < 3; n += 1) {
    ScriptedSocket.last.end();
    vi.advanceTimersByTime(2000);
  }
  made.disconnect();
  expect(warn.mock.calls).toEqual([[expect.stringContaining('http://host:1')]]);
});

test('an error that nobody listens to is on the console, unless it mends itself', async () => {
  const { Fanfare } = await import('../../src/index.js');
  const log = vi.spyOn(console, 'error').mockImplementation(() => {});
  vi.spyOn(console, 'warn').mockImplementation(() => {});
  const made = new Fanfare('KEY', { url: 'https://host', WebSocket: ScriptedSocket, transports: ['websocket'] });
  made.connect();
  ScriptedSocket.last.end();
  expect(log).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1000);
  ScriptedSocket.last.end(4001, 'no such app');
  expect(log).toHaveBeenCalledOnce();
  made.disconnect();
});

test('a platform without any transport is told so', () => {
  const made = client({ WebSocket: undefined });
  vi.stubGlobal('WebSocket', undefined);
  const errors: FanfareError[] = [];
  const bare = client({ WebSocket: undefined });
  bare.on('error', (error) => errors.push(error));
  bare.connect();
  expect(bare.state).toBe('failed');
  expect(errors).toMatchObject([{ code: 'unsupported' }]);
  expect(made.state).toBe('initialized');
});

test('a listener that throws is reported as uncaught and keeps nobody else from hearing', () => {
  const made = connected();
  const heard: string[] = [];
  made.on('state', () => {
    throw new Error('of the application');
  });
  made.on('state', ({ current }) => heard.push(current));
  ScriptedSocket.last.end();
  expect(heard).toEqual(['connecting']);
  expect(() => vi.advanceTimersByTime(0)).toThrow('of the application');
});
