// A page in Chromium that uses what TARGET names: pusher-js, pusher-js in a worker, the browser's own WebSocket, or its EventSource.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startBrowser } from '../../e2e/browser.mjs';
import { startHttp } from '../../e2e/harness.mjs';

const target = JSON.parse(process.env.TARGET);
const { library } = target;

function pusherJs(Pusher, { host, port, key, channels, auth }, print) {
  const options = { cluster: 'x', wsHost: host, wsPort: port, httpHost: host, httpPort: port, forceTLS: false };
  const pusher = new Pusher(key, { ...options, channelAuthorization: { endpoint: auth } });
  for (const name of channels) {
    const channel = pusher.subscribe(name);
    channel.bind('pusher:subscription_succeeded', () => print({ event: 'pusher:subscription_succeeded', channel: name }));
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
const site = await startHttp(async (request, response) => {
  if (request.url === '/auth') {
    const upstream = await fetch(target.auth, { method: 'POST', body: request, duplex: 'half' });
    return response.writeHead(upstream.status, { 'content-type': 'application/json' }).end(await upstream.text());
  }
  const script = files[request.url];
  response.writeHead(200, { 'content-type': script ? 'text/javascript' : 'text/html' });
  response.end(script || `<!doctype html><title>Test</title>${files ? '<script src="/pusher.js"></script>' : ''}`);
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
  const call = { 'pusher-js': `(${pusherJs})(Pusher, ${given}, print)`, WebSocket: `(${webSocket})(${given}, print)`, EventSource: `(${eventSource})(${given}, print)` };
  await page.evaluate(call[library]);
}
