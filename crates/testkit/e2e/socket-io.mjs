// Socket.IO for tests: the unmodified client, and Engine.IO by hand for what that client would not send.
import { connect } from 'node:net';
import { io } from 'socket.io-client';
import { frame, split } from './frames.mjs';
import { heard, inTime } from './harness.mjs';

const TIMEOUT = 10_000;
const PATH = '/socket.io/?EIO=4';

/** A client of the server with a connection of its own, which ends with the test. Its namespace is the app unless it is said. */
export function socketClient(t, server, { key = server.app.key, namespace = `/${key}`, port = server.port, ...options } = {}) {
  const socket = io(`http://127.0.0.1:${port}${namespace}`, { forceNew: true, ...options });
  t.after(() => socket.disconnect());
  return socket;
}

/** The next `event` of a socket: all the arguments of the listener. */
export function nextEvent(socket, event) {
  return heard(event, (resolve) => socket.once(event, (...all) => resolve(all)));
}

/** The next `event` whose metadata name the channel. */
export function nextEventOn(socket, event, channel) {
  return heard(`${event} on ${channel}`, (resolve) => socket.on(event, (...all) => all[1]?.channel === channel && resolve(all)));
}

/** Waits until the socket is connected; the result is the socket. A refusal is an error. */
export async function socketConnected(socket) {
  if (!socket.connected) {
    const refused = nextEvent(socket, 'connect_error').then(([error]) => Promise.reject(error));
    await Promise.race([nextEvent(socket, 'connect'), refused]);
  }
  return socket;
}

/** Emits and waits for what the server acknowledges. */
export function ask(socket, ...all) {
  return socket.timeout(TIMEOUT).emitWithAck(...all);
}

/** Joins a channel. A refusal is an error. */
export async function join(socket, channel, ...authorization) {
  const answer = await ask(socket, 'join', channel, ...authorization);
  if (!answer.ok) throw new Error(`join of ${channel} refused: ${JSON.stringify(answer)}`);
  return answer;
}

/** Everything from now on, as lists of arguments, but for what the protocol itself says. */
export function recordSocket(socket) {
  const seen = [];
  socket.onAny((event, ...all) => event.startsWith('pusher:') || seen.push([event, ...all]));
  return seen;
}

/** A session of HTTP long-polling by hand. */
export class Polling {
  static async open(server) {
    const { text } = await request(server, '&transport=polling');
    return new Polling(server, JSON.parse(text.slice(1)));
  }

  constructor(server, handshake) {
    Object.assign(this, { server, handshake, sid: handshake.sid });
  }

  poll(headers) {
    return request(this.server, `&transport=polling&sid=${this.sid}`, { headers });
  }

  post(body, headers) {
    return request(this.server, `&transport=polling&sid=${this.sid}`, { method: 'POST', body, headers });
  }

  /** Polls until the server knows nothing of the session, at most for as long as it has last words. Returns what those were. */
  async lastWords() {
    const words = [];
    for (;;) {
      const { status, text } = await this.poll();
      if (status === 400) return words.join('\x1e');
      words.push(text);
      if (words.length > 3) throw new Error(`the session goes on: ${JSON.stringify(words)}`);
    }
  }

  /** The packets of the next poll that has some which are not about the connection itself. */
  async packets() {
    for (;;) {
      const { status, text } = await this.poll();
      if (status !== 200) throw new Error(`${status} ${text}`);
      const packets = text.split('\x1e');
      if (packets.includes('2')) await this.post('3');
      const messages = packets.filter((packet) => packet[0] === '4');
      if (messages.length > 0) return messages;
    }
  }
}

/** A request to the server's Socket.IO path. `query` follows the version. */
export async function request(server, query, { path = PATH, ...options } = {}) {
  const response = await fetch(`${server.url}${path}${query}`, { ...options, signal: AbortSignal.timeout(60_000) });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** A WebSocket by hand that keeps what it gets. It answers heartbeats unless it is told not to. */
export class RawSocket {
  seen = [];
  heartbeats = 0;
  #bytes = Buffer.alloc(0);
  #waiting = new Set();
  #closed;

  constructor(t, server, { query = '&transport=websocket', answersHeartbeats = true } = {}) {
    this.answersHeartbeats = answersHeartbeats;
    this.socket = connect(server.port, '127.0.0.1').on('error', () => {});
    t.after(() => this.socket.destroy());
    this.socket.write(
      `GET ${PATH}${query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    );
    this.socket.on('data', (data) => this.#read(Buffer.concat([this.#bytes, data])));
    this.#closed = new Promise((resolve) => this.socket.once('close', resolve));
  }

  /** One that has connected to the app. `data` is what its CONNECT says. */
  static async connected(t, server, { data, ...options } = {}) {
    const raw = new RawSocket(t, server, options);
    await raw.got((packet) => packet[0] === '0');
    const namespace = `/${server.app.key},`;
    raw.send(`40${namespace}${data ? JSON.stringify(data) : ''}`);
    const answer = await raw.got((packet) => packet.startsWith(`40${namespace}`));
    return Object.assign(raw, { namespace, answer: JSON.parse(answer.slice(2 + namespace.length)) });
  }

  #read(bytes) {
    if (!this.head) {
      const end = bytes.indexOf('\r\n\r\n');
      this.#bytes = bytes;
      if (end < 0) return;
      this.head = bytes.toString('latin1', 0, end);
      bytes = bytes.subarray(end + 4);
    }
    for (let found; (found = split(bytes)); bytes = found.rest) {
      if ((bytes[0] & 15) === 8) {
        if (bytes[1] >= 2) this.code = bytes.readUInt16BE(2);
        this.socket.end();
      }
      if ((bytes[0] & 15) !== 1) continue;
      if (found.text === '2') {
        this.heartbeats += 1;
        if (this.answersHeartbeats) this.send('3');
      } else {
        this.seen.push(found.text);
      }
    }
    this.#bytes = Buffer.from(bytes);
    for (const look of this.#waiting) look();
  }

  /** Waits until the server has closed it. */
  closed(what = 'the server closes the connection', limit = TIMEOUT) {
    return inTime(what, limit, this.#closed);
  }

  send(text) {
    if (this.socket.writable) this.socket.write(frame(0x81, Buffer.from(text)));
  }

  /** Emits an event in the namespace of the app. */
  emit(...all) {
    this.send(`42${this.namespace}${JSON.stringify(all)}`);
  }

  /** The events of the namespace, without the protocol's own. */
  get events() {
    const head = `42${this.namespace}`;
    const all = this.seen.filter((packet) => packet.startsWith(head)).map((packet) => JSON.parse(packet.slice(head.length)));
    return all.filter(([event]) => !event.startsWith('pusher:'));
  }

  /** The first packet for which `is` holds, now or later. */
  got(is) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`not among ${JSON.stringify(this.seen)}, ${this.head}`)), TIMEOUT);
      const look = () => {
        const found = this.seen.find(is);
        if (found === undefined) return;
        clearTimeout(late);
        this.#waiting.delete(look);
        resolve(found);
      };
      this.#waiting.add(look);
      look();
    });
  }
}
