// A plain WebSocket of docs/any-client.md through a library of JavaScript, which TARGET names: the page's code, with positions.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { socket: url, library } = JSON.parse(process.env.TARGET);
const load = createRequire(join(process.env.PACKAGES ?? process.cwd(), 'package.json'));

/** Libraries with the interface of a browser's WebSocket, and those that come back by themselves. */
const LIKE_BROWSERS = {
  ws: () => load('ws'),
  'isomorphic-ws': () => load('isomorphic-ws'),
  isows: () => load('isows').WebSocket,
  websocket: () => load('websocket').w3cwebsocket,
  undici: () => load('undici').WebSocket,
  'faye-websocket': () => load('faye-websocket').Client,
  runtime: () => globalThis.WebSocket,
};
const RETURNING = {
  'reconnecting-websocket': () => new (load('reconnecting-websocket'))(url, [], { WebSocket: load('ws') }),
  partysocket: () => new (load('partysocket/ws').default)(url, [], { WebSocket: load('ws') }),
  'robust-websocket': () => {
    Object.assign(globalThis, { WebSocket: load('ws'), window: globalThis, addEventListener() {}, removeEventListener() {} });
    return new (load('robust-websocket'))(url);
  },
};
const OTHERS = {
  'nodejs-websocket'() {
    const socket = load('nodejs-websocket').connect(url, () => socket.sendText(opened()));
    socket.on('text', got).on('close', closed).on('error', failed);
  },
  'simple-websocket'() {
    const socket = new (load('simple-websocket'))(url);
    socket.on('connect', () => socket.send(opened())).on('data', (data) => got(String(data))).on('close', closed).on('error', failed);
  },
  'websocket-as-promised'() {
    const WebSocketAsPromised = load('websocket-as-promised');
    const socket = new WebSocketAsPromised(url, {
      createWebSocket: (url) => new (load('ws'))(url),
      extractMessageData: (event) => event.data ?? event,
    });
    socket.onMessage.addListener((data) => got(String(data)));
    socket.onClose.addListener(({ code, reason }) => closed(code, reason));
    socket.open().then(() => socket.send(opened()), failed);
  },
  rxjs() {
    const { webSocket } = load('rxjs/webSocket');
    const subject = webSocket({ url, WebSocketCtor: load('ws'), openObserver: { next: () => subject.next(JSON.parse(opened())) } });
    subject.subscribe({ next: (message) => got(JSON.stringify(message)), error: closed, complete: closed });
  },
};

let position;
function opened() {
  return JSON.stringify({ type: 'subscribe', channel: 'kept-news', recover: position ? { position } : true });
}

function got(text) {
  console.log(text);
  const message = JSON.parse(text);
  if (message.channel !== 'kept-news') return;
  if (message.event === 'pusher:subscription_succeeded' && !message.data.recovered) position = message.data.position;
  if (message.position) position = message.position;
}

function failed(error) {
  console.log('error', error?.message);
}

function closed(code, reason) {
  console.log('closed', code?.code ?? code, String(reason));
  setTimeout(connect, 1000);
}

function connect() {
  if (OTHERS[library]) return OTHERS[library]();
  const socket = RETURNING[library]?.() ?? new (LIKE_BROWSERS[library]())(url);
  socket.onopen = () => socket.send(opened());
  socket.onmessage = ({ data }) => got(String(data));
  socket.onerror = failed;
  socket.onclose = ({ code, reason }) => (RETURNING[library] ? console.log('closed', code) : closed(code, reason));
}
connect();
