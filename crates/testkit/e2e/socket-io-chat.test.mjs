// The chat page that introductions to Socket.IO begin with, in a browser against the demo app, beside pages of every other kind.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, test } from 'node:test';
import Pusher from 'pusher';
import { startBrowser } from './browser.mjs';
import { eventually, startHttp, startServer } from './harness.mjs';

const EVENTS = 50;

const server = await startServer({ app: false, env: { FANFARE_DEMO: 'true' } });
after(() => server.stop());
// The welcome names the app, soon after the server is ready.
const [id, key, secret] = await eventually(() => ['app id', 'key', 'secret'].map((name) => new RegExp(`^ +${name} +(\\w+)$`, 'm').exec(server.log)[1]));
const sdk = new Pusher({ appId: id, key, secret, host: '127.0.0.1', port: server.port, useTLS: false });

const HEAD = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">';
const LIST = `<ul id="messages"></ul><script>
  const show = (text) => messages.appendChild(document.createElement('li')).append(text);
</script>`;

const PAGES = {
  '/chat': `${HEAD}<title>Chat</title>
    <ul id="messages"></ul>
    <form id="form" action=""><input id="input" autocomplete="off"><button>Send</button></form>
    <script src="/socket.io/socket.io.js"></script>
    <script>
      const socket = io('${server.url}');
      const form = document.getElementById('form');
      const input = document.getElementById('input');
      form.addEventListener('submit', (event) => {
        event.preventDefault();
        if (input.value) {
          socket.emit('chat message', input.value);
          input.value = '';
        }
      });
      socket.on('chat message', (message) => {
        const item = document.createElement('li');
        item.textContent = message;
        document.getElementById('messages').appendChild(item);
        window.scrollTo(0, document.body.scrollHeight);
      });
    </script>`,
  '/event-source': `${HEAD}${LIST}<script>
    const source = new EventSource('${server.url}/sse/${key}?channels=demo-chat');
    for (const name of ['chat message', 'client-chat message']) source.addEventListener(name, ({ data }) => show(data));
  </script>`,
  '/websocket': `${HEAD}${LIST}<script>
    const socket = new WebSocket('${server.url.replace('http', 'ws')}/ws/${key}?channels=demo-chat');
    socket.onmessage = ({ data }) => {
      const { event, data: text } = JSON.parse(data);
      if (event.endsWith('chat message')) show(text);
    };
  </script>`,
  '/pusher': `${HEAD}${LIST}<script src="/pusher.js"></script><script>
    const options = { cluster: 'x', wsHost: '127.0.0.1', wsPort: ${server.port}, forceTLS: false, enabledTransports: ['ws'] };
    const channel = new Pusher('${key}', options).subscribe('demo-chat');
    for (const name of ['chat message', 'client-chat message']) channel.bind(name, show);
  </script>`,
};
const SCRIPTS = {
  '/socket.io/socket.io.js': 'socket.io-client/dist/socket.io.min.js',
  '/pusher.js': 'pusher-js/dist/web/pusher.js',
};

async function startPages() {
  return startHttp(async (request, response) => {
    const script = SCRIPTS[request.url];
    const body = script ? await readFile(new URL(`./node_modules/${script}`, import.meta.url)) : PAGES[request.url];
    response.writeHead(body ? 200 : 404, { 'content-type': script ? 'text/javascript' : 'text/html; charset=utf-8' }).end(body);
  });
}

test('the chat of the introductions works, and every kind of page sees the events of a backend in one order', async (t) => {
  const site = await startPages();
  t.after(() => site.stop());
  const browser = await startBrowser();
  t.after(() => browser.stop());
  const paths = ['/chat', '/chat', '/event-source', '/websocket', '/pusher'];
  const tabs = [];
  for (const path of paths) tabs.push(await browser.open(site.url + path));
  const lines = (tab) => tab.locator('#messages li').allTextContents();
  const arrives = (text) =>
    eventually(async () => {
      const all = await Promise.all(tabs.map(lines));
      all.forEach((seen, index) => assert.ok(seen.includes(text), `${paths[index]} has ${JSON.stringify(seen)}; ${browser.errors}`));
    });
  const say = async (tab, text) => {
    await tab.locator('#input').fill(text);
    await tab.getByRole('button', { name: 'Send' }).click();
  };
  const info = async () => (await (await sdk.get({ path: '/channels/demo-chat', params: { info: 'subscription_count' } })).json()).subscription_count;
  for (const end = Date.now() + 20_000; (await info()) !== tabs.length; ) assert.ok(Date.now() < end, `${await info()} subscribers`);

  await say(tabs[0], 'Grüezi 🎉 <b>you</b>');
  await arrives('Grüezi 🎉 <b>you</b>');
  await say(tabs[1], 'And you');
  await arrives('And you');
  await tabs[4].evaluate(() => globalThis.eval('channel').trigger('client-chat message', 'from pusher-js'));
  // pusher-js shows nothing of what it sends itself.
  await tabs[4].evaluate(() => globalThis.eval('show')('from pusher-js'));
  await arrives('from pusher-js');
  // Quickly, and not one after the other.
  await Promise.all(Array.from({ length: EVENTS }, (_, n) => sdk.trigger('demo-chat', 'chat message', `news ${n}`)));
  await sdk.trigger('demo-chat', 'chat message', 'the last');
  await arrives('the last');
  const [first, ...others] = await Promise.all(tabs.map(lines));
  assert.deepEqual(first.slice(0, 3), ['Grüezi 🎉 <b>you</b>', 'And you', 'from pusher-js']);
  assert.deepEqual(new Set(first.slice(3)), new Set([...Array.from({ length: EVENTS }, (_, n) => `news ${n}`), 'the last']));
  assert.equal(first.length, EVENTS + 4);
  others.forEach((seen, index) => assert.deepEqual(seen, first, paths[index + 1]));
  const transports = await Promise.all(tabs.slice(0, 2).map((tab) => tab.evaluate(() => globalThis.eval('socket').io.engine.transport.name)));
  assert.deepEqual(transports, ['websocket', 'websocket']);
  browser.assertQuiet();
});

for (const [what, given] of [
  ['headers', { extraHeaders: { 'x-trace': '1' } }],
  ['an Authorization header', { extraHeaders: { authorization: 'Bearer x' } }],
  ['cookies, for a balancer', { withCredentials: true }],
]) {
  test(`a page of another origin may send ${what}`, async (t) => {
    const site = await startPages();
    t.after(() => site.stop());
    const browser = await startBrowser();
    t.after(() => browser.stop());
    const page = await browser.open(`${site.url}/chat`);
    const result = await page.evaluate(
      ([url, options]) =>
        new Promise((resolve) => {
          const other = globalThis.io(url, { ...options, forceNew: true, reconnection: false, transports: ['polling'] });
          other.on('connect', () => resolve('connected'));
          other.on('connect_error', ({ message, description }) => resolve(`${message} ${description}`));
        }),
      [server.url, given],
    );
    assert.equal(result, 'connected');
    browser.assertQuiet();
  });
}
