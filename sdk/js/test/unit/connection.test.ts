import { expect, test, vi } from 'vitest';
import type { FanfareError } from '../../src/index.js';
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

test('the time to the next attempt doubles with each failure, to half a minute', () => {
  const made = client();
  const delays: number[] = [];
  made.on('error', ({ retryIn }) => delays.push(retryIn!));
  made.connect();
  for (let n = 0; n < 7; n += 1) {
    ScriptedSocket.last.end();
    vi.advanceTimersByTime(delays.at(-1)!);
  }
  expect(delays).toEqual([1000, 2000, 4000, 8000, 16000, 30000, 30000]);
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
  expect(delays).toEqual([250, 2000, 4000, 8000]);
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

test('an error that nobody listens to is on the console, unless it mends itself', async () => {
  const { Fanfare } = await import('../../src/index.js');
  const log = vi.spyOn(console, 'error').mockImplementation(() => {});
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
