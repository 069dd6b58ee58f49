// A client of plain WebSockets that speaks in objects, byte by byte.
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { frame, split } from './frames.mjs';

const TIMEOUT = 10_000;

export const upgrade = (path, headers = []) =>
  [
    `GET ${path} HTTP/1.1`,
    'Host: x',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
    ...headers,
    '\r\n',
  ].join('\r\n');

/** A client that speaks in objects and keeps what it gets. */
export class PlainClient {
  seen = [];
  #waiting = new Set();
  #bytes = Buffer.alloc(0);

  constructor(port, path, headers) {
    this.socket = connect(port, '127.0.0.1');
    this.socket.write(upgrade(path, headers));
    this.closed = new Promise((resolve, reject) => {
      this.socket.on('data', (data) => this.#read(Buffer.concat([this.#bytes, data]), resolve)).on('error', reject);
    });
    this.closed.catch(() => {});
  }

  #read(bytes, closed) {
    if (!this.upgraded) {
      const end = bytes.indexOf('\r\n\r\n');
      this.#bytes = bytes;
      if (end < 0) return;
      this.upgraded = true;
      bytes = bytes.subarray(end + 4);
    }
    for (let found; (found = split(bytes)); bytes = found.rest) {
      const opcode = bytes[0] & 15;
      if (opcode === 1) this.seen.push(JSON.parse(found.text));
      if (opcode === 8) closed({ code: bytes.readUInt16BE(2), reason: bytes.toString('utf8', 4, 2 + bytes[1]) });
    }
    this.#bytes = Buffer.from(bytes);
    for (const look of this.#waiting) look();
  }

  send(message) {
    this.socket.write(frame(0x81, Buffer.from(JSON.stringify(message))));
  }

  close() {
    this.socket.destroy();
  }

  /** The first message for which `is` holds, now or later. */
  got(is) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`not among ${JSON.stringify(this.seen)}`)), TIMEOUT);
      const look = () => {
        const found = this.seen.find(is);
        if (!found) return;
        clearTimeout(late);
        this.#waiting.delete(look);
        resolve(found);
      };
      this.#waiting.add(look);
      look();
    });
  }

  events() {
    return this.seen.filter(({ event }) => !event.startsWith('pusher:'));
  }
}
