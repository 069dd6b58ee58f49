import { beforeEach, expect, test } from 'vitest';
import type { Me, Schemas } from '../src/api/client';
import { ago, bytes, count, duration, localTime, pretty, rate, utc } from '../src/format';
import { chordTarget } from '../src/keyboard';
import { apps } from '../src/apps';
import { clientSnippet } from '../src/client-snippets';
import { tailCommand, filtersOf } from '../src/pages/console';
import { appsOf, cleanApps } from '../src/pages/rights';
import { sumOfRates } from '../src/pages/overview';
import { APP_PAGES, match, SERVER_PAGES } from '../src/pages';
import { ratesBetween } from '../src/rates';
import { href, parseRoute, setQuery, route } from '../src/router';
import { find } from '../src/search';
import { dropSnippet, keepSnippet, loadSnippets, MAX_SNIPPETS } from '../src/sender/snippets';
import { EMPTY } from '../src/sender/message';
import { reasonAgainst } from '../src/session';
import { changes, formOf, problemOf, rulesOf } from '../src/settings-form';
import { visibleRows } from '../src/console/list';
import { FACTS } from '../src/api/facts';

beforeEach(() => localStorage.clear());

test('an address holds any name', () => {
  for (const name of ['news', '#server-to-user-a', 'a/b?c=d&e', '100 %', 'ä;@,=']) {
    expect(parseRoute(href(['apps', name, 'channels'], { channel: name })).path).toEqual(['apps', name, 'channels']);
    expect(parseRoute(href(['x'], { channel: name })).query.get('channel')).toBe(name);
  }
  expect(parseRoute('#/apps/%E0%A4%A').path).toEqual(['apps', '%E0%A4%A']);
  expect(parseRoute('').path).toEqual([]);
});

test('an empty filter is not in the address', () => {
  location.hash = '#/apps/1/console?channel=a';
  route.value = parseRoute(location.hash);
  setQuery({ channel: '', event: 'b' });
  expect(location.hash).toBe('#/apps/1/console?event=b');
});

test('every entry of the navigation leads to a page, and each key to one', () => {
  for (const { path } of SERVER_PAGES) expect(match(path ? [path] : []), path).toBeDefined();
  for (const { path } of APP_PAGES) expect(match(['apps', '1', ...(path ? [path] : [])])?.params, path).toMatchObject({ appId: '1' });
  expect(match(['nothing'])).toBeUndefined();
  const chords = [...SERVER_PAGES, ...APP_PAGES].map(({ chord }) => chord);
  expect(new Set(chords).size).toBe(chords.length);
  expect(chordTarget('c', undefined)).toBeUndefined();
  expect(chordTarget('c', 'a b')).toBe('#/apps/a%20b/console');
});

test('the search finds apps, their pages and those of the server', () => {
  const apps = [{ id: '17', name: 'orders' }, { id: '18', name: 'blog' }];
  const titles = (question: string, app?: string) => find(question, app, apps).map(({ title, note }) => `${title} (${note})`);
  expect(titles('ord')).toEqual(['orders (app 17)']);
  expect(titles('18')).toEqual(['blog (app 18)']);
  expect(titles('orders console')).toEqual(['Live console of orders (app 17)']);
  expect(titles('audit')).toEqual(['Audit log (server)']);
  expect(titles('live con', '18')).toEqual(['Live console (blog)', 'Live console of orders (app 17)']);
  expect(titles('<script>')).toEqual([]);
});

test('what an operator may not do is said with the reason', () => {
  const who = (role: Schemas['Role'], apps: string[] | null, kind: Me['kind'] = 'operator'): Me => ({ apps, id: 'op_1', kind, name: 'x', role });
  expect(reasonAgainst(who('viewer', null), 'app-admin')).toBe('This needs the role admin; you are a viewer.');
  expect(reasonAgainst(who('admin', ['1']), 'app-admin')).toBeUndefined();
  expect(reasonAgainst(who('admin', ['1']), 'admin-of-all')).toBe('This needs rights on all apps; yours end at the app 1.');
  expect(reasonAgainst(who('owner', ['1', '2']), 'owner')).toBe('This needs rights on all apps; yours end at 2 apps.');
  expect(reasonAgainst(who('admin', null), 'owner')).toBe('This needs the role owner; you are an admin.');
  expect(reasonAgainst(who('owner', null), 'owner')).toBeUndefined();
  expect(reasonAgainst(who('viewer', null), 'sight-of-all')).toBeUndefined();
  expect(reasonAgainst(who('owner', null, 'token'), 'person')).toMatch(/sign in as an operator/);
});

