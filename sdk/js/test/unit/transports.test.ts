import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Fanfare, type FanfareError, type Options } from '../../src/index.js';
import { frames, GREETING, ScriptedHttp } from '../support/scripted-http.js';
import { ScriptedSocket } from '../support/scripted-socket.js';

let http: ScriptedHttp;
let made: Fanfare;
const errors: FanfareError[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  ScriptedSocket.all = [];
  errors.length = 0;
  http = new ScriptedHttp();
});

afterEach(() => {
  made.disconnect();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

function client(options: Options): Fanfare {
  made = new Fanfare('KEY', { url: 'https://host', WebSocket: ScriptedSocket, fetch: http.fetch, ...options });
  made.on('error', (error) => errors.push(error));
  made.connect();
  return made;
}

// Streams pass their chunks on in several turns.
const settled = () => vi.advanceTimersByTimeAsync(0);

describe('falling back', () => {
  test('the WebSocket comes first, and alone while it is on its way', async () => {
    client({});
    expect(http.requests).toEqual([]);
    ScriptedSocket.last.greet();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(made.transport).toBe('websocket');
    expect(http.requests).toEqual([]);
  });

  test('a WebSocket that fails is followed by streaming at once, and that by polling', async () => {
    client({});
    ScriptedSocket.last.end();
    await settled();
    expect(http.requests.map(({ path }) => path)).toEqual(['xhr_streaming']);
    http.receiver.end();
    await settled();
    expect(http.requests.map(({ path }) => path)).toEqual(['xhr_streaming', 'xhr']);
    http.receiver.write(`o\n${frames(GREETING)}`);
    await settled();
    expect(made.state).toBe('connected');
    expect(made.transport).toBe('polling');
    expect(errors).toEqual([]);
  });

  test('a WebSocket that reports an error and no close has failed', async () => {
    client({ transports: ['websocket'] });
    ScriptedSocket.last.fail('Received network error or non-101 status code.');
    expect(errors.map(({ code, closeCode }) => [code, closeCode])).toEqual([['connection_lost', 1006]]);
    expect(errors[0]!.message).toContain('non-101 status code');
    // Most platforms send the close event as well: it says nothing new.
    ScriptedSocket.last.end();
    expect(errors).toHaveLength(1);
  });

  test('a WebSocket that ends with code 0 has ended as one with 1006', async () => {
    client({ transports: ['websocket'] });
    ScriptedSocket.last.greet().end(0);
    expect(errors.map(({ closeCode }) => closeCode)).toEqual([1006]);
  });

  test('after some failures requests look for the server, and the WebSocket is tried when one is answered', async () => {
    let away = true;
    const fetch = ((...all: Parameters<typeof http.fetch>) =>
      away ? Promise.reject(new TypeError('Failed to fetch')) : http.fetch(...all)) as typeof http.fetch;
    client({ fetch });
    ScriptedSocket.last.greet();
    for (let seconds = 0; seconds < 10; seconds += 1) {
      if (ScriptedSocket.last.readyState !== 3) ScriptedSocket.last.end();
      await vi.advanceTimersByTimeAsync(1_000);
    }
    // A browser delays a WebSocket that follows five failed ones.
    const failed = ScriptedSocket.all.length - 1;
    expect(failed).toBeLessThan(5);
    away = false;
    await vi.advanceTimersByTimeAsync(2_000);
    http.receiver.write(`o\n${frames(GREETING)}`);
    await settled();
    expect(ScriptedSocket.all.length).toBe(failed + 2);
    ScriptedSocket.last.greet();
    expect(made.transport).toBe('websocket');
  });

  test('a WebSocket that hangs gets company after three seconds; whoever is greeted first wins', async () => {
    client({});
    await vi.advanceTimersByTimeAsync(3000);
    http.receiver.write(`o\n${frames(GREETING)}`);
    await settled();
    expect(made.transport).toBe('streaming');
    expect(ScriptedSocket.last.readyState).toBe(3);

    made.disconnect();
    client({});
    await vi.advanceTimersByTimeAsync(3000);
    ScriptedSocket.last.greet();
    expect(made.transport).toBe('websocket');
  });

  test('a server that refuses the client is not asked over other transports', async () => {
    client({});
    ScriptedSocket.last.end(4001, 'no such app');
    await settled();
    expect(made.state).toBe('disconnected');
    expect(http.requests).toEqual([]);
  });

  test('a WebSocket that worked is tried alone for some time, and then no longer', async () => {
    client({});
    ScriptedSocket.last.greet();
    for (let n = 0; n < 4; n += 1) {
      expect(http.requests.length).toBe(0);
      ScriptedSocket.last.end();
      await vi.advanceTimersByTimeAsync(2000);
    }
    ScriptedSocket.last.end();
    await settled();
    expect(http.requests.length).toBeGreaterThan(0);
  });

  test('a WebSocket that worked and now hangs gets company of its own kind first', async () => {
    client({});
    ScriptedSocket.last.greet();
    ScriptedSocket.last.end();
    await vi.advanceTimersByTimeAsync(500);
    await vi.advanceTimersByTimeAsync(8999);
    expect([ScriptedSocket.all.length, http.requests.length]).toEqual([4, 0]);
    const hanging = ScriptedSocket.all.slice(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(http.requests.length).toBe(1);
    hanging[1]!.greet();
    expect(made.transport).toBe('websocket');
    expect(hanging.map(({ readyState }) => readyState)).toEqual([3, 1, 3]);
  });

  test('a server that comes back between two transports of an attempt gets its client back on the WebSocket', async () => {
    await fallbackAfterOutage();
    expect(http.sessions.size).toBe(1);
    expect(made.state).toBe('connecting');
    ScriptedSocket.last.greet();
    expect(made.transport).toBe('websocket');
  });

  test('where only the fallback gets through after an outage, the next attempt stays with it', async () => {
    await fallbackAfterOutage();
    ScriptedSocket.last.end();
    await vi.advanceTimersByTimeAsync(2000);
    ScriptedSocket.last.end();
    await settled();
    http.receiver.write(`o\n${frames(GREETING)}`);
    await settled();
    expect(made.transport).toBe('streaming');
  });

  async function fallbackAfterOutage() {
    client({});
    ScriptedSocket.last.greet();
    for (let n = 0; n < 4; n += 1) {
      ScriptedSocket.last.end();
      await vi.advanceTimersByTimeAsync(2000);
    }
    ScriptedSocket.last.end();
    await settled();
    http.receiver.write(`o\n${frames(GREETING)}`);
    await settled();
  }

  test('after a fallback the WebSocket is tried first again, with less of a head start', async () => {
    client({});
    ScriptedSocket.last.end();
    await settled();
    http.receiver.write(`o\n${frames(GREETING)}`);
    await settled();
    http.receiver.end();
    await vi.advanceTimersByTimeAsync(500);
    expect(ScriptedSocket.all).toHaveLength(2);
    const before = http.requests.length;
    await vi.advanceTimersByTimeAsync(1000);
    expect(http.requests.length).toBe(before + 1);
  });

  test('only the transports that are wanted are tried', async () => {
    client({ transports: ['polling'] });
    await settled();
    expect(ScriptedSocket.all).toEqual([]);
    expect(http.requests.map(({ path }) => path)).toEqual(['xhr']);
  });
});

describe.each(['streaming', 'polling'] as const)('%s', (name) => {
  async function connected(): Promise<void> {
    client({ transports: [name] });
    await settled();
    http.receiver.write(`o\n${frames(GREETING)}`);
    await settled();
    expect(made.socketId).toBe('9.9');
  }

  test('receives frames, several in a line and split wherever the network splits', async () => {
    await connected();
    const channel = made.channel('news');
    const seen: unknown[] = [];
    channel.bind('e', (data) => seen.push(data));
    await settled();
    expect(http.sent()).toEqual([{ event: 'pusher:subscribe', data: { channel: 'news', auth: '', recover: true } }]);
    const succeeded = { event: 'pusher_internal:subscription_succeeded', channel: 'news', data: {} };
    const event = (data: unknown) => ({ event: 'e', channel: 'news', data });
    http.receiver.write(frames(succeeded, event(1), event('Zürich 🎉')));
    await settled();
    const line = frames(event(3));
    if (name === 'streaming') {
      http.receiver.write(line.slice(0, 9));
      await settled();
      http.receiver.write(line.slice(9));
    } else {
      http.receiver.write(line);
    }
    await settled();
    expect(seen).toEqual([1, 'Zürich 🎉', 3]);
    expect(http.sessions.size).toBe(1);
  });

  test('sends in order, and together what waits for an earlier request', async () => {
    await connected();
    for (const n of [1, 2, 3]) made.channel(`c${n}`);
    await settled();
    const bodies = http.requests.filter(({ path }) => path === 'xhr_send').map(({ body }) => JSON.parse(body).length);
    expect(bodies).toEqual([1, 2]);
    expect(http.sent().map((frame: any) => frame.data.channel)).toEqual(['c1', 'c2', 'c3']);
  });

  test('a session that the server no longer knows is a lost connection', async () => {
    await connected();
    http.sendStatus = 404;
    made.channel('news');
    await settled();
    expect(made.state).toBe('connecting');
    expect(errors).toMatchObject([{ code: 'connection_lost' }]);
  });

  test.each([
    ['a close line', 'c[4009,"closed by an operator"]\n', 'disconnected'],
    ['a second greeting', 'o\n', 'connecting'],
  ])('%s ends it', async (_, line, state) => {
    await connected();
    http.receiver.write(line);
    await settled();
    expect(made.state).toBe(state);
  });

  test('an unknown key is told in a close line', async () => {
    client({ transports: [name] });
    await settled();
    http.receiver.write('o\nc[4001,"no such app"]\n');
    await settled();
    expect(made.state).toBe('disconnected');
    expect(errors).toMatchObject([{ closeCode: 4001 }]);
  });

  test('an error status is a lost connection', async () => {
    client({ transports: ['polling'] });
    await settled();
    http.receiver.fail(503);
    await settled();
    expect(errors).toMatchObject([{ code: 'connection_lost' }]);
  });

  test('silence is asked about, and heartbeats are life', async () => {
    await connected();
    await vi.advanceTimersByTimeAsync(110_000);
    http.receiver.write('h\n');
    await vi.advanceTimersByTimeAsync(110_000);
    const pings = () => http.requests.filter(({ body }) => body === '[]').length;
    const answered = name === 'streaming' ? 1 : 0;
    expect(pings()).toBe(answered);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(pings()).toBe(answered + 1);
    await vi.advanceTimersByTimeAsync(15_000);
    expect(made.state).toBe('connecting');
  });

  test('takes no more than so much while it cannot send', async () => {
    await connected();
    for (let n = 0; n < 300; n += 1) made.channel(`c${n}`);
    await settled();
    expect(http.sent().length).toBe(257);
  });
});
