// A page in Chromium that uses what TARGET names: pusher-js, pusher-js in a worker, @fanfare/client, the browser's own WebSocket, or its
// EventSource. On its standard input it takes commands, and it prints "done: COMMAND" after each: `freeze` and `resume` the page, take
// the browser's network away and give it back (`offline`, `online`), stop the whole browser and let it go on (`sleep`, `wake`).
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { startBrowser } from '../../e2e/browser.mjs';
import { startHttp } from '../../e2e/harness.mjs';

const target = JSON.parse(process.env.TARGET);
const { library } = target;

async function pusherJs(Pusher, { host, port, key, channels, auth, recover }, print) {
  const options = { cluster: 'x', wsHost: host, wsPort: port, httpHost: host, httpPort: port, forceTLS: false };
  const pusher = new Pusher(key, { ...options, channelAuthorization: { endpoint: auth } });
  if (recover) (await import('/es/recover.js')).recover(pusher);
  for (const name of channels) {
    const channel = pusher.subscribe(name);
    channel.bind('pusher:subscription_succeeded', () => print({ event: 'pusher:subscription_succeeded', channel: name }));
    channel.bind('tick', (data) => print({ event: 'tick', channel: name, data }));
  }
}

function fanfare({ url, key, channels, auth }, print) {
  const client = new globalThis.Fanfare(key, { url, auth: { endpoint: auth } });
  for (const name of channels) {
    const channel = client.channel(name);
    channel.on('subscribed', () => print({ event: 'pusher:subscription_succeeded', channel: name }));
    channel.bind('tick', (data) => print({ event: 'tick', channel: name, data }));
  }
}

function webSocket({ socket: url }, print) {
  let position;
  const connect = () => {
    const socket = new WebSocket(url);
    socket.onopen = () => socket.send(JSON.stringify({ type: 'subscribe', channel: 'kept-news', recover: position ? { position } : true }));
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      print(message);
      if (message.channel !== 'kept-news') return;
      if (message.event === 'pusher:subscription_succeeded' && !message.data.recovered) position = message.data.position;
      position = message.position ?? position;
    };
    socket.onclose = () => setTimeout(connect, 1000);
  };
  connect();
}

function eventSource({ stream }, print) {
  const source = new EventSource(stream);
  source.onmessage = ({ data }) => print(JSON.parse(data));
  source.addEventListener('pusher:subscription_succeeded', source.onmessage);
}

const bundle = (name) => readFile(join(process.env.PACKAGES, 'node_modules/pusher-js/dist', name));
const files = library.startsWith('pusher-js') && { '/pusher.js': await bundle('web/pusher.js'), '/worker.js': await bundle('worker/pusher.worker.js') };
const scripts = { 'pusher-js': '/pusher.js', '@fanfare/client': `${target.url}/sdk/fanfare.js` };
const site = await startHttp(async (request, response) => {
  if (request.url === '/auth') {
    const upstream = await fetch(target.auth, { method: 'POST', body: request, duplex: 'half' });
    return response.writeHead(upstream.status, { 'content-type': 'application/json' }).end(await upstream.text());
  }
  const module = request.url.startsWith('/es/') && target.recover && (await readFile(new URL(`.${request.url.slice(3)}`, target.recover)));
  const script = module || files[request.url];
  response.writeHead(200, { 'content-type': script ? 'text/javascript' : 'text/html' });
  response.end(script || `<!doctype html><title>Test</title>${scripts[library] ? `<script src="${scripts[library]}"></script>` : ''}`);
});
const browser = await startBrowser();
process.on('SIGTERM', () => browser.stop().finally(() => process.exit()));
const page = await browser.open(site.url);
await page.exposeFunction('print', (message) => console.log(JSON.stringify(message)));
const given = JSON.stringify({ ...target, auth: `${site.url}/auth` });
if (library === 'pusher-js in a worker') {
  const code = `importScripts('${site.url}/worker.js'); (${pusherJs})(Pusher, ${given}, postMessage)`;
  await page.evaluate((code) => {
    const worker = new Worker(URL.createObjectURL(new Blob([code])));
    worker.onmessage = ({ data }) => globalThis.print(data);
    worker.onerror = ({ message }) => globalThis.print({ event: 'error', data: message });
    globalThis.worker = worker;
  }, code);
} else {
  const call = {
    'pusher-js': `(${pusherJs})(Pusher, ${given}, print)`,
    '@fanfare/client': `(${fanfare})(${given}, print)`,
    WebSocket: `(${webSocket})(${given}, print)`,
    EventSource: `(${eventSource})(${given}, print)`,
  };
  await page.evaluate(call[library]);
}

const devtools = await page.context().newCDPSession(page);
const network = (offline) =>
  devtools.send('Network.emulateNetworkConditions', { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
const commands = {
  freeze: () => devtools.send('Page.setWebLifecycleState', { state: 'frozen' }),
  resume: () => devtools.send('Page.setWebLifecycleState', { state: 'active' }),
  offline: () => network(true),
  online: () => network(false),
  sleep: () => browser.signal('SIGSTOP'),
  wake: () => browser.signal('SIGCONT'),
};
for await (const command of createInterface({ input: process.stdin })) {
  await commands[command]();
  console.log(`done: ${command}`);
}