test('numbers are short, and times are those of the zone with UTC beside them', () => {
  expect([0, 999, 12_345, 123_456, 4_200_000].map(count)).toEqual(['0', '999', '12,345', '123.5K', '4.2M']);
  expect([0, 0.04, 3.26, 1204].map(rate)).toEqual(['0', '0.0', '3.3', '1,204']);
  expect([0, 1023, 1536, 5 * 1024 ** 3].map(bytes)).toEqual(['0 B', '1023 B', '1.5 KiB', '5.0 GiB']);
  expect([5, 1500, 61_000, 3_600_000, 90_000_000].map(duration)).toEqual(['5 ms', '1.5 s', '1 min 1 s', '1 h', '1 d 1 h']);
  expect([ago(1000, 62_000), ago(62_000, 1000), ago(5, 6)]).toEqual(['1 min 1 s ago', 'in 1 min 1 s', 'now']);
  const at = Date.UTC(2026, 1, 3, 4, 5, 6, 7);
  expect(utc(at)).toBe('2026-02-03 04:05:06.007 UTC');
  expect(new Date(localTime(at)).getTime()).toBe(at - 7);
  expect([pretty('{"a":1}'), pretty('no')]).toEqual(['{\n  "a": 1\n}', 'no']);
});

test('rates come from two totals, also over a restart', () => {
  const rates = ratesBetween({ at: 1000, totals: { a: 10, b: 100 } }, { at: 3000, totals: { a: 30, b: 20, c: 7 } });
  expect(rates).toEqual({ a: 10, b: 10, c: 0 });
  expect(ratesBetween({ at: 1, totals: { a: 1 } }, { at: 1, totals: { a: 5 } })).toEqual({ a: 0 });
});

test('a node that comes adds nothing to the rates of all until its second look', () => {
  const node = (name: string, deliveries: number) => ({ name, deliveries, messages_received: 0, events_published: 0, refusals: 0, cpu_seconds: 0 }) as never;
  const before = { at: 0, unanswered: [], nodes: [node('a', 100)] };
  const now = { at: 1000, unanswered: [], nodes: [node('a', 150), node('b', 9999)] };
  expect(sumOfRates(before, now)).toMatchObject({ deliveries: 50 });
});

test('filters of an address that the server would refuse become what it takes', () => {
  const of = (query: string) => filtersOf(new URLSearchParams(query));
  expect(of('kinds=publish,nothing,refused&rate=9999')).toMatchObject({ kinds: 'publish,refused', rate: 200 });
  expect([of('rate=-1').rate, of('rate=x').rate, of('rate=7').rate]).toEqual([50, 50, 7]);
});

test('the same view as a command', () => {
  expect(tailCommand('1', filtersOf(new URLSearchParams("channel=room-*&user_id=it's")))).toBe(
    `fanfare tail --app 1 --channel 'room-*' --user 'it'\\''s' --server ${location.origin} --token-file token.txt`,
  );
  expect(tailCommand('1', filtersOf(new URLSearchParams('text=--help')))).toContain(' --text=--help ');
});

test('only visible rows are drawn, however many there are', () => {
  expect(visibleRows(0, 280, 2000, 28)).toEqual({ from: 0, to: 18 });
  const { from, to } = visibleRows(28_000, 280, 2000, 28);
  expect([from, to]).toEqual([992, 1018]);
  expect(visibleRows(28_000, 280, 5, 28)).toEqual({ from: 992, to: 5 });
});

function app(): Schemas['App'] {
  const defaults = (facts: Record<string, { default: unknown }>) => Object.fromEntries(Object.entries(facts).map(([name, fact]) => [name, fact.default]));
  const settings = { ...defaults(FACTS.settings), allowed_origins: ['https://a.example'], client_event_channels: ['chat-*'], socket_io: { broadcast: ['chat'] }, history: [{ channels: 'room-*', size: 10, ttl: 60 }], limits: defaults(FACTS.limits), quotas: defaults(FACTS.quotas) };
  return { id: '1', name: 'orders', created_at: 1, updated_at: 1, settings: settings as never };
}

