import { describe, expect, test, vi } from 'vitest';
import type { FanfareError } from '../../src/index.js';
import { ScriptedSocket } from '../support/scripted-socket.js';
import { client, connected, settled } from './setup.js';

const last = () => ScriptedSocket.last;
const auth = { channel: () => ({ auth: 'KEY:signature' }) };

function outage(): void {
  last().end();
  vi.advanceTimersByTime(1000);
  last().greet();
}

describe('subscribing', () => {
  test('a channel is subscribed to as soon as there is a connection, once', () => {
    const made = client();
    const channel = made.channel('news');
    expect(made.channel('news')).toBe(channel);
    expect(channel.state).toBe('pending');
    last().greet();
    expect(last().sentOf('pusher:subscribe')).toEqual([{ channel: 'news', auth: '', recover: true }]);
    last().confirm('news');
    expect(channel.state).toBe('subscribed');
  });

  test('ready() resolves when the server has confirmed, and again at once', async () => {
    const channel = connected().channel('news');
    const ready = channel.ready();
    last().confirm('news');
    await ready;
    await channel.ready();
  });

  test('ready() rejects when the subscription is refused, unsubscribed, aborted or the client disconnected', async () => {
    const made = connected({ auth });
    const refused = made.channel('private-a').ready();
    await settled();
    last().receive(
      'pusher:subscription_error',
      { type: 'AuthError', error: 'no', status: 401 },
      { channel: 'private-a' },
    );
    await expect(refused).rejects.toMatchObject({ code: 'subscription_refused', status: 401, channel: 'private-a' });

    const left = made.channel('b').ready();
    made.channel('b').unsubscribe();
    await expect(left).rejects.toMatchObject({ code: 'closed' });

    const abort = new AbortController();
    const aborted = made.channel('c').ready({ signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');

    const closed = made.channel('d').ready();
    made.disconnect();
    await expect(closed).rejects.toMatchObject({ code: 'closed' });
    await expect(made.channel('d').ready()).rejects.toMatchObject({ code: 'closed' });
  });

  test('ready() of a refused channel rejects with what was wrong', async () => {
    const channel = connected({ auth }).channel('private-a');
    channel.on('error', () => {});
    await settled();
    last().receive(
      'pusher:subscription_error',
      { type: 'AuthError', error: 'no', status: 401 },
      { channel: 'private-a' },
    );
    expect(channel.state).toBe('failed');
    await expect(channel.ready()).rejects.toMatchObject({ status: 401 });
  });

  test('a refused connection ends waiting for channels with its reason', async () => {
    const channel = client().channel('news');
    const ready = channel.ready();
    last().end(4001, 'no such app');
    await expect(ready).rejects.toMatchObject({ code: 'connection_refused', closeCode: 4001 });
  });

  test('unsubscribing while the server has not answered yet takes effect when it has', () => {
    const made = connected();
    const channel = made.channel('news');
    channel.unsubscribe();
    expect(last().sentOf('pusher:unsubscribe')).toEqual([]);
    last().confirm('news');
    expect(last().sentOf('pusher:unsubscribe')).toEqual([{ channel: 'news' }]);
    expect(made.channels()).toEqual([]);
  });

  test('who unsubscribes and subscribes before the answer stays subscribed', () => {
    const made = connected();
    made.channel('news').unsubscribe();
    const channel = made.channel('news');
    last().confirm('news');
    expect(channel.state).toBe('subscribed');
    expect(last().sent).toHaveLength(1);
  });

  test('a channel that was unsubscribed hears nothing more', () => {
    const channel = connected().channel('news');
    last().confirm('news');
    const heard = vi.fn();
    channel.bind('e', heard);
    channel.unsubscribe();
    last().receive('e', 1, { channel: 'news' });
    expect(heard).not.toHaveBeenCalled();
  });

  test('events of the former subscription are none of the new one', () => {
    const made = connected();
    made.channel('news');
    last().confirm('news', { position: 'p0' });
    made.channel('news').unsubscribe();
    const channel = made.channel('news');
    const heard = vi.fn();
    channel.bind('e', heard);
    last().receive('e', 1, { channel: 'news', position: 'p1' }).confirm('news', { position: 'p1' });
    last().receive('e', 2, { channel: 'news', position: 'p2' });
    expect(heard.mock.calls).toEqual([[2, {}]]);
  });

  test('signals unsubscribe and take listeners away', () => {
    const made = connected();
    const [subscription, listening] = [new AbortController(), new AbortController()];
    const channel = made.channel('news', { signal: subscription.signal });
    last().confirm('news');
    const heard = vi.fn();
    channel.bind('e', heard, { signal: listening.signal });
    last().receive('e', 1, { channel: 'news' });
    listening.abort();
    last().receive('e', 2, { channel: 'news' });
    expect(heard).toHaveBeenCalledOnce();
    subscription.abort();
    expect(last().sentOf('pusher:unsubscribe')).toEqual([{ channel: 'news' }]);
  });

  test('a refused signature is told once, by the channel', async () => {
    const made = connected({ auth: { channel: () => ({ auth: 'KEY:forged' }) } });
    const told: string[] = [];
    made.on('error', ({ code }) => told.push(code));
    made.channel('private-x').on('error', ({ code, status }) => told.push(`${code} ${status}`));
    await settled();
    last().receive('pusher:error', { code: null, message: 'Invalid signature' });
    last().receive('pusher:subscription_error', { type: 'AuthError', error: 'Invalid signature', status: 401 }, { channel: 'private-x' });
    last().receive('pusher:pong', {});
    expect(told).toEqual(['subscription_refused 401']);
  });

  test('an encrypted channel without decryption is an error of the channel, and no exception', async () => {
    const made = connected();
    const channel = made.channel('private-encrypted-x');
    const errors: FanfareError[] = [];
    channel.on('error', (error) => errors.push(error));
    await expect(channel.ready()).rejects.toMatchObject({ code: 'unsupported', channel: 'private-encrypted-x' });
    expect(errors).toHaveLength(1);
    expect(errors[0]!.message).toMatch(/load fanfare-encrypted\.js .* @fanfare\/client\/encrypted/);
    expect(last().sentOf('pusher:subscribe')).toEqual([]);
  });

  test('names that no channel can have, and that of a user, are refused where they are given', () => {
    const made = client();
    expect(() => made.channel('no spaces')).toThrow(/allowed are/);
    expect(() => made.channel('#server-to-user-1')).toThrow(/signin\(\)/);
  });
});

describe('events', () => {
  test('go to the listeners of their name and to those of all', () => {
    const channel = connected().channel<{ shipped: { id: number } }>('orders');
    last().confirm('orders');
    const [one, all] = [vi.fn(), vi.fn()];
    const off = channel.bind('shipped', one);
    channel.bindAll(all);
    last().receive('shipped', { id: 1 }, { channel: 'orders' });
    expect(one).toHaveBeenCalledWith({ id: 1 }, {});
    expect(all).toHaveBeenCalledWith({ event: 'shipped', data: { id: 1 } });
    off();
    off();
    last().receive('shipped', { id: 2 }, { channel: 'orders' });
    expect(one).toHaveBeenCalledOnce();
  });

  test('may be taken once', () => {
    const channel = connected().channel('orders');
    last().confirm('orders');
    const heard = vi.fn();
    channel.bind('e', heard, { once: true });
    last().receive('e', 1, { channel: 'orders' }).receive('e', 2, { channel: 'orders' });
    expect(heard.mock.calls).toEqual([[1, {}]]);
  });

  test('of the protocol itself are none of the application', () => {
    const channel = connected().channel('orders');
    last().confirm('orders');
    const [all, count, miss] = [vi.fn(), vi.fn(), vi.fn()];
    channel.bindAll(all);
    channel.on('count', count);
    channel.on('cacheMiss', miss);
    last().receive('pusher_internal:subscription_count', { subscription_count: 3 }, { channel: 'orders' });
    last().receive('pusher:cache_miss', {}, { channel: 'orders' });
    last().receive('pusher:from_the_future', {}, { channel: 'orders' });
    expect(all).not.toHaveBeenCalled();
    expect(count).toHaveBeenCalledWith(3);
    expect(channel.count).toBe(3);
    expect(miss).toHaveBeenCalledOnce();
  });

  test('of the client are sent while subscribed, and never kept', async () => {
    const made = connected({ auth });
    const channel = made.channel('private-chat');
    expect(channel.trigger('client-typing', { on: true })).toBe(false);
    await settled();
    last().confirm('private-chat');
    expect(channel.trigger('client-typing', { on: true })).toBe(true);
    expect(last().sent.at(-1)).toEqual({ event: 'client-typing', channel: 'private-chat', data: { on: true } });
    last().bufferedAmount = 100_000_000;
    expect(channel.trigger('client-typing', { on: true })).toBe(false);
    expect(() => channel.trigger('typing')).toThrow(/client-/);
    // Which public channels take them, the server knows.
    const open = made.channel('chat-1');
    last().confirm('chat-1');
    last().bufferedAmount = 0;
    expect(open.trigger('client-typing')).toBe(true);
  });
});

describe('a for await loop', () => {
  test('gets the events from its beginning on, in order, and ends with the subscription', async () => {
    const channel = connected().channel<{ n: number }>('numbers');
    last().confirm('numbers');
    const events = channel.events();
    for (let n = 1; n <= 3; n += 1) last().receive('n', n, { channel: 'numbers' });
    channel.unsubscribe();
    const seen: number[] = [];
    for await (const { event, data } of events) if (event === 'n') seen.push(data);
    expect(seen).toEqual([1, 2, 3]);
  });

  test('waits for events', async () => {
    const channel = connected().channel('numbers');
    last().confirm('numbers');
    const seen: unknown[] = [];
    const loop = (async () => {
      for await (const { data } of channel) {
        seen.push(data);
        if (data === 2) break;
      }
    })();
    for (let n = 1; n <= 3; n += 1) {
      last().receive('n', n, { channel: 'numbers' });
      await settled();
    }
    await loop;
    expect(seen).toEqual([1, 2]);
  });

  test('goes on after a lost connection', async () => {
    const channel = connected().channel('numbers');
    last().confirm('numbers');
    const events = channel.events();
    outage();
    last().confirm('numbers').receive('n', 1, { channel: 'numbers' });
    expect((await events.next()).value).toEqual({ event: 'n', data: 1 });
  });

  test('ends with its signal', async () => {
    const channel = connected().channel('numbers');
    const abort = new AbortController();
    const events = channel.events({ signal: abort.signal });
    const waiting = events.next();
    abort.abort();
    expect(await waiting).toEqual({ done: true, value: undefined });
  });

  test('that is too slow is told so, after what it could keep', async () => {
    const channel = connected().channel('numbers');
    last().confirm('numbers');
    const events = channel.events({ limit: 2 });
    for (let n = 1; n <= 5; n += 1) last().receive('n', n, { channel: 'numbers' });
    const seen: unknown[] = [];
    await expect(
      (async () => {
        for await (const { data } of events) seen.push(data);
      })(),
    ).rejects.toMatchObject({ code: 'buffer_full' });
    expect(seen).toEqual([1, 2, 3]);
  });

  test('of a refused channel throws what was wrong', async () => {
    const channel = connected({ auth: { channel: () => Promise.reject(new Error('not today')) } }).channel('private-a');
    const next = channel.events().next();
    await expect(next).rejects.toMatchObject({ code: 'auth_failed' });
  });
});

describe('after a lost connection', () => {
  test('a channel is subscribed to again with its last position and the former socket id', () => {
    const channel = connected().channel('orders');
    const former = last().socketId;
    last().confirm('orders', { position: 'p0' });
    last().receive('e', 1, { channel: 'orders', position: 'p1' });
    outage();
    expect(last().sentOf('pusher:subscribe')).toEqual([
      { channel: 'orders', auth: '', recover: { position: 'p1', socket_id: former } },
    ]);
    const happened: unknown[] = [];
    channel.on('subscribed', (details) => happened.push(details));
    channel.on('recovered', () => happened.push('recovered'));
    channel.on('gap', () => happened.push('gap'));
    channel.bind('e', (data) => happened.push(data));
    last().confirm('orders', { position: 'p1', recovered: true });
    last().receive('e', 2, { channel: 'orders', position: 'p2' });
    expect(happened).toEqual([{ again: true, recovered: true }, 'recovered', 2]);
  });

  test('the former socket id is that of the connection on which the position was told', () => {
    connected().channel('orders');
    const former = last().socketId;
    last().confirm('orders', { position: 'p0' });
    outage();
    outage();
    expect(last().sentOf('pusher:subscribe')[0].recover).toEqual({ position: 'p0', socket_id: former });
  });

  test.each([
    [{ position: 'q0', recovered: false, reason: 'expired' }, 'expired'],
    [{ position: 'q0', recovered: false, reason: 'too_large' }, 'too_large'],
    [{ recovered: false, reason: 'off' }, 'off'],
    [{}, 'no_history'],
  ])('the application is told of a gap: %o', (about, reason) => {
    const channel = connected().channel('orders');
    last().confirm('orders', { position: 'p0' });
    const gaps: unknown[] = [];
    channel.on('gap', (gap) => gaps.push(gap));
    outage();
    last().confirm('orders', about);
    expect(gaps).toEqual([{ reason }]);
  });

  test('a first subscription is no gap, however often it was tried', () => {
    const channel = connected().channel('orders');
    const gap = vi.fn();
    channel.on('gap', gap);
    outage();
    last().confirm('orders');
    expect(gap).not.toHaveBeenCalled();
  });

  test('the last events before the first subscription are asked for only then', () => {
    const made = connected();
    made.channel('orders', { rewind: 5 });
    expect(last().sentOf('pusher:subscribe')).toEqual([{ channel: 'orders', auth: '', recover: true, rewind: 5 }]);
    last().confirm('orders');
    outage();
    expect(last().sentOf('pusher:subscribe')).toEqual([{ channel: 'orders', auth: '', recover: true }]);
  });

  test('who unsubscribes by hand begins anew', () => {
    const made = connected();
    made.channel('orders');
    last().confirm('orders', { position: 'p0' });
    made.channel('orders').unsubscribe();
    made.channel('orders');
    expect(last().sentOf('pusher:subscribe')[1]).toEqual({ channel: 'orders', auth: '', recover: true });
  });

  test('nothing is asked for where recovery is switched off', () => {
    connected({ recover: false }).channel('orders');
    expect(last().sentOf('pusher:subscribe')).toEqual([{ channel: 'orders', auth: '' }]);
  });

  test('disconnect() and connect() by hand recover as well', () => {
    const made = connected();
    made.channel('orders');
    const former = last().socketId;
    last().confirm('orders', { position: 'p0' });
    made.disconnect();
    made.connect();
    last().greet();
    expect(last().sentOf('pusher:subscribe')[0].recover).toEqual({ position: 'p0', socket_id: former });
  });
});

describe('auth', () => {
  const answer = (status: number, body: unknown) => ({ status, text: async () => JSON.stringify(body) });
  const good = answer(200, { auth: 'KEY:signature' });

  function withFetch(options: object, ...answers: unknown[]) {
    const fetch = vi.fn(async (..._all: any[]) => {
      const next = answers.length > 1 ? answers.shift() : answers[0];
      if (next instanceof Error) throw next;
      return next as never;
    });
    return { made: connected({ auth: options, fetch: fetch as never }), fetch };
  }

  test('is asked for at the endpoint, with headers and fields of the moment', async () => {
    let n = 0;
    const options = { endpoint: '/auth', headers: () => ({ 'X-N': String((n += 1)) }), params: { a: 'b c' } };
    const { made, fetch } = withFetch(options, good);
    made.channel('private-a');
    await settled();
    const [url, { body, headers, method }] = fetch.mock.calls[0]!;
    expect([method, url, body, headers['X-N']]).toEqual([
      'POST',
      '/auth',
      `a=b%20c&socket_id=${made.socketId}&channel_name=private-a`,
      '1',
    ]);
    expect(last().sentOf('pusher:subscribe')).toEqual([{ channel: 'private-a', auth: 'KEY:signature', recover: true }]);
  });

  test('is asked for anew on each connection', async () => {
    const { made, fetch } = withFetch({ endpoint: '/auth' }, good);
    made.channel('private-a');
    await settled();
    last().confirm('private-a');
    outage();
    await settled();
    expect(fetch).toHaveBeenCalledTimes(2);
    expect(last().sentOf('pusher:subscribe')).toHaveLength(1);
  });

  test('comes from the server itself where the application has a token, which may have expired once', async () => {
    const token = vi.fn(({ expired }: { expired: boolean }) => (expired ? 'new' : 'old'));
    const { made, fetch } = withFetch({ token }, answer(401, 'expired'), good);
    made.channel('private-a');
    await settled();
    expect(fetch.mock.calls.map(([url, { headers }]) => [url, headers.Authorization])).toEqual([
      ['https://realtime.example.com/app/KEY/auth', 'Bearer old'],
      ['https://realtime.example.com/app/KEY/auth', 'Bearer new'],
    ]);
    expect(last().sentOf('pusher:subscribe')).toHaveLength(1);
  });

  test('that is refused is told with status and place, and asked for on the next connection', async () => {
    const { made, fetch } = withFetch({ endpoint: '/auth' }, answer(403, 'not yours'), good);
    const channel = made.channel('private-a');
    const errors: FanfareError[] = [];
    channel.on('error', (error) => errors.push(error));
    await settled();
    expect(errors).toMatchObject([{ code: 'auth_failed', status: 403, channel: 'private-a' }]);
    expect(errors[0]!.message).toBe('Auth for private-a: /auth answered 403 "not yours"');
    vi.advanceTimersByTime(60_000);
    await settled();
    expect(fetch).toHaveBeenCalledTimes(1);
    last().receive('pusher:pong');
    outage();
    await settled();
    last().confirm('private-a');
    expect(channel.state).toBe('subscribed');
  });

  test.each([
    ['cannot be reached', new Error('fetch failed')],
    ['answers 503', answer(503, 'busy')],
    ['answers 429', answer(429, 'slowly')],
    ['answers 408', answer(408, 'too slow')],
  ])('is asked for again by and by when the endpoint %s', async (_, problem) => {
    const { made, fetch } = withFetch({ endpoint: '/auth' }, problem, problem, good);
    const channel = made.channel('private-a');
    const errors: FanfareError[] = [];
    channel.on('error', (error) => errors.push(error));
    await settled();
    expect(errors).toMatchObject([{ code: 'auth_failed', retrying: true }]);
    vi.advanceTimersByTime(1000);
    await settled();
    vi.advanceTimersByTime(2000);
    await settled();
    expect(fetch).toHaveBeenCalledTimes(3);
    expect(last().sentOf('pusher:subscribe')).toHaveLength(1);
  });

  test('is not asked for before the time that the endpoint names', async () => {
    const busy = new Response('busy', { status: 429, headers: { 'Retry-After': '2' } });
    const { made, fetch } = withFetch({ endpoint: '/auth' }, busy, good);
    const errors: FanfareError[] = [];
    made.channel('private-a').on('error', (error) => errors.push(error));
    await settled();
    expect(errors).toMatchObject([{ status: 429, retrying: true, retryAfter: 2_000 }]);
    vi.advanceTimersByTime(1_999);
    await settled();
    expect(fetch).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(1_001);
    await settled();
    expect(fetch).toHaveBeenCalledTimes(2);
    expect(last().sentOf('pusher:subscribe')).toHaveLength(1);
  });

  test('is not asked for before the date that the endpoint names', async () => {
    // HTTP dates have no milliseconds.
    vi.setSystemTime(Math.ceil(Date.now() / 1000) * 1000);
    const date = new Date(Date.now() + 20_000).toUTCString();
    const busy = new Response('busy', { status: 503, headers: { 'Retry-After': date } });
    const { made, fetch } = withFetch({ endpoint: '/auth' }, busy, good);
    const errors: FanfareError[] = [];
    made.channel('private-a').on('error', (error) => errors.push(error));
    await settled();
    expect(errors).toMatchObject([{ status: 503, retrying: true, retryAfter: 20_000, retryIn: 21_000 }]);
    vi.advanceTimersByTime(20_999);
    await settled();
    expect(fetch).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(1);
    await settled();
    expect(fetch).toHaveBeenCalledTimes(2);
  });

  test('is asked for after five minutes when the endpoint names a longer time', async () => {
    const busy = new Response('busy', { status: 503, headers: { 'Retry-After': '86400' } });
    const { made } = withFetch({ endpoint: '/auth' }, busy, good);
    const errors: FanfareError[] = [];
    made.channel('private-a').on('error', (error) => errors.push(error));
    await settled();
    expect(errors[0]!.retryIn).toBeGreaterThanOrEqual(300_000);
    expect(errors[0]!.retryIn).toBeLessThanOrEqual(301_000);
  });

  test.each(['soon', '-5', '0', '', 'Wed, 21 Oct 2015 07:28:00 GMT'])('is asked for as usual after "Retry-After: %s"', async (header) => {
    const busy = new Response('busy', { status: 503, headers: { 'Retry-After': header } });
    const { made, fetch } = withFetch({ endpoint: '/auth' }, busy, good);
    made.channel('private-a').on('error', () => {});
    await settled();
    vi.advanceTimersByTime(1000);
    await settled();
    expect(fetch).toHaveBeenCalledTimes(2);
  });

  test.each([0, 408, 429, 503])('is asked for again when a function of the application fails with status %i', async (status) => {
    const busy = () => Promise.reject(Object.assign(new Error('busy'), { status }));
    const ask = vi.fn().mockImplementationOnce(busy).mockReturnValueOnce({ auth: 'KEY:signature' });
    connected({ auth: { channel: ask } }).channel('private-a');
    await settled();
    vi.advanceTimersByTime(1000);
    await settled();
    expect(ask).toHaveBeenCalledTimes(2);
    expect(last().sentOf('pusher:subscribe')).toHaveLength(1);
  });

  test.each([undefined, 401, 403])('is final when a function of the application fails with status %s', async (status) => {
    const ask = vi.fn(() => Promise.reject(Object.assign(new Error('no'), { status })));
    const channel = connected({ auth: { channel: ask } }).channel('private-a');
    await settled();
    vi.advanceTimersByTime(60_000);
    await settled();
    expect(ask).toHaveBeenCalledTimes(1);
    expect(channel.state).toBe('failed');
  });

  test.each([
    ['an endpoint', { endpoint: '/auth' }, 'Auth for private-a: /auth: no answer within 15000 ms'],
    ['a function', { channel: () => new Promise<never>(() => {}) }, 'Auth for private-a: no answer within 15000 ms'],
    ['a token', { token: () => new Promise<never>(() => {}) }, 'Auth for private-a: no answer within 15000 ms'],
  ])('is given up after 15 s, and asked for again, when %s does not answer', async (_, auth, message) => {
    const hanging = vi.fn(() => new Promise<never>(() => {}));
    const made = connected({ auth, fetch: hanging as unknown as typeof fetch });
    const errors: FanfareError[] = [];
    const channel = made.channel('private-a');
    channel.on('error', (error) => errors.push(error));
    await settled();
    vi.advanceTimersByTime(15_000);
    await settled();
    expect(errors).toMatchObject([{ code: 'auth_failed', retrying: true, message }]);
    vi.advanceTimersByTime(1000);
    await settled();
    vi.advanceTimersByTime(15_000);
    await settled();
    expect(errors).toHaveLength(2);
    channel.unsubscribe();
    made.disconnect();
    expect(vi.getTimerCount()).toBe(0);
  });

  test('that answers nonsense is told so', async () => {
    const { made } = withFetch({ endpoint: '/auth' }, answer(200, { ok: true }));
    await expect(made.channel('private-a').ready()).rejects.toThrow(
      /expected {"auth":"KEY:SIGNATURE"}, got {"ok":true}/,
    );
  });

  test('that is not configured is told so', async () => {
    await expect(connected().channel('private-a').ready()).rejects.toThrow(/give auth.token/);
  });

  test('is given up when the channel is unsubscribed', async () => {
    let signal: AbortSignal | undefined;
    const made = connected({ auth: { channel: (request) => new Promise(() => (signal = request.signal)) } });
    made.channel('private-a').unsubscribe();
    expect(signal?.aborted).toBe(true);
    expect(last().sent).toEqual([]);
  });

  test('that arrives when its connection is gone is thrown away', async () => {
    const answers: ((auth: { auth: string }) => void)[] = [];
    const made = connected({ auth: { channel: () => new Promise((resolve) => answers.push(resolve)) } });
    made.channel('private-a');
    outage();
    answers[0]!({ auth: 'KEY:of-the-former' });
    await settled();
    expect(last().sent).toEqual([]);
    answers[1]!({ auth: 'KEY:of-this' });
    await settled();
    expect(last().sentOf('pusher:subscribe')).toMatchObject([{ auth: 'KEY:of-this' }]);
  });
});
