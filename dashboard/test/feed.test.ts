import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { CAPACITY, Feed, type Filters, type Handlers } from '../src/console/feed';

const FILTERS: Filters = { kinds: '', channel: '', event: '', user_id: '', socket_id: '', text: '', rate: 50 };
const streams: { url: string; on: Handlers; closed: boolean }[] = [];
let frames: (() => void)[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  streams.length = 0;
  frames = [];
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function open(filters: Partial<Filters> = {}): Feed {
  return new Feed(
    'a/b',
    { ...FILTERS, ...filters },
    (url, on) => {
      const stream = { url, on, closed: false };
      streams.push(stream);
      return { close: () => (stream.closed = true) };
    },
    (run) => frames.push(run),
  );
}

function line(id: number, extra: object = {}) {
  streams.at(-1)?.on.event('line', JSON.stringify({ id: `n-${id}`, time_ms: id, node: 'n', kind: 'publish', ...extra }));
}

const more = (count: number) => streams.at(-1)?.on.event('more', JSON.stringify({ count }));

/** What the rows say, newest first. */
function rows(feed: Feed): string[] {
  return Array.from({ length: feed.rows.length }, (_, at) => {
    const row = feed.rows.at(at);
    return row?.at === 'line' ? row.line.id : `${row?.count} ${row?.because}`;
  });
}

function frame() {
  const now = frames;
  frames = [];
  now.forEach((run) => run());
}

test('the address has the filters that are set, the speed and how much is to come first', () => {
  open({ channel: 'room-*', kinds: 'publish,refused' });
  expect(streams[0]?.url).toBe('/api/v1/apps/a%2Fb/events/live?kinds=publish%2Crefused&channel=room-*&rate=50&recent=200');
});

test('many lines change the page once a frame', () => {
  const feed = open();
  const before = feed.version.value;
  for (let id = 1; id <= 500; id += 1) line(id);
  expect([frames.length, feed.version.value]).toEqual([1, before]);
  frame();
  expect([feed.version.value, feed.added, feed.rows.length]).toEqual([before + 1, 500, 500]);
});

test('no more lines are kept than there is room for, nor their ids', () => {
  const feed = open();
  for (let id = 0; id < 3 * CAPACITY; id += 1) line(id);
  expect(feed.rows.length).toBe(CAPACITY);
  // One that was pushed out is new again; one that is there is not.
  line(0);
  line(3 * CAPACITY - 1);
  expect(rows(feed).slice(0, 2)).toEqual(['n-0', `n-${3 * CAPACITY - 1}`]);
});

test('counts of what was left out are added up, and none is lost', () => {
  const feed = open();
  line(1);
  more(5);
  more(7);
  line(2);
  more(1);
  expect([rows(feed), feed.leftOut]).toEqual([['1 rate', 'n-2', '12 rate', 'n-1'], 13]);
});

test('what comes during a pause is counted, and shown when it ends', () => {
  const feed = open();
  line(1);
  feed.pause();
  line(2);
  more(40);
  line(3);
  frame();
  expect([rows(feed), feed.held.value]).toEqual([['n-1'], 42]);
  feed.resume();
  frame();
  expect([rows(feed), feed.held.value]).toEqual([['n-3', '40 rate', 'n-2', 'n-1'], 0]);
});

test('what does not fit into memory during a pause is counted', () => {
  const feed = open();
  feed.pause();
  for (let id = 1; id <= CAPACITY + 30; id += 1) line(id);
  frame();
  expect(feed.held.value).toBe(CAPACITY + 30);
  feed.resume();
  // The row that counts them needs a place as well.
  expect(rows(feed).length).toBe(CAPACITY);
  expect(rows(feed).slice(-2)).toEqual(['n-32', '31 pause']);
});

test('a lost stream is opened again, with pauses that grow, and repeats are not shown', () => {
  const feed = open();
  streams[0]?.on.open();
  line(1);
  line(2);
  const waits = [];
  for (let attempt = 0; attempt < 5; attempt += 1) {
    const before = streams.length;
    streams.at(-1)?.on.lost(false);
    expect(feed.state.value.at).toBe('again');
    let waited = 0;
    while (streams.length === before) {
      vi.advanceTimersByTime(500);
      waited += 500;
    }
    waits.push(waited);
  }
  expect(waits).toEqual([500, 1000, 2000, 5000, 5000]);
  expect(streams.slice(0, -1).every(({ closed }) => closed)).toBe(true);
  streams.at(-1)?.on.open();
  line(1);
  line(2);
  line(3);
  expect([feed.state.value.at, rows(feed)]).toEqual(['open', ['n-3', 'n-2', 'n-1']]);
});

test('a refused stream says why and is not opened again', async () => {
  vi.stubGlobal('fetch', async () => new Response('{"code":"invalid","detail":"rate: 1 to 200"}', { status: 400 }));
  const feed = open();
  streams[0]?.on.lost(true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect([feed.state.value, streams.length]).toEqual([{ at: 'ended', because: 'rate: 1 to 200' }, 1]);
});

test('a stream that the server ends and refuses from then on says why', async () => {
  vi.stubGlobal('fetch', async () => new Response('{"code":"unauthorized","detail":"sign in again"}', { status: 401 }));
  const feed = open();
  streams[0]?.on.event('end', '{"reason":"the session has ended"}');
  streams[0]?.on.lost(false);
  await vi.advanceTimersByTimeAsync(60_000);
  expect([feed.state.value, streams.length]).toEqual([{ at: 'ended', because: 'the session has ended' }, 1]);
});

test('a stream that a stopping node ends is opened again', async () => {
  vi.stubGlobal('fetch', async () => new Response('event: hello\n\n'));
  const feed = open();
  streams[0]?.on.event('end', '{"reason":"this node is stopping; connect again"}');
  streams[0]?.on.lost(false);
  await vi.advanceTimersByTimeAsync(0);
  expect(feed.state.value).toEqual({ at: 'again', because: 'this node is stopping; connect again' });
  await vi.advanceTimersByTimeAsync(500);
  expect(streams.length).toBe(2);
});

test('a closed feed neither draws nor opens anything', async () => {
  const feed = open();
  const before = feed.version.value;
  line(1);
  streams[0]?.on.lost(false);
  feed.close();
  frame();
  await vi.advanceTimersByTimeAsync(60_000);
  expect([feed.version.value, streams.length, streams[0]?.closed]).toEqual([before, 1, true]);
});

test('what was cleared does not come back when the stream is opened again', async () => {
  const feed = open();
  for (const id of [1, 2, 3]) line(id);
  feed.clear();
  streams.at(-1)?.on.lost(false);
  await vi.advanceTimersByTimeAsync(500);
  expect(streams.length).toBe(2);
  for (const id of [1, 2, 3, 4]) line(id);
  // Another node counts for itself, and so does one that has started again.
  line(2, { id: 'm-2', node: 'm' });
  line(1, { time_ms: 5_000 });
  expect(rows(feed)).toEqual(['n-1', 'm-2', 'n-4']);
});