test('a form that was not changed sends nothing, and one that was sends what differs', () => {
  const form = formOf(app());
  expect([problemOf(form), changes(form, form)]).toEqual([undefined, {}]);
  const changed = { ...form, name: ' shop ', flags: { ...form.flags, client_events: true }, origins: '', clientEventChannels: ' chat-*\nlobby ', socketIoBroadcast: 'lobby\n', history: 'a 1 2\n\n b-* 3 4 ', limits: { ...form.limits, connections: '5' } };
  expect(changes(form, changed)).toEqual({
    name: 'shop',
    settings: { client_events: true, allowed_origins: [], client_event_channels: ['chat-*', 'lobby'], socket_io: { broadcast: ['lobby'] }, history: [{ channels: 'a', size: 1, ttl: 2 }, { channels: 'b-*', size: 3, ttl: 4 }], limits: { connections: 5 } },
  });
  expect(changes(changed, form)).toMatchObject({ name: 'orders', settings: { client_events: false, limits: { connections: 0 } } });
});

test('a form that can not be sent says what is wrong', () => {
  const form = formOf(app());
  expect(problemOf({ ...form, name: ' ' })).toMatch(/name/);
  expect(problemOf({ ...form, limits: { ...form.limits, connections: '1.5' } })).toBe('connections: “1.5” is not a whole number.');
  expect(rulesOf('room-* many 60')).toMatch(/“room-\* many 60” must be/);
});

test('snippets are kept in the browser, bounded, and foreign content of its storage does no harm', () => {
  keepSnippet({ name: 'a', draft: { ...EMPTY, channels: 'one' } });
  keepSnippet({ name: 'b', draft: EMPTY });
  keepSnippet({ name: 'a', draft: { ...EMPTY, channels: 'two' } });
  expect(loadSnippets().map(({ name, draft }) => [name, draft.channels])).toEqual([['a', 'two'], ['b', '']]);
  expect(dropSnippet('a').map(({ name }) => name)).toEqual(['b']);
  for (let n = 0; n < MAX_SNIPPETS + 5; n += 1) keepSnippet({ name: String(n), draft: EMPTY });
  expect(loadSnippets().length).toBe(MAX_SNIPPETS);
  for (const foreign of ['{', '{}', '[1, null, {"name": 1}, {"name": "x", "draft": {"data": 1}}]']) {
    localStorage.setItem('fanfare.snippets', foreign);
    expect(loadSnippets()).toEqual([]);
  }
});

test('rights name apps by id or by name, and unknown ones are refused', () => {
  apps.value = [
    { id: '1', name: 'Shop' },
    { id: '2', name: 'News' },
    { id: '3', name: 'news' },
  ] as never;
  expect(cleanApps(null)).toBe(null);
  expect(cleanApps([''])).toBe(null);
  expect(cleanApps(['shop', '2', ''])).toEqual(['1', '2']);
  expect(() => cleanApps(['News'])).toThrow('by its id: 2, 3');
  expect(() => cleanApps(['Other'])).toThrow('no app with the id or name Other');
  expect(appsOf(['1', '9'])).toBe('Shop (1), 9');
});

test('code of a client connects where the page is from', () => {
  const tls = clientSnippet('pusher-js', 'k', 'https://realtime.example.com/fanfare');
  expect(tls).toContain("wsHost: 'realtime.example.com', wssPort: 443,");
  expect(tls).toContain("wsPath: '/fanfare', httpPath: '/fanfare/pusher',");
  expect(tls).toContain('forceTLS: true');
  const plain = clientSnippet('Laravel Echo', "it's", 'http://127.0.0.1:6001');
  expect(plain).toContain("key: 'it\\'s'");
  expect(plain).toContain("httpHost: '127.0.0.1', httpPort: 6001,");
  expect(plain).not.toContain('wsPath');
  // What is shown is a program.
  for (const name of ['pusher-js', 'Laravel Echo'] as const) {
    const body = clientSnippet(name, 'k', 'https://example.com').replace(/^(import .*|<.*)$/gm, '');
    expect(() => new Function(body)).not.toThrow();
  }
});
