// A plain WebSocket of docs/any-client.md through a library of Node, whose name is in LIBRARY: the page's code, with positions.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { socket: url, library } = JSON.parse(process.env.TARGET);
const load = createRequire(join(process.env.PACKAGES ?? process.cwd(), 'package.json'));
const WebSocket = {
  ws: () => load('ws'),
  'isomorphic-ws': () => load('isomorphic-ws'),
  websocket: () => load('websocket').w3cwebsocket,
  undici: () => load('undici').WebSocket,
  'faye-websocket': () => load('faye-websocket').Client,
  'node': () => globalThis.WebSocket,
}[library]();

let position;
function connect() {
  const socket = new WebSocket(url);
  socket.onopen = () => {
    const recover = position ? { position } : true;
    socket.send(JSON.stringify({ type: 'subscribe', channel: 'kept-news', recover }));
  };
  socket.onmessage = ({ data }) => {
    console.log(String(data));
    const message = JSON.parse(data);
    if (message.channel !== 'kept-news') return;
    if (message.event === 'pusher:subscription_succeeded' && !message.data.recovered) position = message.data.position;
    if (message.position) position = message.position;
  };
  socket.onerror = (error) => console.log('error', error.message);
  socket.onclose = ({ code, reason }) => {
    console.log('closed', code, String(reason));
    setTimeout(connect, 1000);
  };
}
connect();
