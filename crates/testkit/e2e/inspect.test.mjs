// What an operator finds out with the command line about channels, connections and the node of one server.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { nextErrorCode, startServer, subscribe } from './harness.mjs';

let server, flags, ada, since;
before(async () => {
  const history = JSON.stringify([{ channels: 'kept-*', size: 100, ttl: 300 }]);
  server = await startServer({ settings: { history } });
  const made = await server.cli('token', 'create', '--name', 'inspector', '--role', 'owner', '--json');
  since = new Date().toISOString();
  flags = ['--server', server.url, '--token', JSON.parse(made).secret];
  ada = server.client();
  await subscribe(ada, 'kept-news');
  await subscribe(ada, 'cache-last');
  await server.sdk().trigger(['kept-news', 'cache-last'], 'greeting', { text: 'hello' });
});
after(() => server?.stop());

const cli = (...words) => server.cli(...words, ...flags);
const json = async (...words) => JSON.parse(await cli(...words, '--json'));
const app = () => ['--app', server.app.id];

test('connections are listed, shown with what went over them, and closed', async () => {
  const { items } = await json('connection', 'list', ...app(), '--channel', 'kept-news');
  assert.equal(items.length, 1);
  const [{ socket_id: id, client }] = items;
  assert.equal(client, 'js');
  const table = await cli('connection', 'list', ...app());
  assert.ok(table.includes(id), table);
  const shown = await cli('connection', 'show', ...app(), id);
  assert.match(shown, /kept-news since .*, at \w+:1/);
  assert.match(shown, /sent +[1-9]\d* messages, [1-9]\d* bytes/);
  await assert.rejects(cli('connection', 'show', ...app(), '1.1'), /there is no connection 1\.1 of this app on any node/);
});

test('a channel shows what it keeps, and the events of its history', async () => {
  const kept = await json('channel', 'show', ...app(), 'kept-news');
  assert.equal(kept.history.rule.channels, 'kept-*');
  assert.equal(kept.history.oldest, kept.history.newest);
  assert.equal(kept.events_per_minute, 1);
  const cached = await json('channel', 'show', ...app(), 'cache-last');
  assert.equal(cached.cache.event, 'greeting');
  assert.equal(cached.cache.data, '{"text":"hello"}');
  const history = await cli('channel', 'history', ...app(), 'kept-news');
  assert.match(history, /greeting +\{"text":"hello"\}/);
  await assert.rejects(cli('channel', 'history', ...app(), 'news'), /keeps no history/);
  const list = await cli('channel', 'list', ...app());
  assert.match(list, /kept-news +1/);
});

test('why a client has not got an event is told in words', async () => {
  const { items } = await json('connection', 'list', ...app());
  const [{ socket_id: id }] = items;
  const of = (channel, ...words) => json('channel', 'explain', ...app(), channel, '--socket-id', id, '--since', since, ...words);
  assert.equal((await of('kept-news', '--event', 'other')).verdict, 'no_such_event');
  assert.equal((await of('cache-last')).verdict, 'unknown');
  assert.equal((await of('elsewhere')).verdict, 'not_subscribed');
  const words = await cli('channel', 'explain', ...app(), 'elsewhere', '--socket-id', id);
  assert.match(words, new RegExp(`^this client is connected \\(${id}\\) and isn't subscribed to "elsewhere"`));
  await assert.rejects(cli('channel', 'explain', ...app(), 'news'), /--user/);
});

test('the only node is listed and not drained', async () => {
  const { nodes } = await json('node', 'list');
  assert.equal(nodes.length, 1);
  assert.equal(nodes[0].state, 'ready');
  await assert.rejects(cli('node', 'drain', nodes[0].name), /no other node is ready/);
  await assert.rejects(cli('node', 'drain', 'elsewhere'), /there is no node "elsewhere"/);
  assert.match(await cli('node', 'list'), /ready/);
});

test('what events say is for admins', async () => {
  const made = await server.cli('token', 'create', '--name', 'viewer', '--role', 'viewer', '--json');
  const headers = { authorization: `Bearer ${JSON.parse(made).secret}` };
  const get = async (path) => (await fetch(`${server.url}/api/v1/apps/${server.app.id}/channels/${path}`, { headers })).json();
  const page = await get('kept-news/history');
  assert.equal(page.items[0].data, null);
  assert.equal(page.items[0].data_bytes, '{"text":"hello"}'.length);
  assert.match(page.data_hidden_because, /needs the role admin, and yours is viewer/);
  const { cache } = await get('cache-last');
  assert.deepEqual([cache.event, cache.data], ['greeting', null]);
});

test('a connection is closed for good', async () => {
  const { items } = await json('connection', 'list', ...app());
  const code = nextErrorCode(ada);
  await cli('connection', 'close', ...app(), items[0].socket_id);
  assert.equal(await code, 4009);
});
