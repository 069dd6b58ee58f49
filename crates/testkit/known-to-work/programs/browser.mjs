// A page that uses what TARGET names: pusher-js, pusher-js in a worker, @fanfare/client, the browser's own WebSocket, or its
// EventSource; in Chromium, or in the browser that TARGET names. On its standard input it takes commands, and it prints "done: COMMAND"
// after each: `freeze` and `resume` the page, take the browser's network away and give it back (`offline`, `online`), stop the whole
// browser and let it go on (`sleep`, `wake`).
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { startHttp } from '../../e2e/harness.mjs';

const target = JSON.parse(process.env.TARGET);
const { library, browser = 'chromium' } = target;

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

function inWorker(code) {
  const worker = new Worker(URL.createObjectURL(new Blob([code])));
  worker.onmessage = ({ data }) => globalThis.print(data);
  worker.onerror = ({ message }) => globalThis.print({ event: 'error', data: message });
  globalThis.worker = worker;
}

/** Messages go to the site in their order, all that wait at once, and again if no answer came. */
function definePrint() {
  const waiting = [];
  let count = 0;
  let sending = false;
  const send = (url, body) => fetch(url, { method: 'POST', body }).catch(() => later().then(() => send(url, body)));
  const later = () => new Promise((resolve) => setTimeout(resolve, 200));
  const sendAll = async () => {
    while (waiting.length > 0) await send(`/print?${(count += 1)}`, waiting.splice(0).join('\n'));
    sending = false;
  };
  globalThis.print = (message) => {
    waiting.push(JSON.stringify(message));
    if (!sending) sendAll();
    sending = true;
  };
}

const bundle = (name) => readFile(join(process.env.PACKAGES, 'node_modules/pusher-js/dist', name));
const files = library.startsWith('pusher-js') && { '/pusher.js': await bundle('web/pusher.js'), '/worker.js': await bundle('worker/pusher.worker.js') };
const scripts = { 'pusher-js': '/pusher.js', '@fanfare/client': `${target.url}/sdk/fanfare.js` };
let printed = 0;
const site = await startHttp(async (request, response) => {
  if (request.url.startsWith('/print?')) {
    const count = Number(request.url.slice(7));
    const lines = await text(request);
    if (count > printed) console.log(lines);
    printed = Math.max(printed, count);
    return response.end();
  }
  if (request.url === '/auth') {
    const upstream = await fetch(target.auth, { method: 'POST', body: request, duplex: 'half' });
    return response.writeHead(upstream.status, { 'content-type': 'application/json' }).end(await upstream.text());
  }
  const module = request.url.startsWith('/es/') && target.recover && (await readFile(new URL(`.${request.url.slice(3)}`, target.recover)));
  const script = module || files[request.url];
  response.writeHead(200, { 'content-type': script ? 'text/javascript' : 'text/html' });
  response.end(script || `<!doctype html><title>Test</title>${scripts[library] ? `<script src="${scripts[library]}"></script>` : ''}`);
});
const { openPage } = await import(`./pages-in-${browser}.mjs`);
const { evaluate, commands, stop } = await openPage(site.url);
process.on('SIGTERM', () => Promise.race([stop(), delay(5000)]).finally(() => process.exit()));
await evaluate(`(${definePrint})()`);
const given = JSON.stringify({ ...target, auth: `${site.url}/auth` });
const starts = {
  'pusher-js': `(${pusherJs})(Pusher, ${given}, print)`,
  'pusher-js in a worker': `(${inWorker})(${JSON.stringify(`importScripts('${site.url}/worker.js'); (${pusherJs})(Pusher, ${given}, postMessage)`)})`,
  '@fanfare/client': `(${fanfare})(${given}, print)`,
  WebSocket: `(${webSocket})(${given}, print)`,
  EventSource: `(${eventSource})(${given}, print)`,
};
await evaluate(starts[library]);
for await (const command of createInterface({ input: process.stdin })) {
  await commands[command]();
  console.log(`done: ${command}`);
}
